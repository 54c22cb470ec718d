package sim

import (
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Of two members one is killed again and again, and comes back without its memory: that proves its old life dead, so the
// other goes on by itself, with everything that was acknowledged, however unfortunate the moment was.
func TestOneOfTwoRestarts(t *testing.T) {
	for seed := *first; seed < *first+uint64(max(*seeds/3, 10)); seed++ {
		if err := playRestarts(t, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// Of three to five members any but one are killed and come back without their memory. That may cost what was
// acknowledged, but the group always goes on, says so, and applies nothing twice.
func TestManyRestart(t *testing.T) {
	for seed := *first; seed < *first+uint64(max(*seeds/3, 10)); seed++ {
		if err := playManyRestarts(t, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func playManyRestarts(t *testing.T, seed uint64) error {
	cryptotest.SetGlobalRandom(t, seed)
	w := New(seed, Network{Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
	r := &rivalRun{w: w, n: 3 + w.Rng.IntN(3), logs: make(map[core.GenesisID]map[core.Index]string)}
	if *trace {
		w.Keep()
		defer func() {
			for _, line := range w.Trace() {
				t.Log(line)
			}
		}()
	}
	for i := range r.n {
		w.Start(i, core.Normal, 1)
	}
	if !w.Until(40*time.Second, w.Whole) {
		return fmt.Errorf("the group did not form: %v", r.describe())
	}
	for c := range 3 {
		r.client(c)
	}
	lossy := false
	note := func() {
		for _, n := range w.nodes {
			for _, x := range n.News {
				lossy = lossy || x.Kind == core.NewsForked && x.Lossy
			}
		}
	}
	for range 4 {
		w.Run(time.Duration(w.Rng.IntN(3000)) * time.Millisecond)
		var down []int
		for _, i := range w.Rng.Perm(r.n)[:1+w.Rng.IntN(r.n-1)] {
			n := w.nodes[i]
			w.Crash(n, w.Rng.IntN(3) == 0)
			for _, o := range r.history {
				if !o.Done && o.Node == n {
					o.Abandon()
				}
			}
			down = append(down, i)
			w.Run(time.Duration(w.Rng.IntN(300)) * time.Millisecond)
		}
		for _, i := range down {
			w.Run(time.Duration(w.Rng.IntN(4000)) * time.Millisecond)
			w.Start(i, core.Normal, 100)
		}
		if !w.Until(120*time.Second, w.Whole) {
			return fmt.Errorf("the group does not go on: %v", r.describe())
		}
		note()
	}
	r.stopped = true
	if !w.Until(60*time.Second, func() bool { return r.broken != nil || r.one() }) {
		return fmt.Errorf("the group does not settle: %v", r.describe())
	}
	if r.broken != nil {
		return r.broken
	}
	if err := r.once(lossy); err != nil {
		return fmt.Errorf("%w; lossy %v", err, lossy)
	}
	return nil
}

func playRestarts(t *testing.T, seed uint64) error {
	cryptotest.SetGlobalRandom(t, seed)
	w := New(seed, Network{Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
	r := &rivalRun{w: w, n: 2, logs: make(map[core.GenesisID]map[core.Index]string)}
	if *trace {
		w.Keep()
		defer func() {
			for _, line := range w.Trace() {
				t.Log(line)
			}
		}()
	}
	w.Applied = r.note
	w.Notice = func(n *Node) {
		if n.Status != nil {
			r.log(n)
		}
	}
	for i := range r.n {
		w.Start(i, core.Normal, 1)
	}
	voting := func() bool { return w.Whole() && w.nodes[0].Status.Voters == 2 && w.nodes[1].Status.Voters == 2 }
	if !w.Until(40*time.Second, voting) {
		return fmt.Errorf("the group did not form: %v", r.describe())
	}
	for c := range 3 {
		r.client(c)
	}
	for range 6 {
		w.Run(time.Duration(w.Rng.IntN(3000)) * time.Millisecond)
		n := w.nodes[w.Rng.IntN(2)]
		silent := w.Rng.IntN(3) == 0
		w.Crash(n, silent)
		for _, o := range r.history {
			if !o.Done && o.Node == n {
				o.Abandon()
			}
		}
		w.Run(time.Duration(w.Rng.IntN(4000)) * time.Millisecond)
		w.Start(n.Index, core.Normal, 100)
		begin := w.Now()
		if !w.Until(60*time.Second, func() bool { return r.broken != nil || voting() }) {
			return fmt.Errorf("the group does not go on: %v", r.describe())
		}
		if took := w.Now() - begin; took > 20*time.Second {
			return fmt.Errorf("it took %v until both vote again", took)
		}
	}
	r.stopped = true
	if !w.Until(60*time.Second, func() bool { return r.broken != nil || r.one() }) {
		return fmt.Errorf("the group does not settle: %v", r.describe())
	}
	if r.broken != nil {
		return r.broken
	}
	for _, n := range w.nodes {
		for _, x := range n.News {
			if x.Kind == core.NewsForked && x.Lossy {
				return fmt.Errorf("%v calls a fork lossy that is not", n)
			}
		}
	}
	return r.once(false)
}
