package core

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// leaving is the state of a departure. A leader first hands over, since a leader that removes itself leaves the others
// without one for an election timeout, or for good if there are only two; then it is removed by its successor like any
// other member, and stays until it hears that it was. One that is alone takes in first who is about to join: what it had
// acknowledged would be lost.
type leaving struct {
	asked bool
	keep  bool // the membership stays: only the calls and the leadership end
	done  bool
	since time.Duration
	last  time.Duration // step taken
	told  bool          // Output.Left was set
}

func (r *Replica) Leave(now time.Duration) {
	r.at(now)
	r.depart(false)
}

func (r *Replica) Retire(now time.Duration) {
	r.at(now)
	r.depart(true)
}

func (r *Replica) depart(keep bool) {
	if r.leaving.asked {
		return
	}
	r.leaving = leaving{asked: true, keep: keep, since: r.now, last: r.now - leaveEvery}
	r.leader.plan = true
	r.dirty = true
	r.guard(func() {
		r.announce()
		r.tickLeave()
	})
}

// goes reports whether the member gives up its membership.
func (v *leaving) goes() bool { return v.asked && !v.keep }

// tickLeave takes the next step of a departure.
func (r *Replica) tickLeave() {
	v := &r.leaving
	if !v.asked || v.told {
		return
	}
	if v.keep {
		r.tickRetire()
		return
	}
	switch {
	case v.done, r.rn == nil, r.table.Len() == 1 && r.table.Get(r.self) != nil && !r.expecting():
		r.left()
		return
	case r.now-v.since >= leaveGiveUp:
		for _, p := range r.bonded() {
			r.send(p, &wire.Left{Genesis: r.genesis, Member: r.self})
		}
		r.left()
		return
	case len(r.client.calls) > 0 && r.now-v.since < leaveDrain:
		return // a session ends with its member, and what it has not brought into the log by then
	case r.now-v.last < leaveEvery:
		return
	}
	v.last = r.now
	if r.isLeader() {
		r.handOver()
		return
	}
	if to, ok := r.reachableLeader(); ok {
		r.send(to, &wire.Leave{Genesis: r.genesis, Member: r.self})
	}
}

// expecting reports whether a peer is there that has no history yet, and so is about to ask for this one.
func (r *Replica) expecting() bool {
	return len(r.bondedIf(func(p *peer) bool {
		return p.hello == nil || p.hello.Genesis.IsZero() && !p.hello.Leaving
	})) > 0
}

// tickRetire takes the next step of a member that will be back.
func (r *Replica) tickRetire() {
	v := &r.leaving
	drained := len(r.client.calls) == 0
	switch {
	case r.rn == nil, drained && r.replaced(), r.now-v.since >= leaveGiveUp:
		r.left()
	case drained && r.now-v.last >= leaveEvery:
		v.last = r.now
		r.handOver()
	}
}

// replaced reports whether nothing would be won by handing over: this member does not lead, or nobody who votes is there.
func (r *Replica) replaced() bool {
	if !r.isLeader() {
		return true
	}
	for _, row := range r.table.All() {
		if row.Voter && row.ID != r.self && r.bondedWith(row.Peer) {
			return false
		}
	}
	return true
}

// left reports the end of the departure. The member keeps answering until it is stopped.
func (r *Replica) left() {
	r.leaving.told = true
	r.due.left = true
}

// handOver makes the best other voter the leader: one that wants to lead before one that would rather not, and then the
// one with the most of the log. If there is none a learner is made a voter first, which the plan does since it no longer
// counts this member. Members that leave as well are no successors. The library gives up by itself when the successor
// does not take over within an election timeout.
func (r *Replica) handOver() {
	var best, match uint64
	var hesitant bool
	r.rn.WithProgress(func(m uint64, t raft.ProgressType, p tracker.Progress) {
		row := r.table.Get(m)
		if m == r.self || t != raft.ProgressTypePeer || row == nil || r.departing(row) || !p.RecentActive {
			return
		}
		if healthy, _ := r.health(row); !healthy {
			return
		}
		h := row.Preference != member.Normal
		if best == 0 || hesitant && !h || hesitant == h && p.Match > match {
			best, match, hesitant = m, p.Match, h
		}
	})
	if best == 0 {
		r.leader.plan = true
		return
	}
	r.rn.TransferLeader(best)
	r.stirred = true
}
