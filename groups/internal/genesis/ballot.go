package genesis

import (
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A history is founded by a single-decree Paxos (Lamport, Paxos Made Simple) among blank members: the value is the origin
// of the history, whose first voters are members that promised. With quorum floor(n/2)+1 for n members that are expected
// a second history cannot be founded while at most twice the quorum less one incarnations of members take part, since any
// two quorums then have one in common. With n = 1 a member founds by itself.

// A vote may be released once the lives of all founders of its value are over. A value has as many founders as a quorum,
// and only they can begin it. If no more than twice the quorum less one lives take part, and a quorum of them are over, the
// others are fewer than a quorum, so nothing else can be founded any more; whether they remember votes does not matter. If
// more take part the promise is void in any case, but without the release those that remember would propose for ever
// what can never begin.

// Quorum returns how many members must vote for an origin.
func Quorum(expect int) int { return expect/2 + 1 }

// Ballot is a blank member's part in founding. The zero value has neither promised nor voted; a member that is durable
// must not forget its Ballot.
type Ballot struct {
	Promised wire.Ballot
	Voted    wire.Ballot
	Value    wire.Origin // of Voted
}

// Prepare answers a request to take part in a ballot; self is as which the member would begin.
func (b *Ballot) Prepare(m *wire.Prepare, self wire.Member) *wire.Promise {
	if m.Ballot.Less(b.Promised) {
		return &wire.Promise{Ballot: m.Ballot, Refused: true, Promised: b.Promised}
	}
	b.Promised = m.Ballot
	return &wire.Promise{Ballot: m.Ballot, Voter: self, Voted: b.Voted, Value: b.Value}
}

// Elect answers a request for a vote.
func (b *Ballot) Elect(m *wire.Elect) *wire.Elected {
	if m.Ballot.Less(b.Promised) {
		return &wire.Elected{Ballot: m.Ballot, Refused: true, Promised: b.Promised}
	}
	b.Promised, b.Voted, b.Value = m.Ballot, m.Ballot, m.Value
	return &wire.Elected{Ballot: m.Ballot}
}

// Campaign is one member's try to have a history founded.
type Campaign struct {
	Ballot wire.Ballot
	Began  time.Duration
	Value  wire.Origin // once enough have promised

	quorum   int
	promises map[id.PeerID]*wire.Promise
	votes    map[id.PeerID]bool
}

// Release forgets the vote. It is sound once the lives of all of the value's founders are over, see above.
func (b *Ballot) Release() { b.Voted, b.Value = wire.Ballot{}, wire.Origin{} }

// NewCampaign begins a try. Its ballot must be one that its member never used before.
func NewCampaign(ballot wire.Ballot, quorum int, now time.Duration) *Campaign {
	return &Campaign{
		Ballot: ballot, Began: now, quorum: quorum,
		promises: make(map[id.PeerID]*wire.Promise), votes: make(map[id.PeerID]bool),
	}
}

// Promise takes in a promise. It returns the request for votes once enough have promised: for what the highest of their
// votes was for, or for the origin that fresh makes for those who promised.
func (c *Campaign) Promise(from id.PeerID, m *wire.Promise, fresh func(voters []wire.Member) wire.Origin) *wire.Elect {
	if m.Ballot != c.Ballot || m.Refused || !c.Value.Genesis.IsZero() || m.Voter.ID == 0 || m.Voter.Peer != from {
		return nil
	}
	c.promises[from] = m
	if len(c.promises) < c.quorum {
		return nil
	}
	var highest wire.Ballot
	var voters []wire.Member
	for _, p := range c.promises {
		voters = append(voters, p.Voter)
		if highest.Less(p.Voted) && !p.Value.Genesis.IsZero() {
			highest, c.Value = p.Voted, p.Value
		}
	}
	if c.Value.Genesis.IsZero() {
		slices.SortFunc(voters, func(a, b wire.Member) int { return a.Peer.Compare(b.Peer) })
		c.Value = fresh(voters)
	}
	return &wire.Elect{Ballot: c.Ballot, Value: c.Value}
}

// Elected takes in a vote. It reports whether the origin is chosen.
func (c *Campaign) Elected(from id.PeerID, m *wire.Elected) bool {
	if m.Ballot != c.Ballot || m.Refused || c.Value.Genesis.IsZero() {
		return false
	}
	c.votes[from] = true
	return len(c.votes) >= c.quorum
}
