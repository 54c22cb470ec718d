package core

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A strong read needs an index that was committed when the read began, or later, from a leader that was still the leader
// then. The leader makes sure by hearing from a majority (ReadIndex; Ongaro, Consensus: Bridging Theory and Practice,
// §6.4), and only once an entry of its own term is committed, since before that it does not know what its predecessors
// committed. One round serves all reads that wait; rounds are never reused.

// reading is the state of reads, of this member's own and, on a leader, of all that wait here.
type reading struct {
	waiting []*Read      // not asked for yet
	asked   []*readGroup // oldest first
	lastID  uint64
	retry   bool

	// On a leader.
	queue   []readWaiter
	round   []readWaiter // whose round is under way
	context uint64       // of that round
	roundAt time.Duration
	rounds  uint64 // started since this member leads
}

// readGroup is reads that share one answer.
type readGroup struct {
	id    uint64 // that the leader is asked with
	reads []*Read
	since time.Duration // of the oldest
	sent  time.Duration
}

type readWaiter struct {
	from id.PeerID
	id   uint64
}

// readsMost bounds the waiters on a leader. More are not queued; members ask again.
const readsMost = 1 << 16

func (r *Replica) Read(now time.Duration, x *Read) {
	r.at(now)
	if r.ended || r.fatal != nil {
		r.due.reads = append(r.due.reads, ReadReady{Read: x})
		return
	}
	x.since = r.now
	r.reads.waiting = append(r.reads.waiting, x)
}

// restart makes all reads wait for the next history.
func (q *reading) restart() {
	for _, g := range q.asked {
		q.waiting = append(q.waiting, g.reads...)
	}
	*q = reading{waiting: q.waiting, lastID: q.lastID}
}

// dropRound forgets what others asked of this member as leader; they will ask the next one.
func (q *reading) dropRound() { q.queue, q.round = nil, nil }

// sendReads asks the leader for an index, once for all reads that came since the last time.
func (r *Replica) sendReads() {
	q := &r.reads
	if len(q.waiting) == 0 && !q.retry {
		return
	}
	to, ok := r.reachableLeader()
	if !ok {
		return
	}
	if q.retry {
		q.retry = false
		for _, g := range q.asked {
			r.ask(to, g)
		}
	}
	if len(q.waiting) > 0 {
		q.lastID++
		g := &readGroup{id: q.lastID, reads: q.waiting, since: q.waiting[0].since}
		q.waiting = nil
		q.asked = append(q.asked, g)
		r.ask(to, g)
	}
}

func (r *Replica) ask(to id.PeerID, g *readGroup) {
	g.sent = r.now
	if to == r.cfg.Self {
		r.reads.queue = append(r.reads.queue, readWaiter{to, g.id})
		return
	}
	r.send(to, &wire.Read{Genesis: r.genesis, ID: g.id})
}

func (r *Replica) onRead(from id.PeerID, m *wire.Read) {
	if r.isLeader() && m.Genesis == r.genesis && len(r.reads.queue) < readsMost {
		r.reads.queue = append(r.reads.queue, readWaiter{from, m.ID})
	}
}

// startReadRound begins a round for all that wait, unless one is under way.
func (r *Replica) startReadRound() {
	q := &r.reads
	if len(q.queue) == 0 || !r.isLeader() {
		return
	}
	if f := r.cfg.Flaws; f.LonelyReads || f.UngatedReads && !r.ownTermCommitted() {
		r.answerReads(q.queue, r.commits)
		q.queue = nil
		return
	}
	if !r.ownTermCommitted() {
		return
	}
	if len(q.round) > 0 {
		if r.now-q.roundAt < 2*r.cfg.Heartbeat {
			return
		}
		q.queue = append(q.queue, q.round...)
	}
	q.round, q.queue = q.queue, nil
	q.roundAt = r.now
	if len(r.conf.Voters) > 1 {
		q.rounds++ // a single voter confirms itself without a round
	}
	q.context++
	r.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, q.context))
	r.stirred = true
}

// onReadState ends a round.
func (r *Replica) onReadState(s raft.ReadState) {
	q := &r.reads
	if len(s.RequestCtx) != 8 || binary.BigEndian.Uint64(s.RequestCtx) != q.context || !r.isLeader() {
		return
	}
	round := q.round
	q.round = nil
	r.answerReads(round, s.Index)
}

func (r *Replica) answerReads(round []readWaiter, index uint64) {
	for _, w := range round {
		if w.from == r.cfg.Self {
			r.readable(w.id, index)
		} else {
			r.send(w.from, &wire.ReadIndex{Genesis: r.genesis, ID: w.id, Index: index})
		}
	}
}

// onReadIndex takes an answer. Whichever leader gives it, it was given after the question, so it serves.
func (r *Replica) onReadIndex(m *wire.ReadIndex) {
	if r.rn != nil && m.Genesis == r.genesis {
		r.readable(m.ID, m.Index)
	}
}

// readable answers reads: they are served once index is applied here.
func (r *Replica) readable(n uint64, index uint64) {
	q := &r.reads
	i, is := slices.BinarySearchFunc(q.asked, n, func(g *readGroup, n uint64) int { return cmp.Compare(g.id, n) })
	if !is {
		return
	}
	g := q.asked[i]
	q.asked = slices.Delete(q.asked, i, i+1)
	for _, x := range g.reads {
		r.due.reads = append(r.due.reads, ReadReady{Read: x, OK: true, RaftIndex: r.offset + index})
	}
}

// tickReads asks again and gives up.
func (r *Replica) tickReads() {
	q := &r.reads
	q.asked = slices.DeleteFunc(q.asked, func(g *readGroup) bool {
		if r.now-g.since >= r.cfg.Patience {
			r.unreadable(g.reads)
			return true
		}
		if r.now-g.sent >= 2*r.cfg.Heartbeat && !r.isLeader() {
			if to, ok := r.reachableLeader(); ok {
				r.ask(to, g)
			}
		}
		return false
	})
	kept := q.waiting[:0]
	for _, x := range q.waiting {
		if r.now-x.since >= r.cfg.Patience {
			r.unreadable([]*Read{x})
		} else {
			kept = append(kept, x)
		}
	}
	clear(q.waiting[len(kept):])
	q.waiting = kept
}

func (r *Replica) unreadable(reads []*Read) {
	for _, x := range reads {
		r.due.reads = append(r.due.reads, ReadReady{Read: x})
	}
}

// failReads ends all reads.
func (r *Replica) failReads() {
	for _, g := range r.reads.asked {
		r.unreadable(g.reads)
	}
	r.unreadable(r.reads.waiting)
	r.reads.asked, r.reads.waiting = nil, nil
}
