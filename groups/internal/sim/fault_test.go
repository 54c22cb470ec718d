package sim

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"
)

var (
	seeds = flag.Int("sim.seeds", 60, "number of seeds that TestSimulation runs")
	first = flag.Uint64("sim.first", 1, "first seed of TestSimulation")
	trace = flag.Bool("sim.trace", false, "print everything that happens; for one seed")
)

// play runs one seed.
func play(t *testing.T, seed uint64, bugs Bugs, keep bool, check time.Duration) (*Scenario, error) {
	// The raft library draws its election timeouts from crypto/rand; this makes them repeat as well.
	cryptotest.SetGlobalRandom(t, seed)
	s := &Scenario{Seed: seed, Bugs: bugs, Length: 60 * time.Second, Check: check, World: New(seed, Network{})}
	if keep {
		s.World.Keep()
	}
	return s, s.Run()
}

// TestSimulation plays random schedules of partitions, crashes, departures, lost and doubled messages, slow appliers,
// pauses and clocks that drift and jump. A failing seed prints itself, and runs again, exactly as it was, with
// -sim.first and -sim.seeds=1.
func TestSimulation(t *testing.T) {
	var sum Stats
	failures := 0
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		s, err := play(t, seed, Bugs{}, *trace, 20*time.Second)
		sum.Add(s.Stats)
		if *trace {
			t.Log("\n" + strings.Join(s.World.Trace(), "\n"))
		}
		if errors.Is(err, errMajorityLost) {
			t.Logf("seed %d: %.80v", seed, err)
		} else if err != nil {
			t.Errorf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestSimulation -sim.first=%d -sim.seeds=1 -sim.trace -v",
				seed, err, seed)
			if failures++; failures == 5 {
				t.Fatal("that is enough")
			}
		}
	}
	t.Logf("%d seeds: %+v", *seeds, sum)
	if sum.Lost+sum.Forks > 1+*seeds/200 {
		t.Errorf("%d groups were destroyed, %d had to be saved", sum.Lost, sum.Forks)
	}
	if *seeds > 20 && sum.Installed < *seeds {
		t.Errorf("only %d snapshots were installed", sum.Installed)
	}
	if *seeds > 20 && sum.Rested < 100**seeds {
		t.Errorf("engines rested for %d ticks only", sum.Rested)
	}
	if sum.Done < 100**seeds {
		t.Errorf("only %d operations went through", sum.Done)
	}
}

// TestSameSeedSameRun makes sure that a failing seed can be replayed: every message and every outcome is the same.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		run := func() string {
			s, err := play(t, seed, Bugs{}, false, 20*time.Second)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			return fmt.Sprintf("%x, %d operations in %v", s.World.Digest(), len(s.History), s.World.Now())
		}
		if a, b := run(), run(); a != b {
			t.Fatalf("seed %d: one run gave %s, the next %s", seed, a, b)
		}
	}
}
