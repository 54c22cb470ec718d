package sim

import (
	"errors"
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// playSilence has one of three voters be silent for some seconds, too short to be removed, and kills another one once it is
// back: two of three are there, so commands must go on. If the silent one was taken out they cannot.
func playSilence(t *testing.T, seed uint64, flaws core.Flaws) error {
	cryptotest.SetGlobalRandom(t, seed)
	w := New(seed, Network{Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
	w.Bugs.Core = flaws
	for i := range 3 {
		w.Start(i, core.Normal, 1)
	}
	if !w.Until(20*time.Second, func() bool { return w.Whole() && w.nodes[0].Status.Voters == 3 }) {
		return errors.New("the group did not form")
	}
	lead := leader(w)
	silent, dead := w.nodes[(lead.Index+1)%3], w.nodes[(lead.Index+2)%3]
	if w.Rng.IntN(2) == 0 {
		silent, dead = dead, silent
	}
	for _, n := range w.nodes {
		if n != silent {
			w.Cut(n.Index, silent.Index)
			w.Cut(silent.Index, n.Index)
		}
	}
	w.Run(2*time.Second + time.Duration(w.Rng.IntN(6000))*time.Millisecond)
	w.Heal()
	w.Run(200*time.Millisecond + time.Duration(w.Rng.IntN(1500))*time.Millisecond)
	if w.Rng.IntN(2) == 0 {
		dead = lead
	}
	w.Crash(dead, false)
	caller := silent
	if dead != lead && w.Rng.IntN(2) == 0 {
		caller = lead
	}
	o := &Op{ID: 1, Name: "x", Call: "1:a x 1"}
	w.Submit(caller, o, nil)
	if !w.Until(8*time.Second, func() bool { return o.Done }) || !o.OK {
		return fmt.Errorf("two of three voters are there, and nothing goes on: %v", (&Scenario{World: w}).describe())
	}
	return nil
}

// A voter that is silent for a while keeps its vote, and is counted on again when it is back.
func TestShortSilence(t *testing.T) {
	for seed := *first; seed < *first+uint64(max(*seeds, 100)); seed++ {
		if err := playSilence(t, seed, core.Flaws{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestHastyRemoval makes leaders take voters out as soon as they are silent, and expects that this is seen.
func TestHastyRemoval(t *testing.T) {
	caught := 0
	const n = 50
	for seed := range uint64(n) {
		if playSilence(t, seed, core.Flaws{HastyRemoval: true}) != nil {
			caught++
		}
	}
	t.Logf("caught in %d of %d seeds", caught, n)
	if caught < n/4 {
		t.Errorf("%d of %d seeds found something", caught, n)
	}
}
