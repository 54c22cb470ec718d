package core

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// A member may hold a change of voters and not know that it is committed, as after a crash, see durable.go. Then it can be
// that nobody brings it to know: the voter that the change took out is gone, and without it there is no majority of
// those before, so no leader. But all others may know, even those that never vote. So each hello says how far its sender
// knows the log to be committed, and a member without a leader takes that over.
//
// What is committed stays so, whoever says it. In one history no two logs differ up to an entry of the same index and
// term: a member that has that entry has all that was committed with it.

// committed returns the index and term of the last entry known to be committed here, zeros if there is none.
func (r *Replica) committed() (index, term uint64) {
	if r.rn == nil {
		return 0, 0
	}
	term, err := r.log.Term(r.commits)
	if err != nil {
		return 0, 0
	}
	return r.commits, term
}

// learnCommitted takes over what a member of the same history knows to be committed, if this one holds it. Who stands still
// because of somebody else's muster does not.
func (r *Replica) learnCommitted(m *wire.Hello) {
	index, term := m.Committed, m.CommittedTerm
	if r.rn == nil || r.lead != 0 || r.isLeader() || index <= r.commits {
		return
	}
	if have, err := r.log.Term(index); err != nil || have != term {
		return
	}
	if r.recovery.muster != nil && !r.recovery.muster.peek {
		r.endMuster("more is committed than this member knew")
	}
	if r.recovery.sealed(r.now) {
		return
	}
	// An append without entries is how the library is told. It takes the sender for the leader, which it forgets before
	// anybody sees it.
	self, now := r.self, r.rn.BasicStatus().GetTerm()
	r.step(&raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: &self, To: &self, Term: &now, Index: &index, LogTerm: &term, Commit: &index,
	})
	_ = r.rn.ForgetLeader() // never fails
}
