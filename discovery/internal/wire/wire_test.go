package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

var testNetwork = id.Of("wire test")

func genID(t *rapid.T, label string) id.ID {
	return id.ID(rapid.SliceOfN(rapid.Byte(), id.Size, id.Size).Draw(t, label))
}

func genEntry(t *rapid.T) *Entry {
	ids := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) id.ID { return genID(t, "id") }), 0, 4)
	start := rapid.Int64Range(0, 1<<41).Draw(t, "start")
	e := &Entry{
		Network:  testNetwork,
		Peer:     id.PeerIDOf(testKey),
		Start:    start,
		Update:   start + rapid.Int64Range(0, 1<<20).Draw(t, "update"),
		Protocol: rapid.StringMatching(`[a-z/0-9]{0,8}`).Draw(t, "protocol"),
		Addrs:    rapid.SliceOfN(rapid.StringMatching(`/ip4/[0-9.]{1,12}`), 0, 4).Draw(t, "addrs"),
		Tags:     ids.Draw(t, "tags"),
		Streams:  ids.Draw(t, "streams"),
		Groups:   ids.Draw(t, "groups"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "tickets") {
		e.Tickets = append(e.Tickets, tickets.Ticket{Class: genID(t, "class"), Data: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")})
	}
	e.Sort()
	return e
}

func genUpdate(t *rapid.T) Update {
	kind := rapid.IntRange(1, 4).Draw(t, "kind")
	e := genEntry(t)
	at := e.Update + rapid.Int64Range(0, 1000).Draw(t, "at")
	beat := &Beat{Peer: e.Peer, Start: e.Start, Content: e.Update, At: at}
	beat.Sign(testNetwork, testKey)
	depart := &Depart{Peer: e.Peer, Start: e.Start, At: at}
	depart.Sign(testNetwork, testKey)
	switch kind {
	case kindEntry:
		return Update{Entry: SignEntry(e, testKey)}
	case kindBeat:
		return Update{Beat: beat}
	case kindDepart:
		return Update{Depart: depart}
	default:
		return Update{Entry: SignEntry(e, testKey), Beat: beat}
	}
}

func genFrame(t *rapid.T) Frame {
	prefixes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Prefix { id := genID(t, "prefix"); return Prefix(id[:PrefixSize]) }), 0, 3)
	switch rapid.IntRange(frameGreet, frameDone).Draw(t, "frame") {
	case frameGreet:
		e := genEntry(t)
		return &Greet{Lonely: rapid.Bool().Draw(t, "lonely"), Self: Update{Entry: SignEntry(e, testKey)}}
	case frameUpdates:
		u := Updates{}
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			u = append(u, genUpdate(t))
		}
		return u
	case frameWants:
		w := make(Wants, rapid.IntRange(0, 3).Draw(t, "n"))
		for i := range w {
			w[i] = id.PeerID(genID(t, "want"))
		}
		return w
	case frameAlive:
		return Alive{}
	case frameOpen:
		o := &Open{Step: rapid.Int64Range(1, 1<<40).Draw(t, "step"), Self: Update{Entry: SignEntry(genEntry(t), testKey)}}
		o.Digests = make([]uint64, 16<<rapid.IntRange(0, 2).Draw(t, "buckets"))
		for i := range o.Digests {
			o.Digests[i] = rapid.Uint64().Draw(t, "digest")
		}
		return o
	case frameRows:
		rs := new(Rows)
		for b := range uint32(rapid.IntRange(0, 3).Draw(t, "buckets")) {
			rs.Buckets = append(rs.Buckets, 5*b)
		}
		for range rapid.IntRange(0, 3).Draw(t, "rows") {
			p := genID(t, "row")
			rs.Rows = append(rs.Rows, Row{
				Prefix: Prefix(p[:PrefixSize]), Start: 1, Update: 1 << 40, Alive: 1 << 41,
				Departed: rapid.Bool().Draw(t, "departed"), Check: rapid.Uint32().Draw(t, "check"),
			})
		}
		return rs
	case framePrefixes:
		p := &Prefixes{Entries: prefixes.Draw(t, "entries"), Beats: prefixes.Draw(t, "beats")}
		if len(p.Entries) == 0 {
			p.Entries = nil
		}
		if len(p.Beats) == 0 {
			p.Beats = nil
		}
		return p
	default:
		return Done{}
	}
}

func TestFramesSurviveTheWire(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := genFrame(t)
		body := f.Append(nil)
		got, err := Decode(body)
		if err != nil {
			t.Fatalf("decode %#v: %v", f, err)
		}
		if again := got.Append(nil); !bytes.Equal(again, body) {
			t.Fatalf("re-encoding differs:\n%x\n%x", body, again)
		}
	})
}

func TestNoFrameIsDecodedFromAPrefixOrWithATail(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		body := genFrame(t).Append(nil)
		if f, err := Decode(body[:rapid.IntRange(0, len(body)-1).Draw(t, "cut")]); err == nil {
			t.Fatalf("decoded a prefix as %#v", f)
		}
		if f, err := Decode(append(body, 0)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("decoded with a tail as %#v, %v", f, err)
		}
	})
}

func TestEntrySurvivesTheWire(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry(t)
		got, err := DecodeEntry(e.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", e) {
			t.Fatalf("got  %+v\nwant %+v", got, e)
		}
		if n := len(e.Append(nil)); n > e.size() {
			t.Fatalf("entry has %d bytes, size says at most %d", n, e.size())
		}
	})
}

func TestChangedBytesNeverVerify(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := SignEntry(genEntry(t), testKey)
		if err := s.Verify(); err != nil {
			t.Fatal(err)
		}
		raw := s.Append(nil)
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if d, err := DecodeSigned(raw); err == nil && d.Verify() == nil {
			t.Fatal("verified after a change")
		}
	})
}

func TestSignaturesAreBoundToNetworkAndKind(t *testing.T) {
	t.Parallel()
	peer := id.PeerIDOf(testKey)
	b := &Beat{Peer: peer, Start: 1, Content: 2, At: 3}
	b.Sign(testNetwork, testKey)
	if err := b.Verify(testNetwork); err != nil {
		t.Error(err)
	}
	if err := b.Verify(id.Of("other")); !errors.Is(err, ErrBadSignature) {
		t.Errorf("beat on another network: %v", err)
	}
	d := &Depart{Peer: peer, Start: 1, At: 3}
	d.Sign(testNetwork, testKey)
	if err := d.Verify(testNetwork); err != nil {
		t.Error(err)
	}
	if err := d.Verify(id.Of("other")); !errors.Is(err, ErrBadSignature) {
		t.Errorf("departure on another network: %v", err)
	}
	// A signature of the same bytes for another purpose must not pass.
	crossed := &Depart{Peer: peer, Start: 1, At: 3, Sig: sign(testKey, domainBeat, testNetwork, d.body())}
	if err := crossed.Verify(testNetwork); !errors.Is(err, ErrBadSignature) {
		t.Errorf("departure with a beat's signature: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	peer := id.PeerIDOf(testKey)
	good := &Entry{Network: testNetwork, Peer: peer, Start: 5, Update: 9, Protocol: "p", Tags: []id.ID{id.Of("a"), id.Of("b")}}
	good.Sort()
	body := good.Append(nil)
	at := 1 + 2*id.Size
	replaced := func(i int, with ...byte) []byte {
		return bytes.Join([][]byte{body[:i], with, body[i+1:]}, nil)
	}
	for name, b := range map[string][]byte{
		"empty":                 {},
		"another format":        replaced(0, 9),
		"overlong varint":       replaced(at, 0x85, 0x00),
		"update before start":   replaced(at, 10),
		"oversized":             make([]byte, MaxEntryBytes+1),
		"unsorted tags":         (&Entry{Network: testNetwork, Peer: peer, Tags: []id.ID{good.Tags[1], good.Tags[0]}}).Append(nil),
		"tag twice":             (&Entry{Network: testNetwork, Peer: peer, Tags: []id.ID{good.Tags[0], good.Tags[0]}}).Append(nil),
		"too many tags":         (&Entry{Network: testNetwork, Peer: peer, Tags: make([]id.ID, MaxTags+1)}).Append(nil),
		"address too long":      (&Entry{Network: testNetwork, Peer: peer, Addrs: []string{string(make([]byte, MaxAddrBytes+1))}}).Append(nil),
		"ticket too long":       (&Entry{Network: testNetwork, Peer: peer, Tickets: []tickets.Ticket{{Data: make([]byte, MaxTicketBytes+1)}}}).Append(nil),
		"time beyond all years": (&Entry{Network: testNetwork, Peer: peer, Start: maxTime + 1, Update: maxTime + 1}).Append(nil),
	} {
		if e, err := DecodeEntry(b); err == nil {
			t.Errorf("%s: decoded as %+v", name, e)
		}
	}
	if _, err := DecodeEntry(replaced(0, 9)); !errors.Is(err, ErrIncompatible) {
		t.Errorf("another format: got %v, want ErrIncompatible", err)
	}
	if _, err := DecodeEntry(body); err != nil {
		t.Errorf("the unchanged entry: %v", err)
	}
}

func TestUpdateOfTwoPeersIsRefused(t *testing.T) {
	t.Parallel()
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	e := SignEntry(&Entry{Network: testNetwork, Peer: id.PeerIDOf(testKey), Start: 1, Update: 1}, testKey)
	b := &Beat{Peer: id.PeerIDOf(other), Start: 1, Content: 1, At: 1}
	b.Sign(testNetwork, other)
	if f, err := Decode((Updates{{Entry: e, Beat: b}}).Append(nil)); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %#v, %v", f, err)
	}
}

// A frame that announces much and holds little costs little. The test is not parallel: it measures.
func TestAnnouncedLengthsAllocateNothing(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<40)
	many := binary.AppendUvarint(nil, MaxRows)
	head := append([]byte{entryFormat}, make([]byte, 2*id.Size)...)
	entry := func(rest ...[]byte) []byte {
		return slices.Concat(append([][]byte{head, {1}, {1}, {0}}, rest...)...) // start, update, no protocol
	}
	inGreeting := func(entry []byte) []byte {
		return slices.Concat([]byte{frameGreet, 0, kindEntry}, binary.AppendUvarint(nil, uint64(len(entry))), entry, make([]byte, 64))
	}
	for name, body := range map[string][]byte{
		"updates":    slices.Concat([]byte{frameUpdates}, binary.AppendUvarint(nil, MaxUpdates)),
		"wants":      slices.Concat([]byte{frameWants}, binary.AppendUvarint(nil, MaxWants)),
		"buckets":    slices.Concat([]byte{frameRows}, binary.AppendUvarint(nil, MaxBuckets)),
		"rows":       slices.Concat([]byte{frameRows, 0}, many),
		"prefixes":   slices.Concat([]byte{framePrefixes}, many),
		"digests":    slices.Concat([]byte{frameOpen}, make([]byte, 16), []byte{1, 14}),
		"an entry":   slices.Concat([]byte{frameGreet, 0, kindEntry}, binary.AppendUvarint(nil, MaxEntryBytes)),
		"a giant":    slices.Concat([]byte{frameGreet, 0, kindEntry}, huge),
		"addresses":  inGreeting(entry([]byte{MaxAddrs})),
		"tags":       inGreeting(entry([]byte{0}, binary.AppendUvarint(nil, MaxTags))),
		"streams":    inGreeting(entry([]byte{0, 0}, binary.AppendUvarint(nil, MaxStreams))),
		"tickets":    inGreeting(entry([]byte{0, 0, 0, 0}, []byte{MaxTickets})),
		"one ticket": inGreeting(entry([]byte{0, 0, 0, 0, 1}, make([]byte, id.Size), binary.AppendUvarint(nil, MaxTicketBytes))),
	} {
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if f, err := Decode(body); err == nil {
				t.Fatalf("%s: decoded as %#v", name, f)
			}
		}
		runtime.ReadMemStats(&after)
		if per := (after.TotalAlloc - before.TotalAlloc) / runs; per > 8<<10 {
			t.Errorf("%s: %d bytes were allocated for a frame of %d", name, per, len(body))
		}
	}
}

// TestGoldenBytes fails when the wire format moves. A change of it needs new protocol names, see docs/discovery.md.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	e := &Entry{
		Network: id.ID{1}, Peer: id.PeerIDOf(testKey), Start: 1000, Update: 1001, Protocol: "mosaik/1",
		Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Tags: []id.ID{{2}}, Groups: []id.ID{{3}},
		Tickets: []tickets.Ticket{{Class: id.ID{4}, Data: []byte("t")}},
	}
	s := SignEntry(e, testKey)
	b := &Beat{Peer: e.Peer, Start: 1000, Content: 1001, At: 1002}
	b.Sign(e.Network, testKey)
	d := &Depart{Peer: e.Peer, Start: 1000, At: 1003}
	d.Sign(e.Network, testKey)
	got := id.Of(hex.EncodeToString(Updates{{Entry: s}, {Beat: b}, {Depart: d}, {Entry: s, Beat: b}}.Append(nil))).String()
	const want = "60a3e09bbd870ff6766f6a332c64a52f3350a7178de247a97097516429e09976"
	if got != want {
		t.Errorf("digest of the encoding is %s, want %s", got, want)
	}
}

func TestCheckNamesWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	big := make([]tickets.Ticket, 5)
	for i := range big {
		big[i].Data = bytes.Repeat([]byte{byte(i)}, MaxTicketBytes)
	}
	for what, e := range map[string]*Entry{
		"tags":                {Tags: make([]id.ID, MaxTags+1)},
		"streams":             {Streams: make([]id.ID, MaxStreams+1)},
		"groups":              {Groups: make([]id.ID, MaxGroups+1)},
		"tickets":             {Tickets: make([]tickets.Ticket, MaxTickets+1)},
		"addresses":           {Addrs: make([]string, MaxAddrs+1)},
		"bytes of an address": {Addrs: []string{string(make([]byte, MaxAddrBytes+1))}},
		"bytes of a ticket":   {Tickets: []tickets.Ticket{{Data: make([]byte, MaxTicketBytes+1)}}},
		"bytes of the entry":  {Tickets: big},
	} {
		l, ok := errors.AsType[*LimitError](e.Check())
		if !ok || l.What != what || l.Have <= l.Max {
			t.Errorf("%s: got %v", what, e.Check())
		}
	}
	if err := (&Entry{Tags: make([]id.ID, MaxTags)}).Check(); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	add := func(t *rapid.T) { f.Add(genFrame(t).Append(nil)) }
	for i := range 20 {
		rapid.Custom(func(t *rapid.T) int { add(t); return 0 }).Example(i)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		frame, err := Decode(body)
		if err != nil {
			if frame != nil {
				t.Fatalf("a frame beside the error %v", err)
			}
			return
		}
		again := frame.Append(nil)
		if !bytes.Equal(again, body) {
			t.Fatalf("two encodings of one frame:\n%x\n%x", body, again)
		}
		if u, ok := frame.(Updates); ok {
			for _, x := range u {
				x.Peer()
				x.Start()
				x.Verify(testNetwork)
			}
		}
	})
}

func FuzzDecodeSigned(f *testing.F) {
	e := SignEntry(&Entry{Network: testNetwork, Peer: id.PeerIDOf(testKey), Start: 1, Update: 2}, testKey)
	f.Add(e.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSigned(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Append(nil), b) || !bytes.Equal(s.Entry.Append(nil), s.Body) {
			t.Fatal("two encodings of one entry")
		}
		// What decodes is within the limits of what may be made. Only the size is estimated from above.
		if l, ok := errors.AsType[*LimitError](s.Check()); ok && l.What != "bytes of the entry" {
			t.Fatal(l)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	for i := range 20 {
		rapid.Custom(func(t *rapid.T) int { f.Add(genEntry(t).Append(nil)); return 0 }).Example(i)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil {
			if e != nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrIncompatible) {
				t.Fatalf("%+v, %v", e, err)
			}
			return
		}
		if !bytes.Equal(e.Append(nil), b) {
			t.Fatal("two encodings of one entry")
		}
	})
}
