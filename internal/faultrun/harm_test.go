//go:build linux

package faultrun

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// harm does one thing after another to a cluster: one loop for its network, and one or two for its processes, at the same time.
type harm struct {
	c     *cluster
	load  *workload
	kinds []*fault
	rest  time.Duration // longest pause between faults

	gate sync.RWMutex // held for writing while everything else must be well

	mu    sync.Mutex // guards all following fields
	count map[string]int
	errs  []error
}

// fault is a kind of harm. do does it and undoes it.
type fault struct {
	name    string
	network bool // of the network, else of processes
	whole   bool // begins only when all members are well
	alone   bool // likewise, and nothing else happens meanwhile
	do      func(h *harm, ctx context.Context, rng *rand.Rand) error
}

// run goes on until ctx ends; then everything is well again, as far as it was harm that did it.
func (h *harm) run(ctx context.Context, seed uint64) {
	var wg sync.WaitGroup
	loop := func(stream uint64, network bool) {
		rng := rand.New(rand.NewPCG(seed, 1000+stream))
		var mine []*fault
		for _, f := range h.kinds {
			if f.network == network && (h.c.net != nil || !network) {
				mine = append(mine, f)
			}
		}
		if len(mine) == 0 {
			return
		}
		wg.Go(func() {
			for h.pause(ctx, between(rng, 0, h.rest)) {
				h.once(ctx, mine[rng.IntN(len(mine))], rng)
			}
		})
	}
	loop(0, true)
	loop(1, false)
	if h.c.durable {
		loop(2, false)
	}
	wg.Go(func() {
		for h.pause(ctx, time.Minute) {
			h.gate.Lock()
			h.awaitWhole(ctx)
			h.gate.Unlock()
		}
	})
	wg.Wait()
}

func (h *harm) once(ctx context.Context, f *fault, rng *rand.Rand) {
	unlock := h.gate.RUnlock
	if f.whole || f.alone {
		h.gate.Lock()
		well := h.awaitWhole(ctx)
		if !well || f.alone {
			unlock = h.gate.Unlock
		} else {
			h.gate.Unlock()
			h.gate.RLock()
		}
		if !well {
			unlock()
			return
		}
	} else {
		h.gate.RLock()
	}
	defer unlock()
	if ctx.Err() != nil {
		return
	}
	h.c.note("fault: %s", f.name)
	err := f.do(h, ctx, rng)
	if errors.Is(err, errNotNow) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[f.name]++
	if err != nil {
		h.c.note("%s: %v", f.name, err)
		h.errs = append(h.errs, fmt.Errorf("%s: %w", f.name, err))
	}
}

// wholeWithin is how long a cluster to which nothing happens may take to be whole.
const wholeWithin = limit

// awaitWhole is called while nothing happens to the cluster. That it does not get well is a failure.
func (h *harm) awaitWhole(ctx context.Context) bool {
	begin := time.Now()
	err := h.c.awaitWhole(ctx, wholeWithin)
	if ctx.Err() != nil {
		return false
	}
	h.c.note("whole after %v: %v", time.Since(begin).Round(time.Millisecond), err)
	if err != nil {
		h.mu.Lock()
		h.errs = append(h.errs, err)
		h.mu.Unlock()
	}
	return err == nil
}

// tally counts what came of a fault.
func (h *harm) tally(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[what]++
}

var errNotNow = errors.New("not now")

// pause waits and reports whether to go on.
func (h *harm) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}

// aWhile is short, in which connections live on, or long, in which they do not and members are removed.
func aWhile(rng *rand.Rand) time.Duration {
	if rng.IntN(3) > 0 {
		return between(rng, 200*time.Millisecond, 4*time.Second)
	}
	return between(rng, 4*time.Second, 14*time.Second)
}

// some returns a random number of nodes, at least one and at most most.
func (h *harm) some(rng *rand.Rand, most int) []int {
	return rng.Perm(len(h.c.nodes))[:1+rng.IntN(most)]
}

// victim returns a node: as often as not one that leads.
func (h *harm) victim(rng *rand.Rand) int {
	if rng.IntN(2) == 0 {
		if i := h.c.leader(rng.IntN(kinds)); i >= 0 {
			return i
		}
	}
	return rng.IntN(len(h.c.nodes))
}

// take claims nodes to which nothing else is being done.
func (h *harm) take(nodes ...int) (release func(), err error) {
	var have []int
	release = func() {
		for _, i := range have {
			h.c.nodes[i].busy.Unlock()
		}
	}
	for _, i := range nodes {
		if !h.c.nodes[i].busy.TryLock() {
			release()
			return nil, errNotNow
		}
		have = append(have, i)
	}
	return release, nil
}
