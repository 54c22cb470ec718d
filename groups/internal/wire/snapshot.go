package wire

import (
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"
)

// Kinds of messages about snapshots. State itself does not travel in messages but on streams of its own, see package snap.
const kindFetching byte = 20

// Fetching tells the leader how a member gets on with fetching the state of a snapshot: now and then while it does, and
// once when it cannot.
type Fetching struct {
	Genesis Genesis
	Member  uint64
	Index   uint64 // raft index of the snapshot
	Done    uint64 // bytes
	Failed  bool   // it was given up; the leader may send the snapshot again
}

func (*Fetching) kind() byte { return kindFetching }

func (m *Fetching) append(b []byte) []byte {
	b = append(b, m.Genesis[:]...)
	b = binary.AppendUvarint(b, m.Member)
	b = binary.AppendUvarint(b, m.Index)
	b = binary.AppendUvarint(b, m.Done)
	return appendBool(b, m.Failed)
}

func (r *reader) fetching() *Fetching {
	return &Fetching{Genesis: r.genesis(), Member: r.uint(), Index: r.uint(), Done: r.uint(), Failed: r.bool()}
}

// A snapshot in a raft message is its position, the configuration there, and a reference to the state:
//
//	index, term, voters, learners, outgoing voters, next learners, leave by itself, reference
//
// where each list has its length in front.

// referenceMost bounds the reference, which stands for the state and does not contain it.
const referenceMost = 256

func appendSnapshot(b []byte, s *raftpb.Snapshot) []byte {
	meta := s.GetMetadata()
	b = binary.AppendUvarint(b, meta.GetIndex())
	b = binary.AppendUvarint(b, meta.GetTerm())
	b = AppendConf(b, meta.GetConfState())
	b = binary.AppendUvarint(b, uint64(len(s.GetData())))
	return append(b, s.GetData()...)
}

func (r *reader) snapshot() *raftpb.Snapshot {
	index, term := r.uint(), r.uint()
	conf := r.conf()
	data := r.bytes()
	if len(data) > referenceMost {
		r.bad = true
	}
	return &raftpb.Snapshot{
		Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: conf},
		Data:     append([]byte(nil), data...),
	}
}

// AppendConf appends an encoded configuration of voters and learners. Equal configurations have equal encodings.
func AppendConf(b []byte, c *raftpb.ConfState) []byte {
	for _, list := range [][]uint64{c.GetVoters(), c.GetLearners(), c.GetVotersOutgoing(), c.GetLearnersNext()} {
		b = appendUints(b, list)
	}
	return appendBool(b, c.GetAutoLeave())
}

// DecodeConf reads what AppendConf wrote and returns what follows it.
func DecodeConf(b []byte) (c *raftpb.ConfState, rest []byte, err error) {
	r := reader{b: b}
	c = r.conf()
	if r.bad {
		return nil, nil, ErrMalformed
	}
	return c, r.b, nil
}

func (r *reader) conf() *raftpb.ConfState {
	c := new(raftpb.ConfState)
	for _, list := range []*[]uint64{&c.Voters, &c.Learners, &c.VotersOutgoing, &c.LearnersNext} {
		*list = r.uints()
	}
	auto := r.bool()
	c.AutoLeave = &auto
	return c
}
