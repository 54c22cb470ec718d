package host

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// ErrClosed reports that a group on this node, or a handle to it, is closed.
var ErrClosed = errors.New("groups: closed")

// ErrMachineBusy reports that a group on this node is over, but that code of the program which it runs has not returned.
var ErrMachineBusy = errors.New("groups: the state machine is still at work")

// Rejected is the failure of a call whose commands the machine refused to take in: they are in the log and had no effect
// on any member.
const Rejected core.Failure = 100

// Machine is the typed state machine as the driver sees it. Apply is called by one goroutine at a time.
type Machine interface {
	// Apply applies the items in order. For an item with a Call it leaves the results in the Call's Results, or the
	// reason why they were refused in Rejected.
	Apply(items []core.Item, term uint64)

	// Blame says at which command the last Apply, of these items, panicked: its index, and its value, nil if that cannot be
	// read. Of commands that were applied at once it says how many, and has all of them. Those before it were applied.
	Blame(items []core.Item) (index core.Index, count int, command any)

	// Reset puts the machine back into its initial state.
	Reset()
}

// Group drives one group on this node. It owns the engine and calls it from one goroutine at a time, the group loop,
// which exists only while there is something to do. A second goroutine of the same kind, the applier, calls the machine,
// so that a slow machine cannot keep the engine from its elections. One goroutine plays both parts in turn when it can:
// once the mailbox is empty the loop becomes the applier, and a new loop starts when something arrives meanwhile.
type Group struct {
	cfg     GroupConfig
	svc     *Service
	engine  core.Engine
	machine Machine
	store   logstore.Log // the engine's; the driver closes it
	fresh   bool         // a durable store had nothing of the group when the node first used it
	log     *slog.Logger
	meter   *groupMetrics

	progress progress
	state    stateBoard
	events   eventHub

	images   images
	reading  Doing           // of Restore
	bulk     context.Context // of the writing of images, and of fetching
	stopBulk context.CancelFunc

	wg        sync.WaitGroup // loops, appliers, writers of images, fetches
	asLoop    func()         // workAsLoop, made once
	asApplier func()
	left      chan struct{} // closed when the engine says that leaving is over
	over      chan struct{} // closed when the group is over
	inactive  sync.Once     // it is not counted as active any more

	mu       sync.Mutex // guards all following fields
	room     sync.Cond  // the mailbox was emptied, or the group is over
	box      mailbox
	spare    mailbox
	window   window
	unread   map[*bond.Bond]int
	waiting  int // readers that wait for room
	running  bool
	applying bool
	queue    []order // decided and not yet taken by the applier
	spares   []order
	epoch    uint64 // counts the histories that the engine has been part of
	applied  uint64 // raft index of the present history, for the engine
	backlog  int    // bytes applied since the engine was last told
	eager    bool   // the engine waits for progress of the applier
	reported uint64 // what of applied the engine knows
	leaving  bool   // no new calls
	halted   bool   // the engine is not called any more
	dead     bool   // the machine is not called any more either, and the group is over
	cause    error  // why it is over

	rest  *core.Rest   // while the engine is at rest
	pulse []*bond.Bond // and with whom pulses are exchanged: to rest.Peers

	untaken []*Untaken // the latest commands that were not taken over, oldest first

	// Owned by the group loop.
	out      core.Output
	bonds    map[id.PeerID]*bond.Bond
	told     uint64 // raft index that the engine knows to be applied
	leftTold bool
	stopping bool
	resting  *core.Rest // what the last flush allowed
	decided  []order    // of the last flush, not yet in queue
	fetch    *fetch     // under way, or waiting to be installed
	lack     lack
	watches  [2]slowWatch // the machine's, and of reading
}

// order is something for the applier to do: put the machine back to its beginning, or apply a run.
type order struct {
	reset   bool
	keep    *KeptState // for a reset: takes the state first
	epoch   uint64
	run     core.Apply
	fetched *fetch // for a run that installs a snapshot
}

// Limits of the driver. The engine has its own, given by its configuration.
const (
	unreadMax    = 4 << 20   // bytes of one peer's messages in a mailbox at which its reader waits
	applyChunk   = 512       // commands applied under one hold of the machine's lock
	backlogMax   = 256 << 10 // bytes applied before the engine is woken to hear of it
	eventsBuffer = 256
	divergedMost = 16 // histories whose commands are kept for the application
)

func newGroup(svc *Service, cfg GroupConfig, engine core.Engine, machine Machine, store logstore.Images) *Group {
	g := &Group{
		cfg:     cfg,
		svc:     svc,
		engine:  engine,
		machine: machine,
		log:     svc.log.With("group", cfg.ID.Short()),
		meter:   svc.metrics.group(cfg.ID),
		left:    make(chan struct{}),
		over:    make(chan struct{}),
		unread:  make(map[*bond.Bond]int),
		bonds:   make(map[id.PeerID]*bond.Bond),
		window:  window{maxCalls: cfg.MaxCalls, maxBytes: cfg.MaxBytes},
		eager:   true,
	}
	g.asLoop, g.asApplier = g.workAsLoop, g.workAsApplier
	g.room.L = &g.mu
	g.watches[0].of, g.watches[1].of = new(Doing), &g.reading
	if m, ok := machine.(Observed); ok {
		g.watches[0].of = m.Doing()
	}
	g.images.store = store
	g.bulk, g.stopBulk = context.WithCancel(context.Background())
	g.state.init()
	return g
}

// ID returns the id of the group.
func (g *Group) ID() id.ID { return g.cfg.ID }

// submit hands the call to the loop, or puts it in line when the window is full.
func (g *Group) submit(c *Call) {
	g.mu.Lock()
	if g.leaving || g.dead {
		cause := g.endLocked()
		g.mu.Unlock()
		c.settle(0, core.FailedClosed, cause)
		return
	}
	c.queued = g.svc.now()
	if g.window.admit(c) {
		g.box.calls = append(g.box.calls, c)
		g.kickLocked()
	}
	g.mu.Unlock()
}

// cancel withdraws a call whose caller has given up. The call is settled when it returns, or soon after.
func (g *Group) cancel(c *Call) {
	g.mu.Lock()
	if c.inLine || g.halted || g.dead {
		inLine := c.inLine
		g.mu.Unlock()
		if inLine {
			c.settle(0, core.FailedCancelled, nil)
		} else {
			c.settle(0, core.FailedUnknown, nil)
		}
		return
	}
	g.box.cancels = append(g.box.cancels, c)
	g.kickLocked()
	g.mu.Unlock()
}

// read hands a strong read to the loop. On a group that is over the read is left alone.
func (g *Group) read(r *Read) {
	g.mu.Lock()
	if !g.halted && !g.dead {
		g.box.reads = append(g.box.reads, r)
		g.kickLocked()
	}
	g.mu.Unlock()
}
