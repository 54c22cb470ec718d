package core

import (
	"math"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// An operator recovers a group on one member, perhaps while the others are stopped. What that member took over is all that
// the others can know of if their logs end no later, so those that come back and find no majority go over to the history
// that was begun, instead of waiting for voters that the operator gave up. One whose log goes on beyond it stays: what it
// has may be acknowledged. It comes along once there is a majority, or proof that there will be none, or another order;
// then its commands do.
//
// The log is given up with the move, so there must be somebody who leads the other history, to take the member in. Others
// of that history may just be about to join it themselves, and hold nothing.

// followOrder goes over to a history that was forked off by order, if a majority has been missed for a while, and reports whether it did.
func (r *Replica) followOrder() bool {
	if r.lead != 0 || r.now-r.recovery.lost < 2*r.cfg.ElectionTimeout {
		return false
	}
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h != nil && h.Leader == who && !h.Genesis.IsZero() && h.Genesis != r.genesis && !r.isGone(h.Genesis) && r.tookOver(h.Parents) {
			r.moveTo(wire.Gone{From: r.genesis, Into: h.Genesis, Round: r.newRound()}, false)
			return true
		}
	}
	return false
}

// tookOver reports whether a history with these parents was begun by order and has all of this member's log that may be
// acknowledged. A log whose last entry has the term of another log's last entry, and no higher index, is the beginning of
// that one (Raft's log matching). One that ends no later than what was committed in the other differs from it at most in
// entries that never were.
func (r *Replica) tookOver(parents []wire.Parent) bool {
	own, reach := r.standing(0), uint64(math.MaxUint64)
	for i := range parents {
		p := &parents[i]
		if p.Genesis == r.genesis {
			return p.Reason == wire.Ordered && own.Last <= reach && (own.Last <= p.Raft || own.Term == p.Term && own.Last <= p.Last)
		}
		reach = min(reach, p.Last)
	}
	return false
}
