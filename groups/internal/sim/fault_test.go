package sim

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/anishathalye/porcupine"
)

var (
	seeds = flag.Int("sim.seeds", 60, "number of seeds that TestSimulation runs")
	first = flag.Uint64("sim.first", 1, "first seed of TestSimulation")
	one   = flag.Uint64("sim.seed", 0, "run only this seed, and print its trace")
)

// play runs one seed and returns what is wrong, if anything.
func play(t *testing.T, seed uint64, faults Faults) (*Scenario, error) {
	// The raft library draws its election timeouts from crypto/rand; this makes them repeat as well.
	cryptotest.SetGlobalRandom(t, seed)
	s := &Scenario{Seed: seed, Faults: faults, Length: 60 * time.Second}
	if err := s.Run(); err != nil {
		return s, err
	}
	if res := Linearizable(s.History, 20*time.Second); res == porcupine.Illegal {
		return s, fmt.Errorf("the history of %d operations is not linearizable", len(s.History))
	}
	return s, nil
}

// TestSimulation plays random schedules of partitions, crashes, lost and doubled messages, slow appliers and drifting
// clocks. A failing seed prints itself and runs again with -sim.seed.
func TestSimulation(t *testing.T) {
	from, n := *first, *seeds
	if *one != 0 {
		from, n = *one, 1
	}
	done, unknown, failed, crashes := 0, 0, 0, 0
	for seed := from; seed < from+uint64(n); seed++ {
		s, err := play(t, seed, Faults{})
		for _, o := range s.History {
			switch {
			case o.OK:
				done++
			case o.Maybe:
				unknown++
			default:
				failed++
			}
		}
		crashes += s.crashed
		if *one != 0 {
			t.Log("\n" + strings.Join(s.World.Trace(), "\n"))
		}
		if err != nil {
			t.Fatalf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestSimulation -sim.seed=%d", seed, err, seed)
		}
	}
	t.Logf("%d seeds: %d operations done, %d of unknown outcome, %d refused, %d crashes", n, done, unknown, failed, crashes)
	if done < 100*n {
		t.Errorf("only %d operations went through", done)
	}
}

// TestSameSeedSameRun makes sure that a failing seed can be replayed.
func TestSameSeedSameRun(t *testing.T) {
	run := func() string {
		s, err := play(t, 7, Faults{})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, o := range s.History {
			fmt.Fprintln(&b, o.Client, o.Cmd, o.Begin, o.End, o.OK, o.Maybe, o.Out, o.Index)
		}
		return b.String()
	}
	if a, b := run(), run(); a != b {
		t.Fatal("one seed gave two runs")
	}
}

// TestInjectedFaultsAreCaught puts bugs in and expects the checks to find them.
func TestInjectedFaultsAreCaught(t *testing.T) {
	for name, faults := range map[string]Faults{
		"an item is applied twice":                       {DoubleApply: true},
		"a strong read asks nobody":                      {StaleRead: true},
		"an item is skipped":                             {LoseApply: true},
		"a call is acknowledged before it is in the log": {EarlyAck: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 20; seed++ {
				if _, err := play(t, seed, faults); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("20 seeds found nothing")
		})
	}
}
