package core

import "github.com/mosaik-go/mosaik/groups/internal/member"

// Flaws are bugs that the engine has on request, so that the simulator can show that its checks find them. All are off
// outside of it.
type Flaws struct {
	UngatedReads  bool // a new leader answers reads before an entry of its own term is committed
	LonelyReads   bool // a leader answers reads without hearing from a majority
	ApplyAgain    bool // a call that the log holds twice counts twice
	TakeAgain     bool // a leader takes a call again that it has already
	TakeGaps      bool // a leader takes calls before those that precede them
	HastyRemoval  bool // a leader proposes any removal at once, whoever else is there
	RashExpelling bool // a leader takes out whoever is not wanted, be it there or needed
	ForgetBallot  bool // a durable member that restarts does not know what it promised to founders
}

// hastyPlan takes out the first voter that is not healthy, whatever the plan was.
func hastyPlan(states []member.State, op member.Op, ok bool) (member.Op, bool) {
	for _, m := range states {
		if m.Voter && !m.Healthy && !m.Leader {
			hasty := member.Op{Kind: member.Remove}
			hasty.Member.ID = m.ID
			return hasty, true
		}
	}
	return op, ok
}

// rashPlan takes out the first member that somebody wants to be taken out, whatever the plan was.
func (r *Replica) rashPlan(op member.Op, ok bool) (member.Op, bool) {
	for _, row := range r.table.All() {
		if at, is := r.leader.expelled[row.Peer]; is && r.now-at < expelledFor && row.ID != r.self {
			rash := member.Op{Kind: member.Remove}
			rash.Member.ID = row.ID
			return rash, true
		}
	}
	return op, ok
}

// takeAnyway takes a call in whatever came before it, unless it is there already.
func takeAnyway(s *member.Sessions, session, number uint64) {
	for n := s.Calls(session) + 1; n <= number; n++ {
		s.Take(session, n)
	}
}
