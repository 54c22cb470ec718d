package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// cluster is engines in one process, driven by hand: the test says when time passes and which messages arrive. All
// links are perfect queues until the test drops something.
type cluster struct {
	now   time.Duration
	nodes []*testNode
	queue []packet // sent and not delivered, oldest first
	codec bool     // messages go through their encoding
	buf   []byte
	tune  func(*Config)

	watch    func(wire.Message) // told of messages between the engines, may be nil
	watchAll func(Envelope)     // and of those to anybody else as well
}

// packet is a message under way.
type packet struct {
	from, to *testNode
	m        wire.Message
}

// testNode is one engine with a driver that applies at once.
type testNode struct {
	name    string
	peer    id.PeerID
	eng     *Replica
	cluster *cluster
	out     Output
	held    bool // applies nothing
	orders  []Apply
	applied uint64 // raft index
	log     []string
	entries []testEntry
	index   Index
	done    []string // outcomes of calls and reads, oldest first
	waiting []ReadReady
	status  *Status
	left    bool
	resets  int
	fatal   error
	quiet   bool // keeps no log and no outcomes
	onDone  func(c *Call, first Index)
	onRead  func(r ReadReady)
	dead    bool
}

type testEntry struct {
	text  string
	first Index
}

// brokenLog fails when it is written to.
type brokenLog struct{ logstore.Log }

func (brokenLog) Submit(logstore.Batch) (uint64, bool, error) {
	return 0, false, errors.New("the disk is on fire")
}

func newCluster() *cluster { return &cluster{codec: true} }

const testTick = 100 * time.Millisecond

func testConfig(peer id.PeerID, nonce uint64) Config {
	return Config{
		Group: id.Of("test group"), Self: peer, BootNonce: nonce, Seed: nonce,
		Tick: testTick, Heartbeat: 5 * testTick, ElectionTimeout: 20 * testTick,
		BootstrapDelay: 3 * time.Second, VolatileRemoval: 10 * time.Second, Patience: 10 * time.Second,
		MaxVoters: 5, MaxInflight: 4, MaxEntryBytes: 1 << 20, MaxPendingCalls: 1024, MaxPendingBytes: 8 << 20,
		MaxUncommitted: 64 << 20,
	}
}

// start adds an engine. Its peer id is made of its name, so a name that comes twice is the same node in a new life.
func (c *cluster) start(name string, change func(*Config)) *testNode {
	n := &testNode{name: name, peer: id.PeerID(id.Of("node " + name)), cluster: c}
	life := uint64(1)
	for _, o := range c.nodes {
		if o.name == name {
			life++
		}
	}
	cfg := testConfig(n.peer, life<<32|uint64(len(c.nodes)+1))
	if c.tune != nil {
		c.tune(&cfg)
	}
	if change != nil {
		change(&cfg)
	}
	log, err := logstore.Memory().Open(cfg.Group, nil)
	if err != nil {
		panic(err)
	}
	if n.eng, err = New(cfg, log); err != nil {
		panic(err)
	}
	c.nodes = append(c.nodes, n)
	n.eng.Tick(c.now)
	n.flush()
	return n
}

// node returns the latest life of a name.
func (c *cluster) node(name string) *testNode {
	for _, n := range slices.Backward(c.nodes) {
		if n.name == name {
			return n
		}
	}
	panic("no node " + name)
}

func (c *cluster) at(p id.PeerID) *testNode {
	for _, n := range slices.Backward(c.nodes) {
		if n.peer == p {
			return n
		}
	}
	return nil
}

// bond connects two engines.
func (c *cluster) bond(a, b *testNode) {
	a.eng.PeerUp(c.now, b.peer)
	b.eng.PeerUp(c.now, a.peer)
	a.flush()
	b.flush()
}

// bondAll connects everyone who lives.
func (c *cluster) bondAll() {
	for i, a := range c.nodes {
		for _, b := range c.nodes[i+1:] {
			if !a.dead && !b.dead {
				c.bond(a, b)
			}
		}
	}
}

// unbond ends a connection; what was under way is lost.
func (c *cluster) unbond(a, b *testNode, closed bool) {
	c.queue = slices.DeleteFunc(c.queue, func(p packet) bool {
		return p.from == a && p.to == b || p.from == b && p.to == a
	})
	a.eng.PeerDown(c.now, b.peer, closed)
	b.eng.PeerDown(c.now, a.peer, closed)
	a.flush()
	b.flush()
}

// crash ends an engine's life.
func (c *cluster) crash(n *testNode, closed bool) {
	n.dead = true
	c.queue = slices.DeleteFunc(c.queue, func(p packet) bool { return p.from == n || p.to == n })
	for _, o := range c.nodes {
		if o != n && !o.dead {
			o.eng.PeerDown(c.now, n.peer, closed)
			o.flush()
		}
	}
}

// deliver lets the oldest message arrive. It reports false when there is none.
func (c *cluster) deliver() bool {
	if len(c.queue) == 0 {
		return false
	}
	p := c.queue[0]
	c.queue = c.queue[1:]
	p.arrive()
	p.to.flush()
	return true
}

func (p packet) arrive() {
	if p.to.dead {
		return
	}
	m := p.m
	if p.to.cluster.codec {
		var err error
		buf := &p.to.cluster.buf
		*buf = wire.Append((*buf)[:0], m)
		if m, err = wire.Decode(*buf); err != nil {
			panic(fmt.Sprintf("%T from %s to %s: %v", p.m, p.from.name, p.to.name, err))
		}
	}
	p.to.eng.Receive(p.to.cluster.now, p.from.peer, m)
}

// settle delivers messages until there are none.
func (c *cluster) settle() {
	for range 100_000 {
		if !c.deliver() {
			return
		}
	}
	panic("the engines talk without end")
}

// pass lets time pass: ticks, and messages without delay.
func (c *cluster) pass(d time.Duration) {
	for end := c.now + d; c.now < end; {
		c.now += testTick
		for _, n := range c.nodes {
			if !n.dead {
				n.eng.Tick(c.now)
				n.flush()
			}
		}
		c.settle()
	}
}

// until lets time pass until cond holds.
func (c *cluster) until(limit time.Duration, cond func() bool) bool {
	for end := c.now + limit; !cond(); {
		if c.now >= end {
			return false
		}
		c.pass(testTick)
	}
	return true
}

// form starts engines and waits until they are one group in which as many vote as should.
func (c *cluster) form(names ...string) {
	for _, name := range names {
		c.start(name, nil)
	}
	c.bondAll()
	if !c.until(20*time.Second, func() bool { return c.whole(len(names)) }) {
		panic("no group")
	}
}

// whole reports whether all who live are online in one group of n members.
func (c *cluster) whole(n int) bool {
	for _, x := range c.nodes {
		if !x.dead && !x.left && (x.status == nil || !x.status.Online || len(x.status.Members) != n) {
			return false
		}
	}
	l := c.leader()
	if l == nil {
		return false
	}
	voters, normal := 0, 0
	for _, m := range l.status.Members {
		if m.Voter {
			voters++
		}
		if m.Preference != Observer {
			normal++
		}
	}
	return voters == min(normal, 5) || voters == min(normal-1, 5) && normal > 2
}

// leader returns the engine that leads in the highest term.
func (c *cluster) leader() (out *testNode) {
	for _, n := range c.nodes {
		if !n.dead && n.status != nil && n.status.Role == RoleLeader && (out == nil || n.status.Term > out.status.Term) {
			out = n
		}
	}
	return out
}

// followers returns the others that live, by name.
func (c *cluster) followers() (out []*testNode) {
	for _, n := range c.nodes {
		if !n.dead && n != c.leader() {
			out = append(out, n)
		}
	}
	return out
}

// submit begins a call of count commands.
func (n *testNode) submit(text string, count int, feed bool) *Call {
	call := &Call{Count: count, Payload: []byte(text), Feed: feed, Host: text}
	n.eng.Submit(n.cluster.now, call)
	n.flush()
	return call
}

// read begins a strong read.
func (n *testNode) read(text string) *Read {
	r := &Read{Host: text}
	n.eng.Read(n.cluster.now, r)
	n.flush()
	return r
}

func (n *testNode) note(format string, args ...any) {
	if !n.quiet {
		n.done = append(n.done, fmt.Sprintf(format, args...))
	}
}

var failures = map[Failure]string{
	FailedOffline: "offline", FailedTooLarge: "too large", FailedOverloaded: "overloaded", FailedCancelled: "cancelled",
	FailedClosed: "closed", FailedUnknown: "unknown",
}

// flush does what the engine wants.
func (n *testNode) flush() {
	if n.dead {
		return
	}
	out := &n.out
	n.eng.Flush(n.cluster.now, out)
	for _, e := range out.Send {
		if n.cluster.watchAll != nil {
			n.cluster.watchAll(e)
		}
		if to := n.cluster.at(e.To); to != nil && !to.dead {
			n.cluster.queue = append(n.cluster.queue, packet{n, to, e.Message})
			if n.cluster.watch != nil {
				n.cluster.watch(e.Message)
			}
		}
	}
	if out.Reset {
		n.orders = append(n.orders, out.Apply[:out.Before]...)
		out.Apply = out.Apply[out.Before:]
		n.carryOut()
		n.resets++
		n.log, n.entries, n.index = nil, nil, 0
		for _, r := range n.waiting {
			n.eng.Read(n.cluster.now, r.Read)
		}
		n.waiting = nil
	}
	n.orders = append(n.orders, out.Apply...)
	for _, f := range out.Failed {
		n.note("%v failed: %s", f.Call.Host, failures[f.Reason])
	}
	for _, a := range out.Acked {
		n.note("%v acked at %d", a.Call.Host, a.First)
		if n.onDone != nil {
			n.onDone(a.Call, a.First)
		}
	}
	for _, r := range out.Reads {
		if !r.OK {
			n.note("%v failed", r.Read.Host)
			continue
		}
		n.waiting = append(n.waiting, r)
	}
	if out.Status != nil {
		n.status = out.Status
	}
	n.left = n.left || out.Left
	if out.Fatal != nil {
		n.fatal = out.Fatal
	}
	n.apply()
}

// apply applies what waits.
func (n *testNode) apply() {
	if n.held {
		return
	}
	told := n.applied
	n.carryOut()
	kept := n.waiting[:0]
	for _, r := range n.waiting {
		if r.RaftIndex > n.applied {
			kept = append(kept, r)
			continue
		}
		n.note("%v reads at %d", r.Read.Host, n.index)
		if n.onRead != nil {
			n.onRead(r)
		}
	}
	n.waiting = kept
	if n.applied != told {
		n.eng.Applied(n.cluster.now, n.applied)
	}
}

// carryOut gives what waits to the state machine.
func (n *testNode) carryOut() {
	for _, run := range n.orders {
		for _, it := range run.Items {
			if it.First != n.index+1 {
				panic(fmt.Sprintf("%s: index %d after %d", n.name, it.First, n.index))
			}
			n.index += Index(it.Count)
			if !n.quiet {
				n.log = append(n.log, string(it.Payload))
				n.entries = append(n.entries, testEntry{string(it.Payload), it.First})
			}
			if it.Call != nil {
				n.note("%v applied at %d", it.Call.Host, it.First)
				if n.onDone != nil {
					n.onDone(it.Call, it.First)
				}
			}
		}
		n.applied = run.RaftIndex
	}
	clear(n.orders)
	n.orders = n.orders[:0]
}

// adding takes in a member.
func adding(id uint64) (op member.Op) {
	op.Kind = member.Add
	op.Member.ID = id
	return op
}
