package wire

import (
	"bytes"
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// Snapshot messages survive encoding, and nothing shorter or longer is taken for one.
func TestSnapshotMessages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Uint64()
		list := rapid.SliceOfN(rapid.Uint64(), 0, 5)
		index, term, to, from, at := number.Draw(t, "index"), number.Draw(t, "term"), number.Draw(t, "to"), number.Draw(t, "from"), number.Draw(t, "at")
		auto := rapid.Bool().Draw(t, "auto")
		in := &Raft{Genesis: Genesis{1}, Msg: &raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), To: &to, From: &from, Term: &at,
			Snapshot: &raftpb.Snapshot{
				Data: rapid.SliceOfN(rapid.Byte(), 0, referenceMost).Draw(t, "data"),
				Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{
					Voters: list.Draw(t, "voters"), Learners: list.Draw(t, "learners"),
					VotersOutgoing: list.Draw(t, "outgoing"), LearnersNext: list.Draw(t, "next"), AutoLeave: &auto,
				}},
			},
		}}
		raw := Append(nil, in)
		m, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := m.(*Raft).Msg.GetSnapshot()
		if !proto.Equal(got.GetMetadata(), in.Msg.Snapshot.Metadata) || !bytes.Equal(got.GetData(), in.Msg.Snapshot.Data) {
			t.Fatalf("got %v, want %v", got, in.Msg.Snapshot)
		}
		if !bytes.Equal(Append(nil, m), raw) {
			t.Fatal("encodes into something else")
		}
		if _, err := Decode(raw[:rapid.IntRange(0, len(raw)-1).Draw(t, "cut")]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("a part of it: %v", err)
		}
		if _, err := Decode(append(raw, 0)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}

// State does not travel in messages, and no other message has a snapshot.
func TestSnapshotMessageBounds(t *testing.T) {
	t.Parallel()
	snap := &raftpb.Snapshot{Data: make([]byte, referenceMost+1), Metadata: &raftpb.SnapshotMetadata{ConfState: new(raftpb.ConfState)}}
	for name, msg := range map[string]*raftpb.Message{
		"a reference that is too long": {Type: raftpb.MsgSnap.Enum(), Snapshot: snap},
		"a snapshot in an append":      {Type: raftpb.MsgApp.Enum(), Snapshot: &raftpb.Snapshot{Metadata: snap.Metadata}},
		"a snapshot without one":       {Type: raftpb.MsgSnap.Enum()},
	} {
		if _, err := Decode(Append(nil, &Raft{Genesis: Genesis{1}, Msg: msg})); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFetchingMessage(t *testing.T) {
	t.Parallel()
	in := &Fetching{Genesis: Genesis{3}, Member: 7, Index: 9, Done: 1 << 40, Failed: true}
	raw := Append(nil, in)
	m, err := Decode(raw)
	if err != nil || *m.(*Fetching) != *in {
		t.Fatalf("%+v, %v", m, err)
	}
	for i := range raw {
		if _, err := Decode(raw[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
	}
}
