package core

import (
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

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
	fresh    bool // the log's tail was not looked at yet
	ready    bool // an entry of the own term is committed
	since    time.Duration
	begin    uint64 // raft index of the first entry of the own term
	transfer bool   // leadership is being handed over: no proposals

	end   Index             // user index at the end of the log
	tail  Index             // end, less what was handed out; only whether it is zero matters
	calls map[uint64]uint64 // of every member, as of the end of the log: the number of its last call
	next  map[uint64]uint64 // the same, counting what waits in queue

	queue      []waitingRun
	queueBytes int
	early      []earlyForward

	changing bool   // a change of members is in the log and not applied
	changeAt uint64 // its raft index
	plan     bool   // look at the members now
	planned  time.Duration
	commit   uint64 // when the members were last looked at
	joins    []joiner
	dead     map[uint64]bool // members that will not come back
	leavers  map[uint64]bool // members that asked to be taken out
}

type waitingRun struct {
	run
	ack bool
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
		calls: make(map[uint64]uint64), next: make(map[uint64]uint64),
		dead: make(map[uint64]bool), leavers: make(map[uint64]bool),
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
	clear(l.calls)
	for _, row := range r.table.All() {
		l.calls[row.ID] = row.Calls
	}
	l.begin = last
	for _, e := range entries {
		switch e.GetType() {
		case raftpb.EntryNormal:
			if e.GetTerm() == r.term {
				l.begin = min(l.begin, e.GetIndex())
			}
			var who uint64
			err := eachItem(e.Data, func(m uint64) { who = m }, func(number uint64, count int, _ []byte) {
				if have, is := l.calls[who]; is && number == have+1 {
					l.calls[who] = number
					l.end += Index(count)
				}
			})
			if err != nil {
				r.fatal = err
				return false
			}
		case raftpb.EntryConfChangeV2:
			ops, err := changeOf(e)
			if err != nil {
				r.fatal = err
				return false
			}
			l.changing, l.changeAt = true, e.GetIndex()
			for _, op := range ops {
				switch _, is := l.calls[op.Member.ID]; {
				case op.Kind == member.Remove:
					delete(l.calls, op.Member.ID)
				case op.Kind == member.Add && !is && !r.table.WasRemoved(op.Member.ID):
					l.calls[op.Member.ID] = 0
				}
			}
		}
	}
	l.next = make(map[uint64]uint64, len(l.calls))
	for m, n := range l.calls {
		l.next[m] = n
	}
	l.queue, l.queueBytes = nil, 0
	l.tail = l.end - r.index
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
	if row == nil || row.Peer != from {
		return
	}
	l := &r.leader
	if l.fresh {
		if len(l.early) < earlyMost {
			l.early = append(l.early, earlyForward{from, m})
		}
		return
	}
	have, is := l.next[m.Member]
	if !is {
		return // on its way out
	}
	if m.First > have+1 {
		r.send(from, &wire.Expect{Genesis: r.genesis, Next: have + 1})
		return
	}
	if skip := have + 1 - m.First; skip < uint64(len(m.Items)) {
		r.enqueue(run{m.Member, have + 1, m.Items[skip:]}, m.Ack)
	}
}

// enqueue puts calls in line for the log. Their numbers follow on what the line and the log hold. It reports whether
// they were taken.
func (r *Replica) enqueue(x run, ack bool) bool {
	l := &r.leader
	size := 0
	for i := range x.items {
		n := len(x.items[i].Payload) + runOverhead
		if n > r.cfg.MaxEntryBytes+2*runOverhead {
			return false
		}
		size += n
	}
	if l.queueBytes+size > queueBytesMost {
		return false
	}
	l.queueBytes += size
	l.next[x.member] = x.last()
	l.queue = append(l.queue, waitingRun{x, ack})
	return true
}

// proposeWaiting puts what waits into the log, as one entry, unless enough entries are under way: then it waits for
// one of them, and more collects meanwhile. It reports whether it proposed.
func (r *Replica) proposeWaiting() bool {
	l := &r.leader
	if !r.isLeader() || l.transfer {
		return false
	}
	if l.fresh && !r.learnTail() {
		return false
	}
	r.enqueueOwn()
	if len(l.queue) == 0 {
		return false
	}
	last, _ := r.log.LastIndex()
	if last-r.committed() >= uint64(r.cfg.MaxInflight) {
		return false
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
		return false // too much is uncommitted: it goes on once something is committed
	}
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
	return true
}

// proposed books a run that is in the log now, and tells its member where, if it wants to know.
func (r *Replica) proposed(x *waitingRun) {
	l := &r.leader
	at := l.end + 1
	for i := range x.items {
		l.end += Index(x.items[i].Count)
		l.queueBytes -= len(x.items[i].Payload) + runOverhead
	}
	l.tail = l.end - r.index
	l.calls[x.member] = x.last()
	if !x.ack {
		return
	}
	if x.member == r.self {
		r.acked(x.first, uint64(len(x.items)), at)
	} else if to, ok := r.peerOf(x.member); ok {
		r.send(to, &wire.Ack{Genesis: r.genesis, First: x.first, Calls: uint64(len(x.items)), Index: at})
	}
}

// committed returns the raft index up to which the library knows entries to be committed.
func (r *Replica) committed() uint64 { return r.rn.BasicStatus().GetCommit() }

// ownTermCommitted reports whether an entry of the leader's own term is committed. Before that it does not know all that
// was committed before it.
func (r *Replica) ownTermCommitted() bool {
	l := &r.leader
	if !l.ready && r.isLeader() && !l.fresh {
		t, err := r.log.Term(r.committed())
		l.ready = err == nil && t == r.term
		r.dirty = r.dirty || l.ready
	}
	return l.ready
}

// onJoin takes in a new member, as a learner at first.
func (r *Replica) onJoin(from id.PeerID, m *wire.Join) {
	if !r.isLeader() || m.Genesis != r.genesis || m.Member == 0 || m.Member >= raft.LocalApplyThread || m.Member >= raft.LocalAppendThread {
		return
	}
	if row := r.table.Get(m.Member); row != nil {
		if row.Peer == from {
			r.accept(row)
		}
		return
	}
	if r.table.WasRemoved(m.Member) {
		return // its hello is answered with the news
	}
	l := &r.leader
	known := func(j joiner) bool { return j.peer == from }
	if i := slices.IndexFunc(l.joins, known); i >= 0 {
		l.joins[i].m = m
	} else if len(l.joins) < joinsMost {
		l.joins = append(l.joins, joiner{from, m})
	}
	l.plan = true
}

func (r *Replica) accept(row *member.Row) {
	r.send(row.Peer, &wire.Accept{Genesis: r.genesis, Member: row.ID, Founder: r.founder})
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
	if row := r.table.Get(m.Member); r.isLeader() && row != nil && row.Peer == from {
		r.leader.dead[m.Member] = true
		r.leader.plan = true
	}
}

func (r *Replica) tickLeader() {
	if !r.isLeader() {
		return
	}
	r.ownTermCommitted()
	if r.now-r.leader.planned >= planEvery {
		r.leader.plan = true
	}
}

// planMembers makes the next change of members, if one is due and none is under way.
func (r *Replica) planMembers() {
	l := &r.leader
	if !l.plan || !r.isLeader() || l.fresh || l.transfer || !r.ownTermCommitted() || len(r.conf.VotersOutgoing) > 0 {
		return
	}
	if l.changing || r.applied < l.begin || r.applied < l.changeAt {
		return
	}
	l.plan = false
	l.planned = r.now
	for len(l.joins) > 0 {
		j := l.joins[0]
		l.joins = l.joins[1:]
		if r.table.Get(j.m.Member) == nil {
			r.propose([]member.Op{{Kind: member.Add, Member: wire.Member{
				ID: j.m.Member, Peer: j.peer, Nonce: j.m.Nonce, Preference: j.m.Preference,
			}}})
			l.plan = true
			return
		}
	}
	if ops := member.Plan(r.memberStates(), r.cfg.MaxVoters); len(ops) > 0 {
		r.propose(ops)
		l.plan = true
	}
}

// memberStates is what the leader knows of the members.
func (r *Replica) memberStates() []member.State {
	l := &r.leader
	match := make(map[uint64]uint64)
	r.rn.WithProgress(func(m uint64, _ raft.ProgressType, p progress) { match[m] = p.Match })
	var out []member.State
	for _, row := range r.table.All() {
		s := member.State{
			ID: row.ID, Voter: row.Voter, Observer: row.Preference == member.Observer,
			Leader: row.ID == r.self, Leaving: l.leavers[row.ID] || row.ID == r.self && r.leaving.asked,
			CaughtUp: match[row.ID] >= l.commit && l.commit > 0,
		}
		if !s.Leader {
			s.Healthy, s.Dead = r.health(row)
		}
		out = append(out, s)
	}
	l.commit = r.committed()
	return out
}

// health judges a member: whether it is there, and whether it is gone for good.
func (r *Replica) health(row *member.Row) (healthy, dead bool) {
	if r.leader.dead[row.ID] {
		return false, true
	}
	p := r.peers[row.Peer]
	if p != nil && p.up {
		if p.hello == nil {
			return false, false
		}
		if p.hello.Nonce != row.Nonce {
			return false, true // the same node, in a new life
		}
		return p.hello.Genesis == r.genesis && p.hello.Member == row.ID, false
	}
	seen := r.leader.since
	if p != nil {
		seen = max(seen, p.seen)
	}
	return false, r.now-seen >= r.cfg.VolatileRemoval
}

// propose puts a change of members into the log.
func (r *Replica) propose(ops []member.Op) {
	change := &raftpb.ConfChangeV2{Context: member.Encode(ops)}
	for _, op := range ops {
		var t raftpb.ConfChangeType
		switch op.Kind {
		case member.Add, member.Demote:
			t = raftpb.ConfChangeAddLearnerNode
		case member.Promote:
			t = raftpb.ConfChangeAddNode
		case member.Remove:
			t = raftpb.ConfChangeRemoveNode
		}
		who := op.Member.ID
		change.Changes = append(change.Changes, &raftpb.ConfChangeSingle{Type: &t, NodeId: &who})
	}
	last, _ := r.log.LastIndex()
	if err := r.rn.ProposeConfChange(change); err != nil {
		return
	}
	l := &r.leader
	l.changing, l.changeAt = true, last+1
	for _, op := range ops {
		switch op.Kind {
		case member.Remove:
			delete(l.calls, op.Member.ID)
			delete(l.next, op.Member.ID)
		case member.Add:
			l.calls[op.Member.ID] = 0
			l.next[op.Member.ID] = 0
		}
	}
}

// changed follows up on a change of members that was just handed out.
func (r *Replica) changed(index uint64, ops []member.Op) {
	r.dirty = true
	for _, op := range ops {
		delete(r.routes, op.Member.ID)
	}
	if !r.isLeader() {
		return
	}
	l := &r.leader
	if index >= l.changeAt {
		l.changing = false
	}
	l.plan = true
	for _, op := range ops {
		switch row := r.table.Get(op.Member.ID); {
		case op.Kind == member.Add && row != nil:
			r.accept(row)
		case op.Kind == member.Remove:
			delete(l.leavers, op.Member.ID)
			delete(l.dead, op.Member.ID)
			delete(l.calls, op.Member.ID)
			delete(l.next, op.Member.ID)
		}
	}
}
