package sim

import (
	"errors"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"
)

// playDisks runs one seed with machines that have disks.
func playDisks(t *testing.T, seed uint64, disks Disks, bugs Bugs) (*Scenario, error) {
	cryptotest.SetGlobalRandom(t, seed)
	s := &Scenario{Seed: seed, Bugs: bugs, Length: 60 * time.Second, Check: 10 * time.Second, World: New(seed, Network{}), Disks: disks}
	if *trace {
		s.World.Keep()
	}
	return s, s.Run()
}

// TestDurable is TestSimulation with machines that keep their logs on disks, all of them or some. Crashes lose what a
// disk had not synced; whole clusters crash at once; disks are lost.
func TestDurable(t *testing.T) {
	for name, disks := range map[string]Disks{"all": AllDisks, "some": SomeDisks} {
		t.Run(name, func(t *testing.T) {
			var sum Stats
			failures := 0
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				s, err := playDisks(t, seed, disks, Bugs{})
				sum.Add(s.Stats)
				if *trace {
					t.Log("\n" + strings.Join(s.World.Trace(), "\n"))
				}
				if errors.Is(err, errMajorityLost) && disks == SomeDisks {
					t.Logf("seed %d: %.80v", seed, err)
				} else if err != nil {
					t.Errorf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestDurable/%s -sim.first=%d -sim.seeds=1 -sim.trace -v",
						seed, err, name, seed)
					if failures++; failures == 3 {
						t.Fatal("that is enough")
					}
				}
			}
			t.Logf("%d seeds: %+v", *seeds, sum)
			if sum.Lost > 1+*seeds/500 {
				t.Errorf("%d groups were destroyed", sum.Lost)
			}
		})
	}
}

// TestBadDisks makes disks lie, and expects the checks to find out.
func TestBadDisks(t *testing.T) {
	for name, bugs := range map[string]Bugs{
		"a write is said to be safe too soon": {SafeTooSoon: true},
		"writes that were safe are lost":      {LoseSynced: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 100; seed++ {
				if _, err := playDisks(t, seed, AllDisks, bugs); err != nil && !errors.Is(err, errUnchecked) {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("100 seeds found nothing")
		})
	}
}
