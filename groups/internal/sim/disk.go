package sim

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

// disk is what a machine's log is kept on: it survives the machine's crashes, but for what was not synced. It syncs
// after a while, like a disk under load, everything that was submitted until then.
type disk struct {
	w      *World
	ops    []func(logstore.Log) // everything since the beginning, in order
	synced int                  // of ops
	open   *diskLog
	wait   time.Duration        // longest time of a sync
	images map[uint64]*snapshot // by raft index
}

// newDisk returns an empty disk.
func (w *World) newDisk() *disk {
	return &disk{w: w, images: make(map[uint64]*snapshot), wait: time.Duration(1+w.Rng.IntN(40)) * time.Millisecond}
}

// diskLog is the log of one life: what it was when it began and everything since, in memory.
type diskLog struct {
	logstore.Log // in memory
	disk         *disk
	node         *Node
	state        *raftpb.HardState
	seq          uint64
	due          uint64 // seq to report with the next sync
	syncing      bool
}

// start returns the log for a new life of the machine.
func (d *disk) start(n *Node) *diskLog {
	mem, err := logstore.Memory().Open(GroupID, nil)
	if err != nil {
		panic(err)
	}
	for _, op := range d.ops {
		op(mem)
	}
	l := &diskLog{Log: mem, disk: d, node: n}
	l.state, _, _ = mem.InitialState()
	d.open = l
	return l
}

// crash loses what was not synced, or, since a disk writes when it likes, some of it.
func (d *disk) crash() {
	kept := d.synced
	if lost := len(d.ops) - d.synced; lost > 0 {
		kept += d.w.Rng.IntN(lost + 1)
	}
	if d.w.Bugs.LoseSynced {
		kept = max(0, kept-1-d.w.Rng.IntN(3))
	}
	d.w.tracef("disk of %v keeps %d of %d writes, %d were synced", d.open.node, kept, len(d.ops), d.synced)
	d.ops, d.synced, d.open = d.ops[:kept:kept], kept, nil
}

func (l *diskLog) Images() logstore.Images { return lasting{l.Log.Images()} }

// lasting says that images outlive the process. The simulation keeps them by itself.
type lasting struct{ logstore.Images }

func (lasting) Lasting() bool { return true }

// saved returns the images of earlier lives, and makes them ones of this life.
func (n *Node) saved() (out []core.Saved) {
	for _, index := range slices.Sorted(maps.Keys(n.disk.images)) {
		s := n.disk.images[index]
		state, err := core.DecodeState(s.engine)
		if err != nil {
			panic(err)
		}
		mark := uint64(len(out) + 1)
		n.images[mark] = s
		n.at[mark] = index
		out = append(out, core.Saved{Mark: mark, State: state, Root: s.root})
	}
	return out
}

// keep stores an image on the disk, if there is one.
func (n *Node) keep(mark, index uint64, s *snapshot) {
	if n.disk != nil {
		n.disk.images[index] = s
		n.at[mark] = index
	}
}

// forget removes the image of a mark from the disk.
func (n *Node) forget(mark uint64) {
	if index, ok := n.at[mark]; ok && n.disk != nil {
		delete(n.disk.images, index)
		delete(n.at, mark)
	}
}

func (l *diskLog) Compact(upTo uint64) error {
	l.disk.ops = append(l.disk.ops, func(m logstore.Log) { m.Compact(upTo) })
	return l.Log.Compact(upTo)
}

func (l *diskLog) Submit(b logstore.Batch) (seq uint64, safe bool, err error) {
	if _, _, err := l.Log.Submit(b); err != nil {
		return 0, false, err
	}
	d := l.disk
	d.ops = append(d.ops, func(m logstore.Log) { m.Submit(b) })
	l.seq++
	lazy := b.Begin == nil && b.Record == nil && len(b.Entries) == 0
	if b.State != nil {
		lazy = lazy && b.State.GetTerm() == l.state.GetTerm() && b.State.GetVote() == l.state.GetVote()
		l.state = b.State
	}
	if lazy || d.w.Bugs.SafeTooSoon {
		return l.seq, true, nil
	}
	l.due = l.seq
	l.sync()
	return l.seq, false, nil
}

// sync begins to sync, unless that is under way; then another sync follows.
func (l *diskLog) sync() {
	if l.syncing {
		return
	}
	l.syncing = true
	d := l.disk
	n, seq := len(d.ops), l.due
	d.w.After(time.Millisecond+time.Duration(d.w.Rng.Int64N(int64(d.wait))), func() {
		if d.open != l || !l.node.Alive {
			return // the machine has crashed
		}
		l.syncing = false
		d.synced = n
		l.node.do(func() { l.node.eng.Persisted(l.node.clock(), seq, nil) })
		if l.due > seq {
			l.sync()
		}
	})
}

// Disks says which machines of a scenario have one.
type Disks uint8

const (
	NoDisks Disks = iota
	SomeDisks
	AllDisks
)

// equip gives a machine a disk, if it is to have one.
func (s *Scenario) equip(index int) {
	w := s.World
	if s.Disks == AllDisks || s.Disks == SomeDisks && w.Rng.IntN(2) == 0 {
		w.Disks[index] = w.newDisk()
	}
}

// wipe gives the machine an empty disk for its next life.
func (n *Node) wipe() {
	n.disk = nil
	n.w.Disks[n.Index] = n.w.newDisk()
}

// crashWithDisk crashes a machine that has a disk, which nobody needs to be spared; or all machines at once, if all have
// one. Now and then the disk is lost as well, which is like any loss of memory.
func (s *Scenario) crashWithDisk(x *Node) {
	w := s.World
	victims := []*Node{x}
	switch {
	case s.Disks == AllDisks && w.Rng.IntN(4) == 0:
		victims = slices.Clone(w.nodes)
		s.Stats.Blackouts++
	case w.Rng.IntN(8) == 0 && s.mayCrash(x):
		s.Stats.Wiped++
		x.wipe()
	}
	for _, n := range victims {
		if !n.Alive {
			continue
		}
		s.Stats.Crashes++
		w.Crash(n, w.Rng.IntN(3) == 0)
		w.After(time.Duration(50+w.Rng.IntN(20000))*time.Millisecond, func() { s.replace(n) })
	}
}

// close ends a life in order: the member stays one, and comes back.
func (s *Scenario) close(n *Node) {
	w := s.World
	s.Stats.Closes++
	w.tracef("%v closes", n)
	n.do(func() { n.eng.Retire(n.clock()) })
	var wait func()
	wait = func() {
		switch {
		case !n.Alive:
		case !n.Left:
			w.After(50*time.Millisecond, wait)
		default:
			n.disk.synced = len(n.disk.ops)
			w.Crash(n, false)
			w.After(time.Duration(50+w.Rng.IntN(3000))*time.Millisecond, func() { s.replace(n) })
		}
	}
	wait()
}
