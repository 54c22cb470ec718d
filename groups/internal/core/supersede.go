package core

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// supersede puts a message in the place of the latest one to the same peer that was not handed out yet, if it says all
// that the other does. Under load a leader learns of a commit and appends the next entry at once, and a follower gets
// both at once: one message each way is enough.
func (r *Replica) supersede(to id.PeerID, m *raftpb.Message) bool {
	typ := m.GetType()
	if typ != raftpb.MsgApp && typ != raftpb.MsgAppResp {
		return false
	}
	for i := len(r.due.send) - 1; i >= 0; i-- {
		e := &r.due.send[i]
		if e.To != to {
			continue
		}
		last, is := e.Message.(*wire.Raft)
		if !is || last.Genesis != r.genesis || !includes(m, last.Msg) {
			return false
		}
		e.Message = &wire.Raft{Genesis: r.genesis, Msg: m}
		return true
	}
	return false
}

// includes reports whether a receiver of m needs no earlier message: an append that only told of a commit, or an
// acknowledgement of less.
func includes(m, earlier *raftpb.Message) bool {
	if earlier.GetType() != m.GetType() || earlier.GetTo() != m.GetTo() || earlier.GetFrom() != m.GetFrom() || earlier.GetTerm() != m.GetTerm() {
		return false
	}
	if m.GetType() == raftpb.MsgApp {
		return len(earlier.Entries) == 0 && earlier.GetIndex() == m.GetIndex() && earlier.GetLogTerm() == m.GetLogTerm() &&
			earlier.GetCommit() <= m.GetCommit()
	}
	return !earlier.GetReject() && !m.GetReject() && earlier.GetIndex() <= m.GetIndex()
}
