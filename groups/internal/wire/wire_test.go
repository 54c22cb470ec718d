package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func drawGenesis(t *rapid.T) (g Genesis) {
	copy(g[:], rapid.SliceOfN(rapid.Byte(), len(g), len(g)).Draw(t, "genesis"))
	return g
}

func drawPeer(t *rapid.T) (p id.PeerID) {
	copy(p[:], rapid.SliceOfN(rapid.Byte(), len(p), len(p)).Draw(t, "peer"))
	return p
}

func drawItems(t *rapid.T) (items []Item) {
	for range rapid.IntRange(0, 4).Draw(t, "items") {
		items = append(items, Item{
			Count:   rapid.Uint32Range(1, math.MaxUint32).Draw(t, "count"),
			Payload: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "payload"),
		})
	}
	return items
}

// drawRaft draws a message of the library as it would make one: fields that it leaves out are zero.
func drawRaft(t *rapid.T) *raftpb.Message {
	var types []raftpb.MessageType
	for v := range raftpb.MessageType_name {
		if x := raftpb.MessageType(v); Exchanged(x) && x != raftpb.MsgSnap {
			types = append(types, x)
		}
	}
	number := rapid.Uint64()
	m := &raftpb.Message{
		Type: rapid.SampledFrom(types).Draw(t, "type").Enum(), To: new(number.Draw(t, "to")), From: new(number.Draw(t, "from")),
		Term: new(number.Draw(t, "term")), LogTerm: new(number.Draw(t, "logterm")),
		Index: new(rapid.Uint64Range(0, math.MaxUint64-10).Draw(t, "index")), Commit: new(number.Draw(t, "commit")),
	}
	if rapid.Bool().Draw(t, "reject") {
		m.Reject, m.RejectHint = new(true), new(number.Draw(t, "hint"))
	}
	if rapid.Bool().Draw(t, "has context") {
		m.Context = rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "context")
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "entries") {
		m.Entries = append(m.Entries, &raftpb.Entry{
			Type: rapid.SampledFrom([]raftpb.EntryType{raftpb.EntryNormal, raftpb.EntryConfChangeV2}).Draw(t, "entry").Enum(),
			Term: new(number.Draw(t, "entry term")), Index: new(m.GetIndex() + 1 + uint64(i)),
			Data: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data"),
		})
	}
	return m
}

// drawMessage draws a message of those that every member sends.
func drawMessage(t *rapid.T) Message {
	g, number := drawGenesis(t), rapid.Uint64()
	n := func(what string) uint64 { return number.Draw(t, what) }
	yes := func(what string) bool { return rapid.Bool().Draw(t, what) }
	preference := rapid.Uint8Range(0, PreferenceMost).Draw(t, "preference")
	switch rapid.IntRange(0, 14).Draw(t, "kind") {
	case 0:
		return &Hello{Seq: n("seq"), Heard: n("heard"), Ask: yes("ask"), Genesis: g, Nonce: n("nonce"), Member: n("member"), Preference: preference,
			Leaving: yes("leaving"), Joining: yes("joining"), Leader: drawPeer(t), Commands: n("commands"), Forced: n("forced"), Cut: n("cut"), Frozen: yes("frozen"),
			Committed: n("committed"), CommittedTerm: n("its term")}
	case 1:
		return &Join{Genesis: g, Member: n("member"), Nonce: n("nonce"), Preference: preference, Durable: yes("durable")}
	case 2:
		return &Removed{Genesis: g, Member: n("member")}
	case 3:
		return &Leave{Genesis: g, Member: n("member")}
	case 4:
		return &Left{Genesis: g, Member: n("member")}
	case 5:
		return &Forward{Genesis: g, Member: n("member"), Session: n("session"), First: n("first"), Ack: yes("ack"), Items: drawItems(t)}
	case 6:
		return &Ack{Genesis: g, First: n("first"), Calls: n("calls"), Index: n("index")}
	case 7:
		return &Expect{Genesis: g, Next: n("next")}
	case 8:
		return &Read{Genesis: g, ID: n("id")}
	case 9:
		return &ReadIndex{Genesis: g, ID: n("id"), Index: n("index")}
	case 10:
		return &Pulse{Member: n("member"), Term: n("term")}
	case 11:
		return &Pulsed{Term: n("term")}
	case 12:
		return &Trouble{Text: string(rapid.SliceOfN(rapid.Byte(), 0, TroubleMost).Draw(t, "text"))}
	default:
		return &Raft{Genesis: g, Msg: drawRaft(t)}
	}
}

func same(a, b Message) bool {
	x, isRaft := a.(*Raft)
	y, too := b.(*Raft)
	if isRaft && too {
		return x.Genesis == y.Genesis && proto.Equal(x.Msg, y.Msg)
	}
	return reflect.DeepEqual(a, b)
}

// Every message comes back as it was, keeps nothing of the bytes it came from, and its bytes are no message when they are
// cut anywhere or followed by more.
func TestMessages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		b := Append([]byte("before"), m)[len("before"):]
		src := bytes.Clone(b)
		got, err := Decode(src)
		clear(src)
		if err != nil || !same(got, m) {
			t.Fatalf("%+v, %v, want %+v", got, err, m)
		}
		if again := Append(nil, got); !bytes.Equal(again, b) {
			t.Fatalf("encoded again: %x, want %x", again, b)
		}
		for n := range b {
			if _, err := Decode(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("cut to %d bytes: %v", n, err)
			}
		}
		if _, err := Decode(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("with a byte too many: %v", err)
		}
	})
}

// The bytes of messages, so that a change of the protocol is seen as one.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	g := Genesis{1, 2}
	for want, m := range map[string]Message{
		"02" + "01020000000000000000000000000000" + "07" + "ac02" + "01" + "01": &Join{Genesis: g, Member: 7, Nonce: 300, Preference: 1, Durable: true},
		"04" + "01020000000000000000000000000000" + "07":                        &Removed{Genesis: g, Member: 7},
		"05" + "01020000000000000000000000000000" + "07":                        &Leave{Genesis: g, Member: 7},
		"06" + "01020000000000000000000000000000" + "07":                        &Left{Genesis: g, Member: 7},
		"07" + "01020000000000000000000000000000" + "07" + "08" + "05" + "01" + "02" + "02026162" + "0100": &Forward{Genesis: g, Member: 7, Session: 8, First: 5, Ack: true,
			Items: []Item{{Count: 2, Payload: []byte("ab")}, {Count: 1}}},
		"15" + "02" + "6869": &Trouble{Text: "hi"},
		"08" + "01020000000000000000000000000000" + "05" + "02" + "09": &Ack{Genesis: g, First: 5, Calls: 2, Index: 9},
		"09" + "01020000000000000000000000000000" + "05":               &Expect{Genesis: g, Next: 5},
		"0a" + "01020000000000000000000000000000" + "0b":               &Read{Genesis: g, ID: 11},
		"0b" + "01020000000000000000000000000000" + "0b" + "0c":        &ReadIndex{Genesis: g, ID: 11, Index: 12},
		"0c" + "01020000000000000000000000000000" + "03" + "02" + "02" + "01" + "04" + "03" + "0a" + "09" + "01" + "00" + "04" + "026869": &Raft{Genesis: g,
			Msg: &raftpb.Message{Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(4)), LogTerm: new(uint64(3)),
				Index: new(uint64(10)), Commit: new(uint64(9)), Entries: []*raftpb.Entry{{Term: new(uint64(4)), Index: new(uint64(11)), Data: []byte("hi")}}}},
		"0c" + "01020000000000000000000000000000" + "09" + "04" + "02" + "01" + "04" + "00" + "00" + "00" + "08" + "0100000000000000": &Raft{Genesis: g,
			Msg: &raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(4)),
				Context: binary.LittleEndian.AppendUint64(nil, 1)}},
	} {
		if got := hex.EncodeToString(Append(nil, m)); got != want {
			t.Errorf("%T is\n%s, want\n%s", m, got, want)
		}
	}
}

// What no engine sends is refused.
func TestRefused(t *testing.T) {
	t.Parallel()
	g := make([]byte, 16)
	join := func(rest ...byte) []byte { return append(append([]byte{kindJoin}, g...), rest...) }
	raft := func(rest ...byte) []byte { return append(append([]byte{kindRaft}, g...), rest...) }
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	for name, b := range map[string][]byte{
		"nothing":                        {},
		"an unknown kind":                {255},
		"kind zero":                      make([]byte, 40),
		"a preference that is none":      join(1, 1, 3, 0),
		"a number longer than it needs":  join(0x81, 0x00, 1, 0, 0),
		"a number beyond 64 bits":        join(append(bytes.Repeat([]byte{0xff}, 10), 1, 1, 0, 0)...),
		"a flag that is neither":         append(append([]byte{kindForward}, g...), 1, 1, 1, 2, 0),
		"an item without commands":       append(append([]byte{kindForward}, g...), 1, 1, 1, 0, 1, 0, 0),
		"more items than bytes":          append(append(append([]byte{kindForward}, g...), 1, 1, 1, 0), huge...),
		"an item longer than it is":      append(append([]byte{kindForward}, g...), 1, 1, 1, 0, 1, 1, 9, 'x'),
		"a proposal of the library":      raft(byte(raftpb.MsgProp), 0, 1, 2, 3, 0, 0, 0),
		"a local message of the library": raft(byte(raftpb.MsgHup), 0, 1, 2, 3, 0, 0, 0),
		"a read request of the library":  raft(byte(raftpb.MsgReadIndex), 0, 1, 2, 3, 0, 0, 0),
		"flags that mean nothing":        raft(byte(raftpb.MsgApp), 0x80, 1, 2, 3, 0, 0, 0),
		"a context flag without context": raft(byte(raftpb.MsgHeartbeat), flagContext, 1, 2, 3, 0, 0, 0, 0),
		"an entry flag without entries":  raft(byte(raftpb.MsgApp), flagEntries, 1, 2, 3, 0, 0, 0, 0),
		"an entry of another type":       raft(byte(raftpb.MsgApp), flagEntries, 1, 2, 3, 0, 0, 0, 1, byte(raftpb.EntryConfChange), 1, 0),
		"entries at the end of numbers":  raft(append(append([]byte{byte(raftpb.MsgApp), flagEntries, 1, 2, 3, 0}, huge...), 0, 1, 0, 1, 0)...),
		"a trouble that is too long":     Append(nil, &Trouble{Text: string(make([]byte, TroubleMost+1))}),
		"more entries than bytes":        raft(append([]byte{byte(raftpb.MsgApp), flagEntries, 1, 2, 3, 0, 0, 0}, huge...)...),
	} {
		if m, err := Decode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// Hostile bytes cost a bounded multiple of themselves: the number of entries is limited, since each is a structure of more
// than a hundred bytes, whatever it holds.
func TestMemoryOfHostileMessages(t *testing.T) {
	t.Parallel()
	head := append(append([]byte{kindRaft}, make([]byte, 16)...), byte(raftpb.MsgApp), flagEntries, 1, 2, 3, 0, 0, 0)
	entries := func(n int) []byte {
		b := binary.AppendUvarint(bytes.Clone(head), uint64(n))
		return append(b, make([]byte, 3*n)...)
	}
	if _, err := Decode(entries(entriesMost)); err != nil {
		t.Errorf("%d entries: %v", entriesMost, err)
	}
	big := entries(2 << 20)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := Decode(big); err == nil {
				b.Fatal("too many entries are accepted")
			}
		}
	}).AllocedBytesPerOp()
	if allocated > int64(2*len(big)) {
		t.Errorf("%d bytes cost %d", len(big), allocated)
	}
}

// FuzzDecode checks that whatever is taken for a message has exactly the bytes that it came from, and that its memory is
// bounded by them.
func FuzzDecode(f *testing.F) {
	g := Genesis{1}
	for _, m := range append(rivals,
		&Join{Genesis: g, Member: 7, Nonce: 300, Preference: 1}, &Removed{Genesis: g, Member: 7}, &Leave{Genesis: g, Member: 7},
		&Left{Genesis: g, Member: 7}, &Ack{Genesis: g, First: 5, Calls: 2, Index: 9}, &Expect{Genesis: g, Next: 5}, &Read{Genesis: g, ID: 11},
		&ReadIndex{Genesis: g, ID: 11, Index: 12},
		&Raft{Genesis: g, Msg: &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), Index: new(uint64(1)), Reject: new(true), RejectHint: new(uint64(3))}},
		&Raft{Genesis: g, Msg: &raftpb.Message{Type: raftpb.MsgApp.Enum(), Entries: []*raftpb.Entry{{Index: new(uint64(1)), Data: []byte("hi")}}}},
		&Raft{Genesis: g, Msg: &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), Context: []byte("context")}},
	) {
		f.Add(Append(nil, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again := Append(nil, m); !bytes.Equal(again, b) {
			t.Fatalf("%+v came from %x and is %x", m, b, again)
		}
	})
}
