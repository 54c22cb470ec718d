package core

import (
	"math"
	"time"

	"go.etcd.io/raft/v3/raftpb"

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

	pending bool          // something in the log is not committed
	moved   time.Duration // since when, and nothing else was committed since
	movedTo uint64        // raft index committed then

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
	expelled    map[id.PeerID]time.Duration // peers that somebody wants to be taken out, and when that was last said
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
		leavers: make(map[uint64]bool), expelled: make(map[id.PeerID]time.Duration), silenced: make(map[id.PeerID]time.Duration),
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
			takeAnyway(l.calls, x.session, n) // only with a flaw
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
