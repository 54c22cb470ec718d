package core

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// The leader decides who is a member and who votes: it takes in those that ask, and changes one member at a time as the
// policy plans (package member), from what it sees of the others.

// onJoin takes in a new member, as a learner at first.
func (r *Replica) onJoin(from id.PeerID, m *wire.Join) {
	if !r.isLeader() || m.Genesis != r.genesis || !validMember(m.Member) {
		return
	}
	if row := r.table.Get(m.Member); row != nil {
		if row.Peer == from {
			r.accept(row)
		}
		return
	}
	if r.table.WasRemoved(m.Member) {
		r.sayRemoved(from, m.Member)
		return
	}
	l := &r.leader
	if i := slices.IndexFunc(l.joins, func(j joiner) bool { return j.peer == from }); i >= 0 {
		l.joins[i].m = m
	} else if len(l.joins) < joinsMost {
		l.joins = append(l.joins, joiner{from, m})
	}
	l.plan = true
}

// sayRemoved tells a member that it was taken out, unless this one may still forget that: who hears it goes for good. It will
// be told when it asks again, or by the leader.
func (r *Replica) sayRemoved(to id.PeerID, member uint64) {
	if len(r.pledges) == 0 {
		r.send(to, &wire.Removed{Genesis: r.genesis, Member: member})
	}
}

func (r *Replica) accept(row *member.Row) {
	r.send(row.Peer, &wire.Accept{Origin: r.origin, Member: row.ID})
}

// onLeave notes that a member wants to go.
func (r *Replica) onLeave(from id.PeerID, m *wire.Leave) {
	if r.rn == nil || m.Genesis != r.genesis {
		return
	}
	if r.table.WasRemoved(m.Member) {
		if len(r.pledges) == 0 { // as in sayRemoved
			r.send(from, &wire.Left{Genesis: r.genesis, Member: m.Member})
		}
		return
	}
	if row := r.table.Get(m.Member); r.isLeader() && row != nil && row.Peer == from {
		r.leader.leavers[m.Member] = true
		r.leader.plan = true
	}
}

// onLeft notes that a member is gone for good, or, if it is this one, that it may go.
func (r *Replica) onLeft(from id.PeerID, m *wire.Left) {
	if r.rn == nil || m.Genesis != r.genesis {
		return
	}
	if m.Member == r.self {
		r.leaving.done = r.leaving.asked
		return
	}
	if row := r.table.Get(m.Member); row != nil && row.Peer == from {
		r.leavers[m.Member] = true // whoever leads by then takes it out
		r.leader.plan = true
	}
}

func (r *Replica) tickLeader() {
	if !r.isLeader() {
		return
	}
	r.ownTermCommitted()
	r.tickPreference()
	wait := planEvery
	if r.leader.calm {
		wait = planCalm
	}
	if r.now-r.leader.planned >= wait {
		r.leader.plan = true
	}
}

// planMembers makes the next change of members, if one is due and none is under way.
func (r *Replica) planMembers() {
	l := &r.leader
	if !l.plan || !r.isLeader() || l.fresh || r.recovery.sealed(r.now) || !r.ownTermCommitted() {
		return
	}
	if l.changing || r.applied < l.begin || r.applied < l.changeAt {
		return // the library takes one at a time, and only once the one before is applied
	}
	l.plan = false
	l.planned = r.now
	for len(l.joins) > 0 {
		j := l.joins[0]
		l.joins = l.joins[1:]
		if r.table.Get(j.m.Member) == nil && !r.table.WasRemoved(j.m.Member) {
			r.propose(member.Op{Kind: member.Add, Member: wire.Member{
				ID: j.m.Member, Peer: j.peer, Nonce: j.m.Nonce, Preference: j.m.Preference, Durable: j.m.Durable,
			}})
			l.plan = true
			return
		}
	}
	r.tellRemoved()
	maps.DeleteFunc(l.silenced, func(_ id.PeerID, at time.Duration) bool { return r.now-at >= silentLately })
	states := r.memberStates(0)
	op, ok := member.Plan(states, r.cfg.MaxVoters)
	l.calm = !ok && member.Calm(states, r.cfg.MaxVoters)
	if r.cfg.Flaws.HastyRemoval {
		op, ok = hastyPlan(states, op, ok)
	}
	if r.cfg.Flaws.RashExpelling {
		op, ok = r.rashPlan(op, ok)
	}
	ok = ok && (r.confirmed(op) || r.cfg.Flaws.HastyRemoval || r.cfg.Flaws.RashExpelling)
	if r.now-l.committedAt >= r.cfg.Tick {
		l.commit, l.committedAt = r.commits, r.now
	}
	if !ok {
		return
	}
	if row := r.table.Get(op.Member.ID); op.Kind == member.Remove && !r.bondedWith(row.Peer) {
		l.silenced[row.Peer] = r.now
	}
	r.propose(op)
	l.plan = true
}

// confirmed reports whether a change is still right when only members count that were heard from since it was first
// considered. Silence is noticed late, and a change of voters must not be built on members that are gone already: with the
// next loss the majority would be lost for good.
func (r *Replica) confirmed(op member.Op) bool {
	l := &r.leader
	if op.Kind == member.Remove && !r.table.Get(op.Member.ID).Voter {
		return true
	}
	if l.intent == op {
		if again, ok := member.Plan(r.memberStates(l.asked), r.cfg.MaxVoters); ok && again == op {
			l.intent = member.Op{}
			return true
		}
		if r.now-l.asked < planEvery {
			return false
		}
	}
	l.intent, l.asked = op, r.now
	for _, who := range r.bonded() {
		r.sendHello(who, true)
	}
	return false
}

// tellRemoved tells peers that believe to be members that they were taken out, in case they have not heard. Only those
// are meant whose end is in the log: that this leader does not know a member may also mean that it leads no more.
func (r *Replica) tellRemoved() {
	for _, who := range r.bondedIf(func(p *peer) bool {
		return p.hello != nil && p.hello.Genesis == r.genesis && r.table.WasRemoved(p.hello.Member)
	}) {
		r.sayRemoved(who, r.peers[who].hello.Member)
	}
}

// memberStates is what the leader knows of the members. Those that were not heard from since the given time are not
// healthy.
func (r *Replica) memberStates(since time.Duration) []member.State {
	l := &r.leader
	match := make(map[uint64]uint64)
	r.rn.WithProgress(func(m uint64, _ raft.ProgressType, p tracker.Progress) { match[m] = p.Match })
	var out []member.State
	for _, row := range r.table.All() {
		s := member.State{
			ID: row.ID, Voter: row.Voter, Observer: row.Preference == member.Observer,
			Leader: row.ID == r.self, Leaving: r.departing(row),
			CaughtUp: match[row.ID] >= l.commit && l.commit > 0 && !r.onProbation(row.Peer),
		}
		if !s.Leader {
			s.Healthy, s.Dead = r.health(row)
			s.Healthy = s.Healthy && r.peers[row.Peer].seen >= since
		}
		out = append(out, s)
	}
	return out
}

// onProbation reports whether a peer was taken out for its silence and has not been back for long enough: one that comes
// and goes does more harm as a voter than as a learner.
func (r *Replica) onProbation(who id.PeerID) bool {
	_, was := r.leader.silenced[who]
	p := r.peers[who]
	return was && (p == nil || !p.up || r.now-p.since < stableFor)
}

// departing reports whether a member wants to be taken out, or has stopped waiting for that. As long as it is there all
// the same, it counts.
func (r *Replica) departing(row *member.Row) bool {
	if row.ID == r.self {
		return r.leaving.goes()
	}
	p := r.peers[row.Peer]
	says := p != nil && p.hello != nil && p.hello.Member == row.ID && p.hello.Leaving
	return says || r.leader.leavers[row.ID] || r.leavers[row.ID]
}

// onExpel has a leader take a peer that is not connected for dead, for a moment: whoever wants that says it again.
func (r *Replica) onExpel(m *wire.Expel) {
	if r.isLeader() && m.Genesis == r.genesis && r.table.Has(m.Peer) {
		r.leader.expelled[m.Peer], r.leader.plan = r.now, true
	}
}

// health judges a member: whether it is there, and whether it is gone for good.
func (r *Replica) health(row *member.Row) (healthy, dead bool) {
	p := r.peers[row.Peer]
	if r.provenDead(row) != "" {
		return false, true
	}
	if p != nil && p.up {
		h := p.hello
		switch {
		case h == nil:
			return false, false
		case h.Genesis != r.genesis:
			return false, false // about to begin
		default:
			return r.now-p.seen < silentBeats*r.cfg.Heartbeat, false
		}
	}
	seen := r.leader.since
	if p != nil {
		seen = max(seen, p.seen)
	}
	limit := r.cfg.VolatileRemoval
	if row.Durable {
		limit = r.cfg.DurableRemoval
	}
	at, expelled := r.leader.expelled[row.Peer]
	return false, r.leavers[row.ID] || r.now-seen >= limit || expelled && r.now-at < expelledFor
}

// propose puts a change of members into the log.
func (r *Replica) propose(op member.Op) {
	last, err := r.log.LastIndex()
	if err != nil || r.rn.ProposeConfChange(encodeChange(op)) != nil {
		return
	}
	r.stirred = true
	l := &r.leader
	l.changing, l.changeAt = true, last+1
}

// changed follows up on a change of members that was just handed out.
func (r *Replica) changed(index uint64, op member.Op) {
	r.dirty, r.recovery.look = true, true
	if !r.isLeader() {
		return
	}
	l := &r.leader
	if index >= l.changeAt {
		l.changing = false
	}
	l.plan = true
	switch row := r.table.Get(op.Member.ID); {
	case op.Kind == member.Add && row != nil:
		r.accept(row)
		r.newcomer()
	case op.Kind == member.Remove:
		delete(l.leavers, op.Member.ID)
		clear(l.expelled)
	}
}
