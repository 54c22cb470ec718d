package core

import (
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// campaignPatience is how long a try to found a history may take, and about how long the next one waits.
const campaignPatience = time.Second

// tickBlank looks whether it is time to found a history.
func (r *Replica) tickBlank() {
	if r.leaving.asked {
		return
	}
	r.tickBound()
	voters := 1 // that are blank and see each other here
	meHesitant, me := r.rank(r.cfg.Self, uint8(r.cfg.Preference))
	rank := 0
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h == nil || r.isGone(h.Genesis) {
			continue
		}
		if !h.Genesis.IsZero() {
			if r.now == r.helloAt {
				r.askToJoin()
			}
			return
		}
		if h.Preference == member.Observer {
			continue
		}
		voters++
		if hesitant, hash := r.rank(who, h.Preference); compareRank(hesitant, hash, meHesitant, me) < 0 {
			rank++
		}
	}
	if r.cfg.Preference == Observer || r.former && r.cfg.Durable || voters < genesis.Quorum(r.cfg.Expect) {
		return
	}
	wait := r.foundDelay()
	// Somebody who is listed may have a history, and somebody who is expected should vote; wait for them, not for ever,
	// unless this member knows that there is a history somewhere.
	if (r.missing() || voters < r.cfg.Expect) && (r.former && r.missing() || r.now < r.blankSince+2*wait) {
		return
	}
	if r.now >= r.blankSince+wait+time.Duration(rank)*foundStep {
		r.tryToFound()
	}
}

// foundDelay is how long this member looks for a history before it founds one, if nobody outranks it.
func (r *Replica) foundDelay() time.Duration {
	if r.cfg.Preference == Reluctant {
		return r.cfg.BootstrapDelay * reluctantFactor
	}
	return r.cfg.BootstrapDelay
}

// tryToFound begins a ballot, unless one is under way.
func (r *Replica) tryToFound() {
	if r.try != nil && r.now-r.try.Began < campaignPatience || r.now < r.nextTry {
		return
	}
	r.tries = max(r.tries, r.ballot.Promised.Round) + 1
	ballot := wire.Ballot{Round: r.tries, Who: r.cfg.BootNonce}
	r.try = genesis.NewCampaign(ballot, genesis.Quorum(r.cfg.Expect), r.now)
	r.nextTry = r.now + campaignPatience + time.Duration(r.rng.Int64N(int64(campaignPatience)))
	m, try := &wire.Prepare{Ballot: ballot}, r.try
	mine := r.ballot.Prepare(m, r.voter())
	// Nobody hears of the ballot before it is safe, so that no later life uses its number again.
	r.pledge(func() {
		if r.try == try {
			r.askVoters(m)
			r.onPromise(r.cfg.Self, mine)
		}
	})
}

// voter is as which this member would begin a history.
func (r *Replica) voter() wire.Member {
	return wire.Member{
		ID: r.self, Peer: r.cfg.Self, Nonce: r.cfg.BootNonce, Preference: uint8(r.cfg.Preference), Durable: r.cfg.Durable,
	}
}

// alone reports whether a founder needs nobody's vote. Then it asks for none: a vote binds the voter to what it voted for,
// and a founder that left before the voter had joined would keep it from ever founding anything else.
func (r *Replica) alone() bool { return genesis.Quorum(r.cfg.Expect) == 1 }

// askVoters sends a step of a ballot to all that may vote.
func (r *Replica) askVoters(m wire.Message) {
	if r.alone() {
		return
	}
	for _, who := range r.bonded() {
		if h := r.peers[who].hello; h != nil && h.Genesis.IsZero() && h.Preference != member.Observer {
			r.send(who, m)
		}
	}
}

// mayVote reports whether this member can take part in another's founding.
func (r *Replica) mayVote() bool {
	return !r.alone() && r.genesis.IsZero() && r.cfg.Preference != Observer && !r.leaving.asked && !(r.former && r.cfg.Durable)
}

// pledge does what follows from a change of the ballot, once a durable member will remember it.
func (r *Replica) pledge(do func()) {
	if r.alone() || r.cfg.Flaws.ForgetBallot {
		do() // with nobody to promise anything to
		return
	}
	r.keepRecord(func() {
		if r.genesis.IsZero() {
			do()
		}
	})
}

func (r *Replica) onPrepare(from id.PeerID, m *wire.Prepare) {
	if !r.mayVote() {
		return
	}
	promise := r.ballot.Prepare(m, r.voter())
	if promise.Refused {
		r.send(from, promise)
		return
	}
	r.pledge(func() { r.send(from, promise) })
}

func (r *Replica) onPromise(from id.PeerID, m *wire.Promise) {
	if !r.genesis.IsZero() || r.try == nil {
		return
	}
	if m.Refused {
		r.refused(m.Ballot, m.Promised)
		return
	}
	e := r.try.Promise(from, m, func(voters []wire.Member) wire.Origin {
		return wire.Origin{Genesis: r.newGenesis(), Founders: voters}
	})
	if e == nil {
		return
	}
	r.askVoters(e)
	mine, try := r.ballot.Elect(e), r.try
	r.bind()
	r.pledge(func() {
		if r.try == try {
			r.onElected(r.cfg.Self, mine)
		}
	})
}

// refused gives up a ballot in favour of a higher one.
func (r *Replica) refused(mine, other wire.Ballot) {
	if r.try != nil && r.try.Ballot == mine {
		r.tries = max(r.tries, min(other.Round, mine.Round+roundJumpMost))
		r.try = nil
	}
}

// roundJumpMost bounds what a member believes of another's rounds, so that none can use up all numbers.
const roundJumpMost = 1 << 20

func (r *Replica) onElect(from id.PeerID, m *wire.Elect) {
	if !r.mayVote() || !validOrigin(&m.Value) {
		return
	}
	vote := r.ballot.Elect(m)
	if vote.Refused {
		r.send(from, vote)
		return
	}
	r.bind()
	r.pledge(func() { r.send(from, vote) })
}

func (r *Replica) onElected(from id.PeerID, m *wire.Elected) {
	if !r.genesis.IsZero() || r.try == nil {
		return
	}
	if m.Refused {
		r.refused(m.Ballot, m.Promised)
		return
	}
	if !r.try.Elected(from, m) {
		return
	}
	origin := r.try.Value
	for _, who := range r.bonded() {
		if h := r.peers[who].hello; h != nil && h.Genesis.IsZero() {
			r.send(who, &wire.Founded{Value: origin})
		}
	}
	r.onFounded(&wire.Founded{Value: origin})
	if r.rn != nil {
		_ = r.rn.Campaign() // it fails only where there is nothing to win
		r.stirred = true
	}
}

// onFounded begins as a founder. Others join when they hear of the history.
func (r *Replica) onFounded(m *wire.Founded) {
	o := &m.Value
	if !r.genesis.IsZero() || !validOrigin(o) || r.isGone(o.Genesis) || r.leaving.asked {
		return
	}
	mine := func(f wire.Member) bool { return f.ID == r.self && f.Peer == r.cfg.Self }
	if !slices.ContainsFunc(o.Founders, mine) {
		return
	}
	r.start(*o)
	r.announce()
}

// validOrigin reports whether a history can begin like this.
func validOrigin(o *wire.Origin) bool {
	if o.Genesis.IsZero() || len(o.Founders) == 0 {
		return false
	}
	seen := make(map[uint64]bool)
	for _, f := range o.Founders {
		if !validMember(f.ID) || seen[f.ID] {
			return false
		}
		seen[f.ID] = true
	}
	return true
}
