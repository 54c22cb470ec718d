package sim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// cutting makes engines cut their logs at once.
func cutting(c *core.Config) {
	c.Snapshots, c.ChunkBytes, c.KeepEntries, c.MostEntries, c.MostBytes = true, 1<<10, 2, 4, 1<<20
}

// TestRivalsWithCutLogs plays rival histories, and histories that went on through partitions, whose logs are cut all the
// time. What cannot be proposed again is handed to the application: nothing that was acknowledged is missing in both.
func TestRivalsWithCutLogs(t *testing.T) {
	for name, available := range map[string]time.Duration{"rivals": 0, "availability": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			merges, forks, states, done, kept := 0, 0, 0, 0, 0
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				r, err := playRivals(t, seed, func(c *core.Config) {
					cutting(c)
					c.AvailabilityFirst = available
				})
				if *trace {
					t.Log("\n" + strings.Join(r.w.Trace(), "\n"))
				}
				for _, x := range r.w.nodes {
					states += len(x.Kept)
					for _, news := range x.News {
						switch news.Kind {
						case core.NewsMerged:
							merges++
							if !news.Lossy {
								kept++
							}
						case core.NewsForked:
							forks++
						}
					}
				}
				for _, o := range r.history {
					if o.OK {
						done++
					}
				}
				if err != nil {
					t.Fatalf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestRivalsWithCutLogs/%s -sim.first=%d -sim.seeds=1 -sim.trace -v", seed, err, name, seed)
				}
			}
			t.Logf("%d seeds: %d operations, %d forks; members changed history %d times, %d of them with all commands, %d states were handed over",
				*seeds, done, forks, merges, kept, states)
			if states == 0 || kept == 0 || available > 0 && forks == 0 {
				t.Error("not all kinds of merges have happened")
			}
		})
	}
}

// A member with a disk and a cut log forks, for the others have come back without theirs, and crashes at any moment of
// that. It comes back in the old history or the new one, with everything.
func TestForkIsOneStep(t *testing.T) {
	old, forked := 0, 0
	for seed := *first; seed < *first+uint64(max(*seeds, 100)); seed++ {
		s := emptyStage(t, seed)
		s.Tune = func(c *core.Config) {
			cutting(c)
			c.VolatileRemoval, c.DurableRemoval = time.Hour, time.Hour
		}
		s.Disks[0] = s.newDisk()
		for i := range 3 {
			s.Start(i, core.Normal, 1)
		}
		s.within(20*time.Second, "three voters", func() bool { return s.Whole() && s.leader().Status.Voters == 3 })
		n, sum := s.nodes[0], 0
		for try := 0; !n.Status.LogCut; try++ { // images fail now and then
			if try == 10 {
				t.Fatalf("seed %d: the log is not cut: %d to %d", seed, n.Status.LogFirst, n.Status.LogLast)
			}
			for range 8 {
				s.add(s.leader(), 5*time.Second)
				sum++
			}
			s.Run(4 * time.Second)
		}
		s.within(10*time.Second, "everything", func() bool { return len(n.Log) == sum })
		before := n.Status.Genesis
		s.Crash(s.nodes[1], false)
		s.Crash(s.nodes[2], false)
		s.Start(1, core.Normal, joinOnly)
		s.Start(2, core.Normal, joinOnly)
		n.disk.wait = 200 * time.Millisecond // long enough to crash in between
		if s.Until(time.Duration(s.Rng.IntN(4000))*time.Millisecond, func() bool { return n.Status.Genesis != before }) {
			s.Run(time.Duration(s.Rng.IntN(300)) * time.Millisecond)
		}
		s.Crash(n, false)
		n = s.Start(0, core.Normal, joinOnly)
		s.within(time.Second, "status", func() bool { return n.Status != nil && !n.Status.Genesis.IsZero() })
		if n.Status.Genesis == before {
			old++
		} else {
			forked++
		}
		for range 3 { // and once more, before it can have written out its state anew
			s.within(60*time.Second, "whole group", s.Whole)
			s.within(10*time.Second, "everything", func() bool { return len(s.nodes[0].Log) == sum && s.read(s.nodes[0]) == fmt.Sprint(sum) })
			s.Crash(s.nodes[0], false)
			s.Start(0, core.Normal, joinOnly)
		}
		if n.Fatal != nil {
			t.Fatal(errors.Unwrap(n.Fatal))
		}
	}
	t.Logf("came back %d times in the old history, %d times in the new one", old, forked)
	if old == 0 || forked == 0 {
		t.Error("all crashes left the same")
	}
}
