package core

import (
	"math"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A history without a majority of its voters can do nothing. It goes on only as another history that a survivor forks off
// from it: the log stays, with all that stands in it, the survivor becomes the only voter, and everybody else joins. To
// change the voters of the old history instead would not do, since several survivors could do it differently.
//
// One member musters all others that are there: they stand still from then on, so that nothing is acknowledged any more,
// and say how far their logs reach. Who reaches farthest forks.
//
// This happens by itself when there is proof that the majority is gone for good: volatile members that come back under a
// new nonce, that said farewell, or that went on in another history. With proof about so many voters that those left
// cannot have missed anything that was acknowledged, nothing is lost; see lossy. Mere silence proves nothing.

// recovery is the state of a member while its history may have lost its majority.
type recovery struct {
	look  bool          // something changed that may be proof
	until time.Duration // the member stands still until then
	round uint64        // of the muster because of which it does; it follows the fork that comes of it
	other bool          // it does because of an earlier muster too
	next  time.Duration // no muster before
	lost  time.Duration // since when there has been no majority, zero while there is one
	may   time.Duration // since when this member may muster, zero while it may not
	told  bool          // NewsQuorumLost

	muster *muster
}

func (v *recovery) sealed(now time.Duration) bool { return now < v.until }

// provenDead says how it is known that a member will never act again under its id; empty if it is not.
func (r *Replica) provenDead(row *member.Row) string {
	if row.ID == r.self {
		return ""
	}
	if why := r.tombs[row.ID]; why != "" {
		return why
	}
	if row.Peer == r.cfg.Self {
		return "restarted without its log" // that was this node, in an earlier life
	}
	p := r.peers[row.Peer]
	if p == nil || !p.up || p.hello == nil {
		return ""
	}
	elsewhere := !p.hello.Genesis.IsZero() && p.hello.Genesis != r.genesis
	switch {
	case p.hello.Member == row.ID && elsewhere:
		return "joined another history before it began in this one" // who goes over later takes a new id
	case p.hello.Member == row.ID:
		return ""
	case p.hello.Nonce != row.Nonce:
		return "restarted without its log"
	default:
		return "begins anew as another member"
	}
}

// onFarewell notes that a member has ended.
func (r *Replica) onFarewell(from id.PeerID, m *wire.Farewell) {
	if r.genesis.IsZero() {
		r.blankFarewell(from, m)
	}
	if r.rn == nil || m.Genesis != r.genesis {
		return
	}
	if row := r.table.Get(m.Member); row != nil && row.Peer == from {
		r.tombs[m.Member] = "said farewell"
		r.recovery.look = true
		r.leader.plan = true
	}
}

// pending returns the changes of members in the log that are not handed out yet, so that it is not known here whether they
// are committed. Others may know.
func (r *Replica) pending() ([]member.Op, error) {
	last, err := r.log.LastIndex()
	if err != nil || last <= r.handed {
		return nil, err
	}
	entries, err := r.log.Entries(r.handed+1, last+1, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	var out []member.Op
	for _, e := range entries {
		if e.GetType() != raftpb.EntryConfChangeV2 {
			continue
		}
		op, err := changeOf(e)
		if err != nil {
			return out, err
		}
		out = append(out, op)
	}
	return out, nil
}

// newcomers returns the members that the log adds beyond what was handed out.
func (r *Replica) newcomers() []*member.Row {
	changes, _ := r.pending() // what cannot be read adds nobody
	var out []*member.Row
	for _, op := range changes {
		if op.Kind == member.Add {
			out = append(out, &member.Row{Member: op.Member})
		}
	}
	return out
}

// provenLost reports whether there is proof that this member will never again be part of a majority of the voters that it
// knows. That does not exclude that others know of other voters, so all must be asked.
func (r *Replica) provenLost() bool {
	dead, voters := 0, 0
	for _, row := range r.table.All() {
		if !row.Voter {
			continue
		}
		voters++
		if r.provenDead(row) != "" {
			dead++
		}
	}
	return voters-dead < voters/2+1
}

// outvoted reports whether the voters that are away may be a majority by themselves, so that they may have acknowledged
// something that nobody else has. Pending changes of voters count, each with those before it.
func (r *Replica) outvoted(away func(id uint64) bool) bool {
	voters := make(map[uint64]bool)
	for _, row := range r.table.All() {
		if row.Voter {
			voters[row.ID] = true
		}
	}
	majority := func() bool {
		n := 0
		for id := range voters {
			if away(id) {
				n++
			}
		}
		return n >= len(voters)/2+1
	}
	changes, err := r.pending()
	if err != nil || majority() {
		return true
	}
	for _, op := range changes {
		switch op.Kind {
		case member.Promote:
			voters[op.Member.ID] = true
		case member.Demote, member.Remove:
			delete(voters, op.Member.ID)
		}
		if majority() {
			return true
		}
	}
	return false
}

// alive reports whether a member is this one, or there under its id.
func (r *Replica) alive(id uint64) bool {
	if id == r.self {
		return true
	}
	for _, who := range r.bonded() {
		if h := r.peers[who].hello; h != nil && h.Member == id && h.Genesis == r.genesis {
			return true
		}
	}
	return false
}

// survivors returns the peers that are members of this history and there; all says that every member is, but for those
// proven dead.
func (r *Replica) survivors() (there []id.PeerID, all bool) {
	all = true
	for _, row := range append(r.table.All(), r.newcomers()...) {
		if row.ID == r.self || r.provenDead(row) != "" {
			continue
		}
		p := r.peers[row.Peer]
		if p == nil || !p.up || p.hello == nil || p.hello.Member != row.ID || p.hello.Genesis != r.genesis && !p.hello.Genesis.IsZero() {
			all = false // one that is blank was taken in and has not begun, so it has nothing
		}
	}
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h == nil || h.Genesis != r.genesis {
			continue
		}
		if row := r.table.Get(h.Member); row == nil || r.provenDead(row) == "" {
			there = append(there, who)
		}
	}
	return there, all
}

// majority reports whether enough voters are there, as far as this member sees, and which are not.
func (r *Replica) majority() (bool, []Missing) {
	var missing []Missing
	here, voters := 0, 0
	for _, row := range r.table.All() {
		if !row.Voter {
			continue
		}
		voters++
		p := r.peers[row.Peer]
		why := r.provenDead(row)
		switch {
		case row.ID == r.self:
			here++
		case why != "":
			missing = append(missing, Missing{Peer: row.Peer, Why: why, Dead: true, Seen: r.seen(row.Peer)})
		case p != nil && p.up:
			here++
		default:
			missing = append(missing, Missing{Peer: row.Peer, Why: "not reachable", Seen: r.seen(row.Peer)})
		}
	}
	return here >= voters/2+1, missing
}

func (r *Replica) seen(who id.PeerID) time.Duration {
	if p := r.peers[who]; p != nil {
		return p.seen
	}
	return 0
}

// tickRecovery looks whether the history can still go on, and calls a muster if it cannot and may be forked.
func (r *Replica) tickRecovery() {
	v := &r.recovery
	if r.rn == nil {
		return
	}
	if r.joining() {
		r.tickJoining()
		return
	}
	r.tickMuster()
	if r.replaying() {
		return
	}
	if r.lead != 0 && !v.look && v.lost == 0 {
		return
	}
	v.look = false
	ok, missing := r.majority()
	if ok || r.follows() {
		if v.told {
			r.due.news = append(r.due.news, News{Kind: NewsQuorumBack, From: r.genesis})
		}
		v.lost, v.may, v.told = 0, 0, false
		return
	}
	if v.lost == 0 {
		v.lost, r.dirty = r.now, true
	}
	if !v.told && r.lead == 0 {
		v.told = true
		n := News{Kind: NewsQuorumLost, From: r.genesis, Reason: r.whyNoLeader()}
		for _, m := range missing {
			n.Lost = append(n.Lost, m.Peer)
		}
		r.due.news = append(r.due.news, n)
	}
	if v.muster != nil || v.sealed(r.now) || r.now < v.next || r.leaving.asked {
		return
	}
	if r.followOrder() {
		return
	}
	there, all := r.survivors()
	var reason wire.Reason
	switch lost := r.provenLost(); {
	case lost && all:
		reason = wire.Proven
	case r.cfg.AvailabilityFirst > 0 && r.lead == 0 && r.now-v.lost >= r.cfg.AvailabilityFirst:
		reason = wire.Availability
	default:
		v.may = 0
		return
	}
	if v.may == 0 {
		v.may = r.now
	}
	if r.now-v.may >= r.turn(there) {
		r.callMuster(reason, there, nil)
	}
}

// turn returns how long this member leaves it to others to muster. They may not see that it is needed: one that is behind
// in the log does not know all voters.
func (r *Replica) turn(there []id.PeerID) time.Duration {
	first := 0
	for _, who := range there {
		if !r.peers[who].hello.Joining && who.Compare(r.cfg.Self) < 0 {
			first++
		}
	}
	return time.Duration(first) * musterPatience
}

// replaying reports whether this member has yet to go through entries of which it knows that they are committed, as after a
// restart. Until then the voters that it knows are those of the past: that they are gone for good proves nothing.
func (r *Replica) replaying() bool { return r.rn != nil && r.handed < r.commits }

// joining reports whether this member has not come as far in the log as to find itself there.
func (r *Replica) joining() bool { return r.rn != nil && r.table.Get(r.self) == nil }

// tickJoining looks whether a member that has not come as far in the log as to find itself there still has somebody to
// get the rest from. If all that were part of the history have left it, the joiner has nothing that it could save.
func (r *Replica) tickJoining() {
	if r.lead != 0 || r.now-r.leadAt < 2*r.cfg.ElectionTimeout || r.leaving.asked {
		return
	}
	part := func(p *peer) bool { return p.hello == nil || p.hello.Genesis == r.genesis && !p.hello.Joining }
	if len(r.bondedIf(part)) == 0 {
		r.beginAnew()
	}
}

// follows reports whether this member hears another one that leads. That one knows the voters at least as well, and stands
// down when it hears no majority of them.
func (r *Replica) follows() bool { return r.lead != 0 && r.lead != r.self }

func (r *Replica) onFork(_ id.PeerID, m *wire.Fork) {
	if r.rn != nil && m.Genesis == r.genesis && r.recovery.sealed(r.now) && r.recovery.round == m.Round && !r.leaving.asked {
		r.fork(m.Reason, m.Round, m.Lossy)
	}
}

func reasonText(reason wire.Reason) string {
	switch reason {
	case wire.Proven:
		return "the majority was proven never to come back"
	case wire.Ordered:
		return "an operator ordered it"
	default:
		return "the group prefers to go on without a majority"
	}
}
