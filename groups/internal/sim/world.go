// Package sim runs engines under a virtual clock and a hostile network, all from one seed: the same seed gives the same
// run, message for message. Tests drive clients against it, compare the replicas with each other, and check what the
// clients saw for linearizability.
package sim

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Network says how messages travel. Bonds keep order while they last, as streams do; a message that is lost is lost
// because its bond broke, or, with Loss, because a full queue dropped it.
type Network struct {
	Delay, Jitter time.Duration
	Loss          float64 // probability that a message is dropped by itself
	Duplicate     float64 // probability that one arrives twice, the second time out of order
}

// World is a group of engines and everything around them.
type World struct {
	Net   Network
	Bugs  Bugs
	Rng   *rand.Rand
	Disks map[int]*disk      // of the machines that have one
	Tune  func(*core.Config) // changes the configuration of engines that start, may be nil

	Installed int // snapshots
	Diverged  int // images that differed from what the group agreed on

	// Filter, if not nil, says which messages arrive.
	Filter func(from, to *Node, m wire.Message) bool

	// Notice, if not nil, is told whenever a node has something new to show.
	Notice func(*Node)

	// Ended, if not nil, is told of every operation that ends.
	Ended func(*Op)
	// Applied, if not nil, is told of everything that is applied.
	Applied func(*Node, Entry)
	// Loaded, if not nil, is told when a node has its state from an image.
	Loaded func(*Node)

	now     time.Duration
	events  events
	seq     uint64
	nodes   []*Node
	cut     map[[2]int]bool // direction that silently loses everything
	catalog []id.PeerID     // what discovery lists
	lives   int
	rested  int // ticks that no engine was told of
	tracing bool
	trace   []string
	hash    uint64
	seed    uint64
}

// silence is how long it takes until a dead link is noticed that was not closed.
const silence = 6 * time.Second

// New returns an empty world.
func New(seed uint64, net Network) *World {
	return &World{
		Net:  net,
		Rng:  rand.New(rand.NewPCG(seed, 0x5eed)),
		cut:  make(map[[2]int]bool),
		hash: seed,
		seed: seed,

		Disks: make(map[int]*disk),
	}
}

// Now returns the virtual time.
func (w *World) Now() time.Duration { return w.now }

// Nodes returns all machines, each in its latest life, dead ones too.
func (w *World) Nodes() []*Node { return w.nodes }

// Digest is a hash over everything that happened so far. Two runs that have the same are the same.
func (w *World) Digest() uint64 { return w.hash }

// Keep makes the world remember what happens, for [World.Trace].
func (w *World) Keep() { w.tracing = true }

// Trace returns what happened, if the world was told to remember it.
func (w *World) Trace() []string { return w.trace }

// tracef notes something that happened.
func (w *World) tracef(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%10.4f ", w.now.Seconds())+fmt.Sprintf(format, args...))
	}
}

// mix adds something that happened to the digest.
func (w *World) mix(what []byte, numbers ...int) {
	h := fnv.New64a()
	var b [8]byte
	add := func(v uint64) { binary.LittleEndian.PutUint64(b[:], v); h.Write(b[:]) }
	add(w.hash)
	add(uint64(w.now))
	for _, n := range numbers {
		add(uint64(n))
	}
	h.Write(what)
	w.hash = h.Sum64()
}

// event is something to do at a time; equal times keep the order in which they were planned.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

// After plans something.
func (w *World) After(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, do})
}

// Run lets virtual time pass.
func (w *World) Run(d time.Duration) { w.Until(d, func() bool { return false }) }

// Until lets virtual time pass until cond holds, for at most d. It reports whether it does.
func (w *World) Until(d time.Duration, cond func() bool) bool {
	end := w.now + d
	for !cond() {
		if len(w.events) == 0 || w.events[0].at > end {
			w.now = end
			return cond()
		}
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	return true
}

// list puts a node on the catalog that discovery would have, or takes it off, and tells everybody.
func (w *World) list(who id.PeerID, on bool) {
	w.catalog = slices.DeleteFunc(w.catalog, func(p id.PeerID) bool { return p == who })
	if on {
		w.catalog = append(w.catalog, who)
	}
	for _, n := range w.nodes {
		n.do(func() { n.eng.Listed(n.clock(), w.catalog) })
	}
}

// connectLater brings up a bond after a moment, and tries again while the two cannot reach each other.
func (w *World) connectLater(a, b *Node) {
	w.After(10*time.Millisecond+time.Duration(w.Rng.Int64N(int64(20*time.Millisecond))), func() {
		if !a.Alive || !b.Alive || w.nodes[a.Index] != a || w.nodes[b.Index] != b || a.bonds[b.Index] != nil {
			return
		}
		if w.cut[[2]int{a.Index, b.Index}] || w.cut[[2]int{b.Index, a.Index}] || a.paused || b.paused {
			w.After(200*time.Millisecond, func() { w.connectLater(a, b) })
			return
		}
		w.seq++
		epoch := w.seq
		w.tracef("bond %v %v", a, b)
		for _, pair := range [][2]*Node{{a, b}, {b, a}} {
			x, y := pair[0], pair[1]
			x.bonds[y.Index] = &bond{epoch: epoch, since: w.now, last: w.now}
			x.do(func() { x.eng.PeerUp(x.clock(), y.Peer) })
		}
	})
}

// breakBond ends a bond on both sides. Silence is noticed late, a closed connection at once.
func (w *World) breakBond(a, b *Node, closed bool) {
	if a.bonds[b.Index] == nil {
		return
	}
	w.tracef("bond %v %v breaks, closed=%v", a, b, closed)
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		x, y := pair[0], pair[1]
		delete(x.bonds, y.Index)
		x.do(func() { x.eng.PeerDown(x.clock(), y.Peer, closed) })
	}
	if a.Alive && b.Alive {
		w.connectLater(a, b)
	}
}

// Cut makes everything in one direction vanish, without anybody being told. The bond breaks when the silence is noticed.
func (w *World) Cut(from, to int) {
	w.tracef("cut n%d -> n%d", from, to)
	w.cut[[2]int{from, to}] = true
	w.After(silence, func() {
		if w.cut[[2]int{from, to}] {
			w.breakBond(w.nodes[from], w.nodes[to], false)
		}
	})
}

// isolate cuts all links between machines of different parts.
func (w *World) isolate(part func(i int) int, n int) {
	for i := range n {
		for j := range n {
			if part(i) != part(j) {
				w.Cut(i, j)
				if i < len(w.nodes) && j < len(w.nodes) {
					w.breakBond(w.nodes[i], w.nodes[j], true)
				}
			}
		}
	}
}

// Heal ends all cuts.
func (w *World) Heal() {
	w.tracef("heal")
	clear(w.cut)
	// What was lost on a stream cannot be missing in its middle: bonds that lost something start anew.
	for i, a := range w.nodes {
		for _, b := range w.nodes[i+1:] {
			if a.Alive && b.Alive {
				if a.bonds[b.Index] != nil {
					w.breakBond(a, b, true)
				} else {
					w.connectLater(a, b)
				}
			}
		}
	}
}
