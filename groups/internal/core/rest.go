package core

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A group in which nothing goes on is at rest: every member has the whole log, knows it to be committed, and has applied
// it; nobody waits for anything, and nobody is missing. All that is left to do then is to make sure, again and again, that
// the leader and the others are there, and that needs no engine. The driver stops ticking it and exchanges pulses instead: a
// pulse is a heartbeat of the library without commit index and context, and its answer is the response to that. The
// driver can put those of all groups into one frame per peer.
//
// A pulse makes a follower no promise that a heartbeat would not: it says that the leader of this term is there, and
// nothing else. A member that is not at rest takes it for such a heartbeat. So it does no harm if only one of the two
// believes that nothing goes on. Reads and commits always go through the engines, which wakes them.
//
// When anything happens, or a member is not heard for two heartbeats, the engine is woken. It makes up for the ticks since
// it, or its members, were last heard, so that elections and the leader's stepping down come at the time at which they
// would have come otherwise.

// restAfter is how long nothing must have gone on before a member rests, or two heartbeats if that is longer. It is more than the pauses
// between the looks that a leader takes at members and log.
const restAfter = 1200 * time.Millisecond

// Rest is what the driver does in the place of an engine that is at rest. It is not safe for concurrent use.
type Rest struct {
	Leads  bool // this member sends pulses and gets answers; otherwise it is the other way round
	Term   uint64
	Member uint64      // the leader
	Every  int         // ticks from one pulse to the next
	Peers  []id.PeerID // the other members if this one leads, else the leader

	limit   int // ticks of silence after which the engine is woken
	ticks   int // since the rest began
	heard   []int
	members []uint64 // the other members, as Peers
}

// Tick counts a tick. It returns true if the engine must be woken since a peer is silent.
func (x *Rest) Tick() bool {
	x.ticks++
	return x.ticks-x.oldest() > x.limit
}

func (x *Rest) oldest() int {
	oldest := x.ticks
	for _, at := range x.heard {
		oldest = min(oldest, at)
	}
	return oldest
}

// Pulse takes a pulse. It returns true if it is to be answered by Pulsed, and false if it is something for the engine.
func (x *Rest) Pulse(from id.PeerID, m *wire.Pulse) bool {
	if x.Leads || m.Term != x.Term || m.Member != x.Member || from != x.Peers[0] {
		return false
	}
	x.heard[0] = x.ticks
	return true
}

// Pulsed takes an answer. It returns false if it is something for the engine.
func (x *Rest) Pulsed(from id.PeerID, m *wire.Pulsed) bool {
	if !x.Leads || m.Term != x.Term {
		return false
	}
	for i, who := range x.Peers {
		if who == from {
			x.heard[i] = x.ticks
			return true
		}
	}
	return false
}

// Wake ends a rest: it tells the engine what it has missed. It comes before anything else is told.
func (r *Replica) Wake(now time.Duration, x *Rest) {
	r.at(now)
	if r.ended || r.fatal != nil || r.rn == nil || r.term != x.Term || x.Leads != r.isLeader() {
		return
	}
	r.guard(func() { r.wake(x) })
}

func (r *Replica) wake(x *Rest) {
	oldest := x.oldest()
	for i, who := range x.Peers {
		if p := r.peers[who]; p != nil && p.up && x.heard[i] > 0 {
			p.seen = max(p.seen, r.now-time.Duration(x.ticks-x.heard[i])*r.cfg.Tick)
			if !x.Leads {
				r.heardLead = max(r.heardLead, p.seen)
			}
			r.stepBeat(x.Leads, x.members[i])
		}
	}
	for range x.ticks - oldest {
		r.rn.Tick()
	}
	for i, at := range x.heard {
		if x.Leads && at > oldest {
			r.stepBeat(true, x.members[i])
		}
	}
	r.stirred = true
}

// stepBeat gives the library a heartbeat of the leader, or a member's response to one.
func (r *Replica) stepBeat(response bool, from uint64) {
	typ, to, term := raftpb.MsgHeartbeat, r.self, r.term
	if response {
		typ = raftpb.MsgHeartbeatResp
	}
	r.step(&raftpb.Message{Type: &typ, From: &from, To: &to, Term: &term})
}

// onPulse takes a pulse while this member is not at rest.
func (r *Replica) onPulse(from id.PeerID, m *wire.Pulse) {
	typ, to := raftpb.MsgHeartbeat, r.self
	r.onRaft(from, &wire.Raft{Genesis: r.genesis, Msg: &raftpb.Message{Type: &typ, From: &m.Member, To: &to, Term: &m.Term}})
}

// onPulsed takes an answer to one while this member is not at rest.
func (r *Replica) onPulsed(from id.PeerID, m *wire.Pulsed) {
	if !r.isLeader() || m.Term != r.term {
		return
	}
	for _, row := range r.table.ByPeer(from) {
		r.stepBeat(true, row.ID)
	}
}

// rest decides, at the end of a Flush, whether the driver may let the engine rest. busy says that there is something else
// to be done.
func (r *Replica) rest(busy bool) *Rest {
	if busy || r.ended || r.fatal != nil || !r.settled() {
		r.busyAt = r.now
		return nil
	}
	if r.now-r.busyAt < max(restAfter, 2*r.cfg.Heartbeat) {
		return nil
	}
	every, election := int(r.cfg.Heartbeat/r.cfg.Tick), int(r.cfg.ElectionTimeout/r.cfg.Tick)
	x := &Rest{Leads: r.isLeader(), Term: r.term, Member: r.lead, Every: every, limit: min(2*every+1, election)}
	for _, row := range r.table.All() {
		if row.ID != r.self && (x.Leads || row.ID == r.lead) {
			x.Peers, x.members = append(x.Peers, row.Peer), append(x.members, row.ID)
		}
	}
	x.heard = make([]int, len(x.Peers))
	return x
}

// busyOutput reports whether what is about to be handed out is more than heartbeats.
func (q *queued) busyOutput() bool {
	for i := range q.send {
		m, ok := q.send[i].Message.(*wire.Raft)
		if !ok || m.Msg.GetType() != raftpb.MsgHeartbeat && m.Msg.GetType() != raftpb.MsgHeartbeatResp {
			return true
		}
	}
	return len(q.apply) > 0 || len(q.failed) > 0 || len(q.acked) > 0 || len(q.reads) > 0 || len(q.news) > 0 ||
		len(q.answer) > 0 || len(q.drop) > 0 || len(q.diverged) > 0 || q.fetch != nil || q.left || q.reset
}

// settled reports whether there is nothing that this member waits for, or has to do by itself some time.
func (r *Replica) settled() bool {
	if r.rn == nil || r.stirred || r.leaving.asked || r.resumed || r.met || !r.online() || r.campaign.at != 0 || r.try != nil {
		return false
	}
	if v := &r.recovery; v.look || v.lost != 0 || v.muster != nil || v.sealed(r.now) {
		return false
	}
	if len(r.asked) > 0 || len(r.client.calls) > 0 || len(r.reads.asked) > 0 || len(r.reads.waiting) > 0 ||
		len(r.persisting) > 0 || len(r.pledges) > 0 || len(r.applying) > 0 || len(r.parting.images) > 0 {
		return false
	}
	if last, err := r.log.LastIndex(); err != nil || r.handed != last || r.commits != last || r.applied != last {
		return false
	}
	if s := &r.snaps; s.wanted || s.markTerm != 0 || len(s.sent) > 0 || s.installed != 0 || r.fetch.id != 0 {
		return false
	}
	for _, im := range r.snaps.images {
		if !im.written || r.leased(im) {
			return false
		}
	}
	for _, p := range r.peers {
		if p.up && (p.hello == nil || p.hello.Genesis != r.genesis || p.heard != r.version || r.table.Get(p.hello.Member) == nil) {
			return false
		}
	}
	if r.isLeader() {
		return r.leadsSettled()
	}
	return r.bondedWith(r.leaderPeer()) && r.table.Get(r.self) != nil
}

// leadsSettled is settled for what only a leader has to do.
func (r *Replica) leadsSettled() bool {
	l, q := &r.leader, &r.reads
	if r.cfg.Preference != Normal || l.fresh || l.plan || !l.calm || l.changing || len(l.queue) > 0 ||
		len(l.early) > 0 || len(l.joins) > 0 || len(q.queue) > 0 || len(q.round) > 0 || r.rn.BasicStatus().LeadTransferee != 0 {
		return false
	}
	for _, row := range r.table.All() {
		if row.ID == r.self {
			continue
		}
		if healthy, _ := r.health(row); !healthy {
			return false
		}
	}
	has := true
	r.rn.WithProgress(func(_ uint64, _ raft.ProgressType, p tracker.Progress) {
		has = has && p.Match == r.commits && p.State == tracker.StateReplicate
	})
	return has
}
