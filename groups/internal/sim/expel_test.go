package sim

import (
	"errors"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// playExpels runs one seed with members that want others taken out.
func playExpels(t *testing.T, seed uint64, disks Disks, bugs Bugs) (*Scenario, error) {
	cryptotest.SetGlobalRandom(t, seed)
	s := &Scenario{
		Seed: seed, Bugs: bugs, Length: 60 * time.Second, Check: 10 * time.Second, World: New(seed, Network{}), Disks: disks, Expels: true,
	}
	if *trace {
		s.World.Keep()
	}
	return s, s.Run()
}

// TestExpels is TestSimulation and TestDurable with members that want others taken out that they do not see, one or several
// at once. Those may be down and come back with their disks intact, cut off in a part of their own, or seen by others.
func TestExpels(t *testing.T) {
	for name, disks := range map[string]Disks{"memory": NoDisks, "all": AllDisks, "some": SomeDisks} {
		t.Run(name, func(t *testing.T) {
			var sum Stats
			failures := 0
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				s, err := playExpels(t, seed, disks, Bugs{})
				sum.Add(s.Stats)
				if *trace {
					t.Log("\n" + strings.Join(s.World.Trace(), "\n"))
				}
				if disks != AllDisks && errors.Is(err, errMajorityLost) {
					t.Logf("seed %d: %.80v", seed, err)
				} else if err != nil {
					t.Errorf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestExpels/%s -sim.first=%d -sim.seeds=1 -sim.trace -v",
						seed, err, name, seed)
					if failures++; failures == 3 {
						t.Fatal("that is enough")
					}
				}
			}
			t.Logf("%d seeds: %+v", *seeds, sum)
			if sum.Expelled < *seeds/2 {
				t.Errorf("only %d members were taken out by request", sum.Expelled)
			}
		})
	}
}

// TestRashExpelling makes leaders take out whoever somebody wants to be taken out, and expects that this is seen.
func TestRashExpelling(t *testing.T) {
	caught := 0
	const n = 40
	for seed := range uint64(n) {
		if _, err := playExpels(t, seed, AllDisks, Bugs{Core: core.Flaws{RashExpelling: true}}); err != nil {
			if caught++; caught == 1 {
				t.Logf("seed %d: %.200v", seed, err)
			}
		}
	}
	t.Logf("caught in %d of %d seeds", caught, n)
	if caught < n/4 {
		t.Errorf("%d of %d seeds found something", caught, n)
	}
}
