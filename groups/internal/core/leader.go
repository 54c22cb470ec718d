package core

import (
	"maps"
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Bounds of what a leader holds for others.
const (
	queueBytesMost = 64 << 20 // calls that wait for a place in an entry; more are dropped, and sent again later
	earlyMost      = 256      // forwards that came before the leader knew its own log
	joinsMost      = 1024
)

// leading is what a member knows only while it leads.
type leading struct {
	fresh bool // the log's tail was not looked at yet
	ready bool // an entry of the own term is committed
	since time.Duration
	begin uint64 // raft index of the first entry of the own term

	end   Index             // user index at the end of the log
	calls *member.Sessions  // as of the end of the log
	line  genesis.Line      // as of the end of the log
	next  map[uint64]uint64 // by session: the number of the last call that waits in queue

	controlAt uint64 // raft index of the last control entry in the log
	merger    genesis.Merger
	guests    map[wire.Genesis]*guest // histories that are being taken in
	backlog   replayed                // the own calls, for another history to take in
	handedAt  time.Duration           // last try to hand over to a member that would rather lead

	queue      []waitingRun
	queueBytes int
	early      []earlyForward

	changing    bool   // a change of members is in the log and not applied
	changeAt    uint64 // its raft index
	plan        bool   // look at the members now
	calm        bool   // there was nothing to do, nor to wait for, when they were last looked at
	planned     time.Duration
	commit      uint64 // raft index that members must hold to count as caught up: committed a moment ago
	committedAt time.Duration
	joins       []joiner
	leavers     map[uint64]bool             // members that asked to be taken out
	intent      member.Op                   // a change that waits for the members to show that they are there
	asked       time.Duration               // when they were asked to
	silenced    map[id.PeerID]time.Duration // peers that were taken out because they were silent, and when
}

type waitingRun struct {
	run
	owner uint64 // member whose calls they are
	ack   bool   // it wants to know where they are in the log
}

// callsNext returns the number of the session's last call, counting what waits in queue.
func (l *leading) callsNext(session uint64) uint64 {
	if n, ok := l.next[session]; ok {
		return n
	}
	if l.calls == nil {
		return 0
	}
	return l.calls.Calls(session)
}

// size is what the run counts in the queue.
func (x *run) size() (n int) {
	for i := range x.items {
		n += len(x.items[i].Payload) + runOverhead
	}
	return n
}

type earlyForward struct {
	from id.PeerID
	m    *wire.Forward
}

type joiner struct {
	peer id.PeerID
	m    *wire.Join
}

// takeOver begins a term as leader.
func (r *Replica) takeOver() {
	r.leader = leading{
		fresh: true, since: r.now, plan: true,
		next:    make(map[uint64]uint64),
		leavers: make(map[uint64]bool), silenced: make(map[id.PeerID]time.Duration),
	}
	r.reads.rounds = 0
	r.reads.dropRound()
}

// stepDown ends a term as leader. What waits here is sent again by those whose calls it is.
func (r *Replica) stepDown() {
	r.leader = leading{}
	r.reads.dropRound()
}

// learnTail finds out what the log holds beyond what was handed out: how many commands, and each member's last call.
// It does what applying will do.
func (r *Replica) learnTail() bool {
	l := &r.leader
	last, err := r.log.LastIndex()
	if err != nil {
		return false
	}
	entries, err := r.log.Entries(r.handed+1, last+1, math.MaxUint64)
	if err != nil && last > r.handed {
		return false
	}
	l.end = r.index
	l.calls, l.line = r.table.Sessions.Clone(), r.line.Clone()
	l.begin = last
	for _, e := range entries {
		switch e.GetType() {
		case raftpb.EntryNormal:
			if e.GetTerm() == r.term {
				l.begin = min(l.begin, e.GetIndex())
			}
			if isControl(e.Data) {
				if err := l.followControl(e.Data); err != nil {
					r.fatal = err
					return false
				}
				l.controlAt = e.GetIndex()
				continue
			}
			var session uint64
			err := eachItem(e.Data, func(s uint64, _ int) { session = s }, func(number uint64, count int, _ []byte) {
				if l.line.Phase == genesis.Active && l.calls.Take(session, number) {
					l.end += Index(count)
				}
			})
			if err != nil {
				r.fatal = err
				return false
			}
		case raftpb.EntryConfChangeV2:
			if _, err := changeOf(e); err != nil {
				r.fatal = err
				return false
			}
			l.changing, l.changeAt = true, e.GetIndex()
		}
	}
	clear(l.next)
	l.queue, l.queueBytes = nil, 0
	l.fresh = false
	early := l.early
	l.early = nil
	for _, e := range early {
		r.onForward(e.from, e.m)
	}
	return true
}

// onForward takes calls of another member.
func (r *Replica) onForward(from id.PeerID, m *wire.Forward) {
	if !r.isLeader() || m.Genesis != r.genesis {
		return // the sender will learn who leads, and send again
	}
	row := r.table.Get(m.Member)
	if row == nil || row.Peer != from || m.Session == 0 {
		return
	}
	for i := range m.Items {
		if len(m.Items[i].Payload) > r.cfg.MaxEntryBytes {
			return // its own engine would not have taken it
		}
	}
	l := &r.leader
	if l.fresh {
		if len(l.early) < earlyMost {
			l.early = append(l.early, earlyForward{from, m})
		}
		return
	}
	have := l.callsNext(m.Session)
	if f := r.cfg.Flaws; (f.TakeAgain || f.TakeGaps && m.First > have) && len(m.Items) > 0 {
		have = m.First - 1
	}
	if m.First > have+1 {
		r.send(from, &wire.Expect{Genesis: r.genesis, Next: have + 1})
		return
	}
	if skip := have + 1 - m.First; skip < uint64(len(m.Items)) {
		r.enqueue(waitingRun{run{m.Session, have + 1, m.Items[skip:]}, m.Member, m.Ack})
	}
}

// enqueue puts calls in line for the log. Their numbers follow on what the line and the log hold. It reports whether
// they were taken.
func (r *Replica) enqueue(x waitingRun) bool {
	l := &r.leader
	size := x.size()
	if l.queueBytes+size > queueBytesMost {
		return false
	}
	l.queueBytes += size
	l.next[x.session] = x.last()
	l.queue = append(l.queue, x)
	return true
}

// proposeWaiting puts what waits into the log, as one entry, unless enough entries are under way: then it waits for
// one of them, and more collects meanwhile.
func (r *Replica) proposeWaiting() {
	l := &r.leader
	if !r.isLeader() || r.recovery.sealed(r.now) || l.fresh && !r.learnTail() || l.line.Phase != genesis.Active {
		return
	}
	r.enqueueOwn()
	if len(l.queue) == 0 {
		return
	}
	if last, err := r.log.LastIndex(); err != nil || last-r.commits >= uint64(r.cfg.MaxInflight) {
		return
	}
	size, runs, cut := 0, 0, 0 // whole runs, and items of the one after them
	for ; runs < len(l.queue); runs++ {
		size += runOverhead
		items := l.queue[runs].items
		for cut = 0; cut < len(items); cut++ {
			n := len(items[cut].Payload) + runOverhead/2
			if size+n > r.cfg.MaxEntryBytes+2*runOverhead && size > runOverhead {
				break
			}
			size += n
		}
		if cut < len(items) {
			break
		}
		cut = 0
	}
	data := make([]byte, 0, size)
	for i := range l.queue[:runs] {
		data = appendRun(data, &l.queue[i].run)
	}
	var part waitingRun
	if cut > 0 {
		part = l.queue[runs]
		part.items = part.items[:cut]
		data = appendRun(data, &part.run)
	}
	if err := r.rn.Propose(data); err != nil {
		return // too much is uncommitted, or leadership is being handed over: it goes on after that
	}
	r.stirred = true
	for i := range l.queue[:runs] {
		r.proposed(&l.queue[i])
	}
	if cut > 0 {
		r.proposed(&part)
		rest := &l.queue[runs]
		rest.items = rest.items[cut:]
		rest.first += uint64(cut)
	}
	n := copy(l.queue, l.queue[runs:])
	clear(l.queue[n:])
	l.queue = l.queue[:n]
}

// proposed books a run that is in the log now, and tells its member where, if it wants to know.
func (r *Replica) proposed(x *waitingRun) {
	l := &r.leader
	at := l.end + 1
	for i := range x.items {
		if n := x.first + uint64(i); !l.calls.Take(x.session, n) {
			l.calls.Skip(x.session, n) // only with a flaw
		}
		l.end += Index(x.items[i].Count)
		l.queueBytes -= len(x.items[i].Payload) + runOverhead
	}
	if l.next[x.session] <= x.last() {
		delete(l.next, x.session)
	}
	if !x.ack {
		return
	}
	if x.owner == r.self {
		r.acked(x.first, uint64(len(x.items)), at)
	} else if to, ok := r.peerOf(x.owner); ok {
		r.send(to, &wire.Ack{Genesis: r.genesis, First: x.first, Calls: uint64(len(x.items)), Index: at})
	}
}

// ownTermCommitted reports whether an entry of the leader's own term is committed. Before that it does not know all that
// was committed before it.
func (r *Replica) ownTermCommitted() bool {
	l := &r.leader
	if !l.ready && r.isLeader() && !l.fresh {
		t, err := r.log.Term(r.commits)
		l.ready = err == nil && t == r.term
		r.dirty = r.dirty || l.ready
	}
	return l.ready
}

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
		r.send(from, &wire.Removed{Genesis: r.genesis, Member: m.Member})
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

func (r *Replica) accept(row *member.Row) {
	r.send(row.Peer, &wire.Accept{Origin: r.origin, Member: row.ID})
}

// onLeave notes that a member wants to go.
func (r *Replica) onLeave(from id.PeerID, m *wire.Leave) {
	if r.rn == nil || m.Genesis != r.genesis {
		return
	}
	if r.table.WasRemoved(m.Member) {
		r.send(from, &wire.Left{Genesis: r.genesis, Member: m.Member})
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
	ok = ok && (r.confirmed(op) || r.cfg.Flaws.HastyRemoval)
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
		r.send(who, &wire.Removed{Genesis: r.genesis, Member: r.peers[who].hello.Member})
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
	return false, r.leavers[row.ID] || r.now-seen >= limit
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
	}
}
