package sim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

// stoppedLog is the log on a disk whose machine is down. What is submitted is synced.
type stoppedLog struct {
	logstore.Log
	disk *disk
}

func (l stoppedLog) Images() logstore.Images { return lasting{l.Log.Images()} }

func (l stoppedLog) Submit(b logstore.Batch) (seq uint64, safe bool, err error) {
	l.disk.ops = append(l.disk.ops, func(m logstore.Log) { m.Submit(b) })
	l.disk.synced = len(l.disk.ops)
	_, _, err = l.Log.Submit(b)
	return 0, true, err
}

// order recovers the group on a machine that is down, as an operator does who takes all others for lost. It reports
// whether there was anything to recover.
func (r *rivalRun) order(n *Node) (bool, error) {
	mem, err := logstore.Memory().Open(GroupID, nil)
	if err != nil {
		return false, err
	}
	for _, op := range n.disk.ops {
		op(mem)
	}
	o, err := core.OpenOffline(stoppedLog{mem, n.disk}, n.saved(), r.w.Rng.Uint64())
	if err != nil {
		return false, fmt.Errorf("n%d: %w", n.Index, err)
	}
	if s := o.Status(); s.Plan == nil || !s.Plan.Needed {
		return false, nil
	}
	r.w.tracef("%v is recovered by order", n)
	if err := o.Fork(); err != nil {
		return false, fmt.Errorf("n%d: %w", n.Index, err)
	}
	return true, nil
}

// orderRun says what playOrders plays.
type orderRun struct {
	tune func(*core.Config)
	// rough has members be cut off from each other as well. Some have no disk, and these never go down; one may not vote.
	rough bool
}

// playOrders plays a durable group whose machines crash and come back, alone or together, while an operator who knows
// nothing recovers the group on some of those that are down. orders counts how often.
func playOrders(t *testing.T, seed uint64, x orderRun) (r *rivalRun, orders int, err error) {
	r = newRivalRun(t, seed, x.tune)
	w := r.w
	for i := range r.n {
		pref := core.Normal
		if i < 2 || !x.rough || w.Rng.IntN(3) > 0 {
			w.Disks[i] = w.newDisk()
		}
		if i == 3 && x.rough && w.Rng.IntN(2) == 0 {
			pref = core.Observer
		}
		w.Start(i, pref, r.n)
	}
	r.begin()
	w.Run(time.Duration(4+w.Rng.IntN(8)) * time.Second)
	for range 2 + w.Rng.IntN(5) {
		for range 1 + w.Rng.IntN(r.n) {
			if n := w.nodes[w.Rng.IntN(r.n)]; n.disk != nil {
				w.Crash(n, w.Rng.IntN(3) == 0)
			}
			w.Run(time.Duration(w.Rng.IntN(3000)) * time.Millisecond)
		}
		if x.rough && w.Rng.IntN(2) == 0 {
			r.part()
		}
		w.Run(time.Duration(w.Rng.IntN(8000)) * time.Millisecond)
		for _, i := range w.Rng.Perm(r.n) {
			if n := w.nodes[i]; !n.Alive && w.Rng.IntN(2) == 0 {
				if w.Rng.IntN(2) == 0 {
					done, err := r.order(n)
					if err != nil {
						return r, orders, err
					}
					if done {
						orders++
					}
				}
				r.past = append(r.past, n)
				w.Start(i, core.Normal, r.n)
				w.Run(time.Duration(w.Rng.IntN(6000)) * time.Millisecond)
			}
			if x.rough && w.Rng.IntN(4) == 0 {
				w.Heal()
			}
		}
	}
	w.Heal()
	for i, n := range w.nodes {
		if !n.Alive {
			r.past = append(r.past, n)
			w.Start(i, core.Normal, r.n)
		}
	}
	r.stopped = true
	for range 2 { // what stands in the logs may be committed only by what follows
		if !w.Until(180*time.Second, func() bool { return r.broken != nil || r.one() }) {
			return r, orders, fmt.Errorf("no single history: %v", r.describe())
		}
		w.Run(3 * time.Second)
	}
	return r, orders, errors.Join(r.broken, r.once(false), r.linearizable())
}

// part cuts the machines into up to three parts, and ends the bonds between them.
func (r *rivalRun) part() {
	of := make([]int, r.n)
	for i := range of {
		of[i] = r.w.Rng.IntN(3)
	}
	r.w.isolate(func(i int) int { return of[i] }, r.n)
}

// TestOrders plays durable groups that are recovered by order, on any member, with or without need, once or on several: in
// the end there is one history with every acknowledged command in it exactly once, or handed to the application.
func TestOrders(t *testing.T) {
	for name, x := range map[string]orderRun{
		"whole logs": {}, "cut logs": {tune: cutting}, "rough": {rough: true}, "rough cut": {tune: cutting, rough: true},
	} {
		t.Run(name, func(t *testing.T) {
			orders, done, followed := 0, 0, 0
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				r, ordered, err := playOrders(t, seed, x)
				orders += ordered
				for _, o := range r.history {
					if o.OK {
						done++
					}
				}
				for _, n := range append(r.past, r.w.nodes...) {
					for _, news := range n.News {
						if news.Kind == core.NewsFollowed {
							followed++
						}
					}
				}
				if *trace {
					t.Log("\n" + strings.Join(r.w.Trace(), "\n"))
				}
				if err != nil {
					t.Fatalf("seed %d: %v\nrun again: go test ./groups/internal/sim -run 'TestOrders/%s' -sim.first=%d -sim.seeds=1 -sim.trace -v", seed, err, name, seed)
				}
			}
			t.Logf("%d seeds: %d operations, %d recoveries by order, %d members followed one", *seeds, done, orders, followed)
			if orders < *seeds || followed == 0 {
				t.Error("not enough of all has happened")
			}
		})
	}
}
