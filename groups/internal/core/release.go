package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A vote binds: whoever voted for a history proposes that one in each later ballot. If the lives of all of its founders are
// over it can never begin, and the vote is released; see package genesis for why that is sound. A life is over when its
// node came back in another one, without its log, or when it said farewell. Silence proves nothing, nor does a member that
// merely changed its id.

// binding is what this member knows of the history that it voted for.
type binding struct {
	of   wire.Genesis
	at   time.Duration   // of the first vote for it
	over map[uint64]bool // founders, by member, whose lives are over
}

// bind notes that this member has just voted.
func (r *Replica) bind() {
	if g := r.ballot.Value.Genesis; g != r.bound.of {
		r.bound = binding{of: g, at: r.now}
	}
	r.dirty = true
}

// founderOver notes that the life of a founder is over.
func (r *Replica) founderOver(member uint64) {
	if r.bound.over == nil {
		r.bound.over = make(map[uint64]bool)
	}
	r.bound.over[member] = true
}

// tickBound releases the vote if nobody is left who could begin what it is for.
func (r *Replica) tickBound() {
	v := &r.ballot.Value
	if r.ballot.Voted == (wire.Ballot{}) {
		return
	}
	for i := range v.Founders {
		f := &v.Founders[i]
		p := r.peers[f.Peer]
		switch {
		case f.Peer == r.cfg.Self && f.Nonce != r.cfg.BootNonce:
			r.founderOver(f.ID)
		// The bond must be younger than the vote: an older one may be with a life before that of the founder.
		case p != nil && p.up && p.since > r.bound.at && p.hello != nil && p.hello.Nonce != f.Nonce:
			r.founderOver(f.ID)
		}
	}
	if slices.ContainsFunc(v.Founders, func(f wire.Member) bool { return !r.bound.over[f.ID] }) {
		return
	}
	if r.try != nil && r.try.Value.Genesis == v.Genesis {
		r.try = nil
	}
	r.ballot.Release()
	r.dirty = true
	r.keepRecord(func() {})
}

// sayFarewell tells the others, when this engine ends for good, that its life is over.
func (r *Replica) sayFarewell() {
	if r.fatal != nil || !r.leaving.goes() || r.rn == nil && r.alone() {
		return
	}
	for _, who := range r.bonded() {
		r.send(who, &wire.Farewell{Genesis: r.genesis, Member: r.self})
	}
}

// blankFarewell hears of the end of a life while this member is blank.
func (r *Replica) blankFarewell(from id.PeerID, m *wire.Farewell) {
	for _, f := range r.ballot.Value.Founders {
		if f.ID == m.Member && f.Peer == from {
			r.founderOver(f.ID)
		}
	}
}

// whyBound says in words who keeps a vote from being released; empty if nothing does.
func (r *Replica) whyBound() string {
	if r.ballot.Voted == (wire.Ballot{}) {
		return ""
	}
	var lost []string
	for _, f := range r.ballot.Value.Founders {
		if f.Peer != r.cfg.Self && !r.bondedWith(f.Peer) && !r.bound.over[f.ID] {
			lost = append(lost, f.Peer.Short())
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf("bound by its vote to a history that may have begun on %s, which cannot be reached; bring it back, or, if it is lost "+
		"for good, leave the group on this node and join it again", strings.Join(lost, " and "))
}
