package sim

import (
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// GroupID is the group of all worlds.
var GroupID = id.Of("simulated group")

const tick = 100 * time.Millisecond

// Node is one machine in one life: an engine, and the driver around it.
type Node struct {
	w     *World
	Index int
	Peer  id.PeerID
	Life  int
	Alive bool
	disk  *disk // nil: the log is in memory
	eng   *core.Replica
	out   core.Output
	bonds map[int]*bond

	// The clock shows base at the time baseAt and runs at a rate of its own.
	base, baseAt time.Duration
	rate         float64
	paused       bool // the process does not run; what happens to it waits in the mailbox
	mailbox      []func()
	woken        bool // will look into the mailbox
	rest         *core.Rest
	turn         int // ticks since it was started

	State   Machine
	Log     []Entry // everything applied, for comparing replicas
	Slow    time.Duration
	applyQ  []core.Apply
	busy    bool // the applier is at work
	epoch   int  // of the state machine
	raftAt  uint64
	waiting []core.ReadReady

	Status  *core.Status
	Left    bool
	leaves  bool // it was told to
	Fatal   error
	images  map[uint64]*snapshot // by mark
	at      map[uint64]uint64    // raft index of each, with a disk
	readyAt uint64               // raft index of what is ready
	fetch   core.Fetch
	first   *snapshot // with which the engine begins
	ready   *snapshot // fetched, and not installed
	News    []core.News
	Kept    [][]Entry // what was applied in histories that gave way and whose commands were not all in the log
}

// Entry is one applied item.
type Entry struct {
	Index core.Index
	Term  uint64
	Cmd   string
}

type bond struct {
	epoch uint64
	since time.Duration
	last  time.Duration // arrival of the latest message, so that order is kept
}

// config is what engines run with unless a world tunes it.
func (n *Node) config(pref core.Preference, expect int) core.Config {
	cfg := core.Config{
		Group: GroupID, Self: n.Peer, BootNonce: n.w.Rng.Uint64(), Seed: n.w.Rng.Uint64(),
		Preference: pref, Expect: expect,
		Tick: tick, Heartbeat: 5 * tick, ElectionTimeout: 20 * tick,
		BootstrapDelay: 3 * time.Second, VolatileRemoval: 10 * time.Second, DurableRemoval: 5 * time.Minute, Patience: 10 * time.Second,
		MaxVoters: 5, MaxInflight: 4, MaxEntryBytes: 1 << 20, MaxPendingCalls: 1024, MaxPendingBytes: 8 << 20,
		MaxUncommitted: 64 << 20, Durable: n.disk != nil, Flaws: n.w.Bugs.Core,
	}
	if n.w.Bugs.SameID {
		cfg.BootNonce, cfg.Seed = uint64(n.Index)+1, uint64(n.Index)+1
	}
	if n.w.Tune != nil {
		n.w.Tune(&cfg)
	}
	return cfg
}

// Start adds a machine, or starts one that is down in a new life, with nothing of the old one but its disk, if it has one.
func (w *World) Start(index int, pref core.Preference, expect int) *Node {
	n := &Node{
		w: w, Index: index, Alive: true, bonds: make(map[int]*bond), State: Machine{}, baseAt: w.now, rate: 1,
		images: make(map[uint64]*snapshot), at: make(map[uint64]uint64),
	}
	n.Peer = id.PeerID{byte(index + 1)}
	if index < len(w.nodes) {
		n.Life = w.nodes[index].Life + 1
		w.nodes[index] = n
	} else {
		w.nodes = append(w.nodes, n)
	}
	log, err := logstore.Memory().Open(GroupID, nil)
	if err != nil {
		panic(err)
	}
	if n.disk = w.Disks[index]; n.disk != nil {
		log = n.disk.start(n)
	}
	cfg := n.config(pref, expect)
	if n.disk != nil {
		cfg.Saved = n.saved()
	}
	if n.eng, err = core.New(cfg, log); err != nil {
		panic(fmt.Sprintf("%v at %v, in the world of seed %d: %v", n, w.now, w.seed, err))
	}
	w.lives++
	w.tracef("%v starts", n)
	w.After(time.Duration(w.Rng.Int64N(int64(tick))), n.tick)
	w.list(n.Peer, true)
	for _, o := range w.nodes {
		if o != n && o.Alive {
			w.connectLater(n, o)
		}
	}
	return n
}

func (n *Node) String() string { return fmt.Sprintf("n%d.%d", n.Index, n.Life) }

// clock is the node's own idea of the time.
func (n *Node) clock() time.Duration {
	return n.base + time.Duration(float64(n.w.now-n.baseAt)*n.rate)
}

// SetRate makes a node's clock run faster or slower than the world's from now on.
func (n *Node) SetRate(rate float64) {
	n.base, n.baseAt, n.rate = n.clock(), n.w.now, rate
	n.w.tracef("%v clock runs at %.2f", n, rate)
}

// Jump sets the clock forward, as after a pause that nothing in the process noticed.
func (n *Node) Jump(d time.Duration) {
	n.base, n.baseAt = n.clock()+d, n.w.now
	n.w.tracef("%v clock jumps by %v", n, d)
}

// do lets something happen to the engine, now or once the process runs again.
func (n *Node) do(f func()) {
	if n.Alive {
		n.mailbox = append(n.mailbox, f)
		n.drain()
	}
}

// soon lets something happen to the engine in a moment, together with what else comes until then.
func (n *Node) soon(f func()) {
	if !n.Alive {
		return
	}
	n.mailbox = append(n.mailbox, f)
	if !n.woken {
		n.woken = true
		n.w.After(time.Duration(n.w.Rng.IntN(300))*time.Microsecond, func() {
			n.woken = false
			n.drain()
		})
	}
}

// drain hands the mailbox to the engine.
func (n *Node) drain() {
	if n.paused || !n.Alive || len(n.mailbox) == 0 {
		return
	}
	box := n.mailbox
	n.mailbox = nil
	if x := n.rest; x != nil {
		n.rest = nil
		n.eng.Wake(n.clock(), x)
	}
	for _, f := range box {
		f()
	}
	n.flush()
}

// Pause stops the process for a while. Nothing is lost, everything is late.
func (n *Node) Pause(d time.Duration) {
	if n.paused || !n.Alive {
		return
	}
	n.w.tracef("%v pauses for %v", n, d)
	n.paused = true
	if d > silence {
		n.w.After(silence, func() {
			for _, o := range n.w.nodes {
				if n.paused && o != n {
					n.w.breakBond(n, o, false)
				}
			}
		})
	}
	n.w.After(d, n.resume)
}

func (n *Node) resume() {
	if !n.paused {
		return
	}
	n.w.tracef("%v goes on", n)
	n.paused = false
	n.drain()
}

func (n *Node) tick() {
	if !n.Alive {
		return
	}
	n.turn++
	switch x := n.rest; {
	case n.paused:
	case x == nil || len(n.mailbox) > 0 || x.Tick():
		n.do(func() { n.eng.Tick(n.clock()) })
	default:
		n.w.rested++
		if x.Leads && n.turn%x.Every == 0 {
			for _, who := range x.Peers {
				n.post(core.Envelope{To: who, Message: &wire.Pulse{Member: x.Member, Term: x.Term}})
			}
		}
	}
	n.w.After(time.Duration(float64(tick)/n.rate), n.tick)
}

// beat takes a heartbeat, or the answer to one, without the engine if that is at rest. It returns false if the engine has to have it.
func (n *Node) beat(from *Node, m wire.Message) bool {
	if n.rest == nil || len(n.mailbox) > 0 || n.paused {
		return false
	}
	switch m := m.(type) {
	case *wire.Pulse:
		if !n.rest.Pulse(from.Peer, m) {
			return false
		}
		n.post(core.Envelope{To: from.Peer, Message: &wire.Pulsed{Term: m.Term}})
		return true
	case *wire.Pulsed:
		return n.rest.Pulsed(from.Peer, m)
	}
	return false
}

// flush carries out what the engine wants.
func (n *Node) flush() {
	n.eng.Flush(n.clock(), &n.out)
	out := &n.out
	n.rest = out.Rest
	for _, e := range out.Send {
		n.post(e)
	}
	var again []core.ReadReady
	runs := out.Apply
	for _, run := range runs {
		if run.Install != nil && run.Install.Saved != 0 {
			n.first = n.images[run.Install.Saved] // which may be dropped before it is read
		}
	}
	if out.Reset {
		n.w.tracef("%v begins anew", n)
		for _, run := range append(n.applyQ, runs[:out.Before]...) {
			n.applyRun(&run)
		}
		runs = runs[out.Before:]
		for _, x := range out.News {
			if x.Kind == core.NewsDivergence && x.State {
				n.Kept = append(n.Kept, n.Log)
			}
		}
		n.epoch++
		n.State, n.Log, n.applyQ = Machine{}, nil, nil
		again, n.waiting = n.waiting, nil
	}
	n.applyQ = append(n.applyQ, runs...)
	n.followSnapshots()
	for _, x := range out.News {
		n.w.tracef("%v news %d: %x -> %x, %d commands %s", n, x.Kind, x.From[:4], x.Into[:4], x.Commands, x.Reason)
		n.News = append(n.News, x)
	}
	for _, a := range out.Answers {
		a.Question.Host.(func(core.Answer))(a)
	}
	if out.Status != nil {
		n.Status = out.Status
		n.w.tracef("%v role=%d term=%d online=%v leader=%d members=%d %s", n, n.Status.Role, n.Status.Term, n.Status.Online,
			int(n.Status.Leader[0])-1, len(n.Status.Members), n.Status.Reason)
	}
	for _, f := range out.Failed {
		f.Call.Host.(*Op).fail(f.Reason)
	}
	for _, a := range out.Acked {
		a.Call.Host.(*Op).acked(n, a.First)
	}
	n.waiting = append(n.waiting, out.Reads...)
	n.Left = n.Left || out.Left
	if out.Fatal != nil {
		n.Fatal = out.Fatal
	}
	news := out.Status != nil || out.Fatal != nil || out.Left
	if news && n.w.Notice != nil {
		n.w.Notice(n)
	}
	n.serve()
	n.apply()
	for _, r := range again {
		n.do(func() { n.eng.Read(n.clock(), r.Read) })
	}
}

// post sends a message over the bond, through its encoding.
func (n *Node) post(e core.Envelope) {
	w := n.w
	to := int(e.To[0]) - 1
	b := n.bonds[to]
	if b == nil || w.cut[[2]int{n.Index, to}] || w.Rng.Float64() < w.Net.Loss {
		return
	}
	bytes := wire.Append(nil, e.Message)
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
				panic(fmt.Sprintf("%T: %v", e.Message, err))
			}
			if w.Filter != nil && !w.Filter(n, x, m) {
				return
			}
			w.mix(bytes, n.Index, to)
			w.tracef("%v -> %v %v", n, x, describe{m})
			if x.beat(n, m) {
				return
			}
			x.soon(func() {
				if m := w.Bugs.receive(x, n, m); m != nil {
					x.eng.Receive(x.clock(), n.Peer, m)
				}
			})
		})
	}
	at := w.now + w.Net.Delay
	if w.Net.Jitter > 0 {
		at += time.Duration(w.Rng.Int64N(int64(w.Net.Jitter)))
	}
	b.last = max(b.last, at)
	arrive(b.last)
	if w.Net.Duplicate > 0 && w.Rng.Float64() < w.Net.Duplicate {
		arrive(b.last + time.Duration(w.Rng.Int64N(int64(time.Second))))
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
		n.do(func() {
			if len(n.applyQ) == 0 {
				return
			}
			run := n.applyQ[0]
			n.applyQ = n.applyQ[1:]
			n.applyRun(&run)
			n.raftAt = run.RaftIndex
			n.eng.Applied(n.clock(), run.RaftIndex)
		})
	})
}

func (n *Node) applyRun(run *core.Apply) {
	if run.Install != nil {
		n.install(run.Install)
	}
	for _, it := range n.w.Bugs.apply(n, run.Items) {
		cmd := string(it.Payload)
		result := n.State.Apply(cmd)
		n.Log = append(n.Log, Entry{it.First, run.Term, cmd})
		n.w.mix(it.Payload, n.Index, int(it.First))
		if n.w.Applied != nil {
			n.w.Applied(n, n.Log[len(n.Log)-1])
		}
		if it.Call != nil {
			o := it.Call.Host.(*Op)
			if !o.Done && n.Status != nil {
				o.In = n.Status.Genesis
			}
			o.applied(it.First, result)
		}
	}
	if run.Mark != nil {
		n.takeView(run.Mark)
	}
}

// serve answers reads whose index is applied.
func (n *Node) serve() {
	kept := n.waiting[:0]
	for _, r := range n.waiting {
		if r.OK && r.RaftIndex > n.raftAt {
			kept = append(kept, r)
			continue
		}
		r.Read.Host.(*Op).read(n, r.OK)
	}
	n.waiting = kept
}

// Crash ends a node's life: its memory is gone, and what its disk had not synced. Others see the connection close, or notice its silence seconds later.
func (w *World) Crash(n *Node, silent bool) {
	if !n.Alive {
		return
	}
	w.tracef("%v crashes, silent=%v", n, silent)
	n.Alive = false
	if n.disk != nil {
		n.disk.crash()
	}
	for _, o := range w.nodes {
		if o.bonds[n.Index] == nil || n.bonds[o.Index] == nil {
			continue
		}
		epoch := o.bonds[n.Index].epoch
		notice := func() {
			if b := o.bonds[n.Index]; b == nil || b.epoch != epoch {
				return
			}
			delete(o.bonds, n.Index)
			o.do(func() { o.eng.PeerDown(o.clock(), n.Peer, !silent) })
			if next := w.nodes[n.Index]; next.Alive && o.Alive {
				w.connectLater(next, o)
			}
		}
		if silent {
			w.After(silence, notice)
		} else {
			w.After(time.Millisecond, notice)
		}
	}
	clear(n.bonds)
	w.After(20*time.Second, func() {
		if w.nodes[n.Index] == n {
			w.list(n.Peer, false)
		}
	})
}
