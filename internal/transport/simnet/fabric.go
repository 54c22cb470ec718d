// Package simnet is a network in memory: a [Fabric] connects hosts that implement transport.Host, under delays, losses,
// partitions, crashes and pauses that a test chooses.
//
// Nothing in it does real I/O. All waiting is on channels, condition variables and timers, so it works inside a
// testing/synctest bubble, where hours pass in milliseconds, as well as outside. A Fabric starts no goroutine of its own;
// each host waits on Close for those it started.
//
// The model is a reliable transport such as TCP. Packets that are lost or that run into a partition are not gone: the
// connection stalls, and goes on when they get through. Only heartbeats, a reset or a crash end a connection. So the code
// above sees what it would see on a real network: silence first, an error later.
//
//	dial      hello ──delay──▶ judge       Each connection has one ordered lane for each direction. What is sent takes
//	          usable ◀─delay── hello       the lane's delay; while the direction is blocked, the lane holds everything back.
//	          done ───delay──▶ usable
package simnet

import (
	"container/heap"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Options is what a [Fabric] is made with. Zero fields take the documented defaults.
type Options struct {
	// Seed of all randomness: jitter and loss.
	Seed uint64
	// Link is the quality of every direction that SetLink does not change. The zero value means 1 ms of delay with up
	// to 0.5 ms of jitter.
	Link Link
	// Heartbeat is the interval of pings on an idle connection; zero means 2 s.
	Heartbeat time.Duration
	// DeadAfter is the silence after which a connection is closed; zero means 6 s.
	DeadAfter time.Duration
	// DialTimeout bounds one attempt to connect, hello included; zero means 3 s.
	DialTimeout time.Duration
	// Window is how many bytes of one direction of a stream may be written and not yet read; zero means 256 KiB. A
	// Write that finds it full waits.
	Window int
}

func (o Options) withDefaults() Options {
	if o.Link == (Link{}) {
		o.Link = Link{Delay: time.Millisecond, Jitter: time.Millisecond / 2}
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 2 * time.Second
	}
	if o.DeadAfter == 0 {
		o.DeadAfter = 6 * time.Second
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 3 * time.Second
	}
	if o.Window == 0 {
		o.Window = 256 << 10
	}
	return o
}

// Fabric connects hosts. All methods are safe for concurrent use. A Fabric that is used in a synctest bubble must be
// created in it. It needs no closing: when its hosts are closed nothing of it runs.
//
// One mutex guards the fabric, its hosts, connections and streams; nothing blocks or calls out while holding it.
type Fabric struct {
	opts Options

	mu     sync.Mutex
	seq    uint64 // orders events of the same instant, and numbers connections
	events eventQueue
	timer  *time.Timer // runs the earliest event
	wake   time.Time   // when timer is set to fire; zero: it is not set

	places  map[string]*place // by address, dead hosts included
	ports   uint64
	born    map[id.PeerID]transport.Incarnation // the latest incarnation given out
	conns   map[uint64]*conn                    // those with an end that is not closed
	links   map[direction]*linkState
	blocked map[direction]bool
	side    map[id.PeerID]int // side of the partition; absent peers are together on side zero
	alone   map[id.PeerID]bool
	paused  map[id.PeerID]bool
}

// place is an address, who has it, and, while it lives, the host there.
type place struct {
	peer id.PeerID
	host *host
}

// New returns a fabric without hosts.
func New(opts Options) *Fabric {
	return &Fabric{
		opts:    opts.withDefaults(),
		places:  make(map[string]*place),
		born:    make(map[id.PeerID]transport.Incarnation),
		conns:   make(map[uint64]*conn),
		links:   make(map[direction]*linkState),
		blocked: make(map[direction]bool),
		side:    make(map[id.PeerID]int),
		alone:   make(map[id.PeerID]bool),
		paused:  make(map[id.PeerID]bool),
	}
}

// number returns a number that was not returned before.
func (f *Fabric) number() uint64 {
	f.seq++
	return f.seq
}

// event is something that the fabric does at a time.
type event struct {
	at  time.Time
	seq uint64
	run func() // with the fabric locked
}

// eventQueue is a heap of events, earliest first. Its size is bounded by the connections: each has a few events pending.
type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = event{}
	*q = (*q)[:last]
	return e
}

// at runs fn at the given time with the fabric locked. Functions of the same time run in the order of the calls.
func (f *Fabric) at(t time.Time, fn func()) {
	heap.Push(&f.events, event{at: t, seq: f.number(), run: fn})
	f.setTimer()
}

func (f *Fabric) after(d time.Duration, fn func()) { f.at(time.Now().Add(d), fn) }

func (f *Fabric) setTimer() {
	if len(f.events) == 0 {
		return
	}
	next := f.events[0].at
	if !f.wake.IsZero() && !next.Before(f.wake) {
		return
	}
	f.wake = next
	if f.timer == nil {
		f.timer = time.AfterFunc(time.Until(next), f.runDue)
	} else {
		f.timer.Reset(time.Until(next))
	}
}

// runDue runs all events whose time has come.
func (f *Fabric) runDue() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake = time.Time{}
	for len(f.events) > 0 && !f.events[0].at.After(time.Now()) {
		heap.Pop(&f.events).(event).run()
	}
	f.setTimer()
}

// wait waits for a broadcast on c, whose lock is the fabric's, or until the deadline if there is one.
func (f *Fabric) wait(c *sync.Cond, deadline time.Time) {
	if deadline.IsZero() {
		c.Wait()
		return
	}
	t := time.AfterFunc(time.Until(deadline), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		c.Broadcast()
	})
	c.Wait()
	t.Stop()
}

// ends returns the ends of all connections in the order in which they were made.
func (f *Fabric) ends() []*end {
	var out []*end
	for _, n := range slices.Sorted(maps.Keys(f.conns)) {
		out = append(out, &f.conns[n].dialler, &f.conns[n].acceptor)
	}
	return out
}
