// Package sim runs engines under a virtual clock and a hostile network, all from one seed: the same seed gives the same
// run. Tests drive clients against it and check what they saw for linearizability.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
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
	Net Network
	Rng *rand.Rand

	now    time.Duration
	events events
	seq    uint64
	nodes  []*Node
	cut    map[[2]int]bool // direction that silently loses everything
	trace  []string
	faults Faults
}

// Faults are bugs put in on purpose, to see that the checks find them.
type Faults struct {
	DoubleApply bool // an item is applied twice now and then
	StaleRead   bool // a strong read is answered without asking anybody
	LoseApply   bool // an item is skipped now and then
	EarlyAck    bool // a call is acknowledged when it is sent
}

// New returns an empty world.
func New(seed uint64, net Network) *World {
	return &World{
		Net: net,
		Rng: rand.New(rand.NewPCG(seed, 0x5eed)),
		cut: make(map[[2]int]bool),
	}
}

// Now returns the virtual time.
func (w *World) Now() time.Duration { return w.now }

// tracef remembers a line for the report of a failure.
func (w *World) tracef(format string, args ...any) {
	if len(w.trace) > 4000 {
		w.trace = slices.Delete(w.trace, 0, 2000)
	}
	w.trace = append(w.trace, fmt.Sprintf("%9.3f ", w.now.Seconds())+fmt.Sprintf(format, args...))
}

// Trace returns the latest lines.
func (w *World) Trace() []string { return w.trace }

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

// Node is one machine in one life.
type Node struct {
	w       *World
	Index   int
	Peer    id.PeerID
	Life    int
	Alive   bool
	eng     *core.Replica
	out     core.Output
	bonds   map[int]*bond
	applyQ  []core.Apply
	busy    bool          // the applier is at work
	Slow    time.Duration // of applying one run
	rate    float64       // of its clock
	State   Machine
	Applied core.Index // user index applied
	raftAt  uint64
	Status  *core.Status
	Left    bool
	Fatal   error
	Log     []Entry // everything applied, for comparing replicas
	waiting []*readWait
	Onboard func(*Node)
}

// Entry is one applied command.
type Entry struct {
	Index core.Index
	Cmd   string
}

type bond struct {
	epoch   uint64
	deliver time.Duration // of the latest message, so that order is kept
}

type readWait struct {
	at   uint64
	done func(ok bool)
}

// GroupID is the group of all worlds.
var GroupID = id.Of("simulated group")

// Config returns the engine's configuration in a world.
func (w *World) Config(n *Node, pref core.Preference, expect int) core.Config {
	return core.Config{
		Group: GroupID, Self: n.Peer, Incarnation: int64(n.Life), BootNonce: w.Rng.Uint64(), Seed: w.Rng.Uint64(),
		Preference: pref, Expect: expect,
		Tick: 100 * time.Millisecond, Heartbeat: 500 * time.Millisecond, ElectionTimeout: 2 * time.Second,
		BootstrapDelay: 3 * time.Second, VolatileRemoval: 10 * time.Second, Patience: 10 * time.Second,
		MaxVoters: 5, MaxInflight: 4, MaxEntryBytes: 1 << 20, MaxPendingCalls: 1024, MaxPendingBytes: 8 << 20,
		MaxUncommitted: 64 << 20,
	}
}

// Start adds a machine, or starts one that is down in a new life, with nothing of the old one.
func (w *World) Start(index int, pref core.Preference, expect int) *Node {
	n := &Node{w: w, Index: index, Alive: true, bonds: make(map[int]*bond), rate: 1, State: Machine{}}
	n.Peer = id.PeerID{byte(index + 1)}
	if index < len(w.nodes) {
		n.Life = w.nodes[index].Life + 1
		w.nodes[index] = n
	} else {
		w.nodes = append(w.nodes, n)
	}
	log, err := logstore.Memory().Open(GroupID)
	if err != nil {
		panic(err)
	}
	if n.eng, err = core.New(w.Config(n, pref, expect), log); err != nil {
		panic(err)
	}
	w.tracef("n%d.%d starts", index, n.Life)
	n.tick()
	for _, o := range w.nodes {
		if o != n && o.Alive {
			w.connectLater(n, o)
		}
	}
	return n
}

// Nodes returns all machines, dead ones too.
func (w *World) Nodes() []*Node { return w.nodes }

func (n *Node) tick() {
	if !n.Alive {
		return
	}
	n.eng.Tick(n.clock())
	n.flush()
	n.w.After(time.Duration(float64(100*time.Millisecond)/n.rate), n.tick)
}

// clock is the node's own idea of the time.
func (n *Node) clock() time.Duration { return time.Duration(float64(n.w.now) * n.rate) }

// SetRate makes a node's clock run faster or slower than the world's.
func (n *Node) SetRate(rate float64) {
	// The engine ignores a clock that steps back, so a slower one only starts to count once it has caught up.
	n.rate = rate
}

// connectLater brings up a bond after a moment, and tries again while the two cannot reach each other.
func (w *World) connectLater(a, b *Node) {
	w.After(10*time.Millisecond+time.Duration(w.Rng.Int64N(int64(20*time.Millisecond))), func() {
		if !a.Alive || !b.Alive || w.nodes[a.Index] != a || w.nodes[b.Index] != b || a.bonds[b.Index] != nil {
			return
		}
		if w.cut[[2]int{a.Index, b.Index}] || w.cut[[2]int{b.Index, a.Index}] {
			w.After(200*time.Millisecond, func() { w.connectLater(a, b) })
			return
		}
		w.seq++
		epoch := w.seq
		a.bonds[b.Index] = &bond{epoch: epoch, deliver: w.now}
		b.bonds[a.Index] = &bond{epoch: epoch, deliver: w.now}
		a.eng.PeerUp(a.clock(), b.Peer)
		b.eng.PeerUp(b.clock(), a.Peer)
		a.flush()
		b.flush()
	})
}

// breakBond ends a bond on both sides. Silence is noticed late, a closed connection at once.
func (w *World) breakBond(a, b *Node, closed bool) {
	if a.bonds[b.Index] == nil {
		return
	}
	delete(a.bonds, b.Index)
	delete(b.bonds, a.Index)
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		if x := pair[0]; x.Alive {
			x.eng.PeerDown(x.clock(), pair[1].Peer, closed)
			x.flush()
		}
	}
	if a.Alive && b.Alive {
		w.connectLater(a, b)
	}
}

// flush carries out what the engine wants.
func (n *Node) flush() {
	if !n.Alive {
		return
	}
	n.eng.Flush(n.clock(), &n.out)
	out := &n.out
	for _, e := range out.Send {
		n.post(e)
	}
	if out.Reset {
		n.w.tracef("n%d.%d begins anew", n.Index, n.Life)
		n.State, n.Applied, n.Log, n.applyQ = Machine{}, 0, nil, nil
	}
	n.applyQ = append(n.applyQ, out.Apply...)
	for _, f := range out.Failed {
		f.Call.Host.(*Op).fail(f.Reason)
	}
	for _, a := range out.Acked {
		a.Call.Host.(*Op).acked(a.First)
	}
	for _, r := range out.Reads {
		done := r.Read.Host.(func(bool))
		if !r.OK {
			done(false)
			continue
		}
		n.waiting = append(n.waiting, &readWait{r.RaftIndex, done})
	}
	if out.Status != nil {
		n.Status = out.Status
	}
	if out.Left {
		n.Left = true
	}
	if out.Fatal != nil {
		n.Fatal = out.Fatal
	}
	n.out.Apply = nil
	n.serve()
	n.apply()
}

// post sends a message over the bond.
func (n *Node) post(e core.Envelope) {
	w := n.w
	to := int(e.To[0]) - 1
	b := n.bonds[to]
	if b == nil || w.cut[[2]int{n.Index, to}] || w.Rng.Float64() < w.Net.Loss {
		return
	}
	bytes := wire.Append(nil, e.Message) // as it is now, and through the encoding
	arrive := func(at time.Duration) {
		epoch := b.epoch
		w.After(at-w.now, func() {
			x := w.nodes[to]
			back := x.bonds[n.Index]
			if !x.Alive || back == nil || back.epoch != epoch || w.cut[[2]int{n.Index, to}] {
				return
			}
			m, err := wire.Decode(bytes)
			if err != nil {
				panic(err)
			}
			x.eng.Receive(x.clock(), n.Peer, m)
			x.flush()
		})
	}
	at := w.now + w.Net.Delay
	if w.Net.Jitter > 0 {
		at += time.Duration(w.Rng.Int64N(int64(w.Net.Jitter)))
	}
	b.deliver = max(b.deliver, at)
	arrive(b.deliver)
	if w.Rng.Float64() < w.Net.Duplicate {
		arrive(b.deliver + time.Duration(w.Rng.Int64N(int64(time.Second))))
	}
}

// apply applies what waits, one run at a time.
func (n *Node) apply() {
	if n.busy || len(n.applyQ) == 0 || !n.Alive {
		return
	}
	n.busy = true
	n.w.After(n.Slow, func() {
		n.busy = false
		if !n.Alive || len(n.applyQ) == 0 {
			return
		}
		run := n.applyQ[0]
		n.applyQ = n.applyQ[1:]
		for _, it := range run.Items {
			if n.w.faults.LoseApply && n.w.Rng.IntN(50) == 0 {
				continue
			}
			n.applyItem(it)
			if n.w.faults.DoubleApply && n.w.Rng.IntN(50) == 0 {
				n.State.Apply(string(it.Payload))
			}
		}
		n.raftAt = run.RaftIndex
		n.eng.Applied(n.clock(), run.RaftIndex)
		n.serve()
		n.flush()
	})
}

func (n *Node) applyItem(it core.Item) {
	result := n.State.Apply(string(it.Payload))
	n.Log = append(n.Log, Entry{it.First, string(it.Payload)})
	n.Applied = it.First + core.Index(it.Count) - 1
	if it.Call != nil {
		it.Call.Host.(*Op).applied(it.First, result)
	}
}

// serve answers reads whose index is applied.
func (n *Node) serve() {
	kept := n.waiting[:0]
	for _, x := range n.waiting {
		if x.at <= n.raftAt {
			x.done(true)
		} else {
			kept = append(kept, x)
		}
	}
	n.waiting = kept
}

// Crash ends a node's life: its memory is gone. Others see the connection close, or notice its silence seconds later.
func (w *World) Crash(n *Node, silent bool) {
	if !n.Alive {
		return
	}
	w.tracef("n%d.%d crashes, silent=%v", n.Index, n.Life, silent)
	n.Alive = false
	for _, o := range w.nodes {
		if o.bonds[n.Index] == nil || n.bonds[o.Index] == nil {
			continue
		}
		o := o
		epoch := o.bonds[n.Index].epoch
		notice := func() {
			if b := o.bonds[n.Index]; b != nil && b.epoch == epoch {
				delete(o.bonds, n.Index)
				if o.Alive {
					o.eng.PeerDown(o.clock(), n.Peer, !silent)
					o.flush()
				}
				if next := w.nodes[n.Index]; next.Alive && o.Alive {
					w.connectLater(next, o)
				}
			}
		}
		if silent {
			w.After(6*time.Second, notice)
		} else {
			w.After(time.Millisecond, notice)
		}
	}
	clear(n.bonds)
}

// Cut makes everything in one direction vanish, without anybody being told. The bond breaks when the silence is noticed.
func (w *World) Cut(from, to int) {
	w.tracef("cut n%d -> n%d", from, to)
	w.cut[[2]int{from, to}] = true
	w.After(6*time.Second, func() {
		if w.cut[[2]int{from, to}] {
			w.breakBond(w.nodes[from], w.nodes[to], false)
		}
	})
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
