//go:build linux

package faultrun

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Of two members in memory one can be killed at any time, under load: when it is back the group goes on by itself, with
// everything that was acknowledged.
func TestOneOfTwoIsKilled(t *testing.T) {
	c := newCluster(t, 2, false, settings{Expect: 2})
	c.startAll()
	w := startClients(c, 1, 30*time.Millisecond, 1)
	for round := range 4 {
		time.Sleep(500 * time.Millisecond) // some load
		victim := c.awaitLeader(register)
		if round%2 == 0 {
			victim = 1 - victim
		}
		began := time.Now()
		c.nodes[victim].kill()
		if err := c.nodes[victim].start(); err != nil {
			t.Fatal(err)
		}
		if err := c.awaitWhole(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		t.Logf("node %d was killed; all groups are whole again after %v", victim, time.Since(began))
	}
	settle(t, c, w)
}

// A durable member that joins while the log is still whole, but has a mark behind which it is cut a moment later, comes back
// from an image that was taken before it was a member.
func TestJoinBetweenMarkAndCut(t *testing.T) {
	c := newCluster(t, 3, true, settings{Expect: 2, Images: true})
	start := func(i int) {
		t.Helper()
		if err := c.nodes[i].start(); err != nil {
			t.Fatal(err)
		}
	}
	execute := func(times int) {
		t.Helper()
		for range times {
			r, err := c.nodes[0].living().ask(t.Context(), request{Ask: "do", Group: counter, Command: command{ID: rand.Uint64(), Do: add, New: 1}})
			if err != nil || r.Outcome != yes {
				t.Fatal(r.Err, err)
			}
		}
	}
	start(0)
	start(1)
	execute(keptMost + 20) // beyond which there is a mark
	start(2)
	if err := c.awaitWhole(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	execute(2 * keptLeast) // after which the log may be cut there
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if st := c.nodes[2].status(); st != nil && st[counter].LogCut {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the log is not cut: %+v", st)
		}
	}
	c.nodes[2].kill()
	start(2)
	if err := c.awaitWhole(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
}

// settle ends the load and checks what became of it.
func settle(t *testing.T, c *cluster, w *workload) {
	t.Helper()
	if !w.finish(time.Minute) {
		t.Fatal("calls have not ended")
	}
	final, err := c.books(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	h := &harm{c: c}
	for _, text := range c.check(w.history, final, false).report(t, c, w, h) {
		t.Error(text)
	}
	if t.Failed() {
		c.save(w.history, final)
	}
}

// Whichever of three members is killed, the next command is accepted within a second; if it is stopped or cut off, so that no
// connection closes, within five. The limits are for the median, since a busy machine may have its moments.
func TestNextCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, durable := range []bool{false, true} {
		name := "volatile"
		if durable {
			name = "durable"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, durable, settings{Expect: 3})
			c.startAll()
			for _, f := range []struct {
				name  string
				limit time.Duration
				do    func(victim int) error
				undo  func(victim int) error
			}{
				{"killed", time.Second,
					func(i int) error { c.nodes[i].kill(); return nil },
					func(i int) error { return c.nodes[i].start() }},
				{"stopped", 5 * time.Second,
					func(i int) error { c.nodes[i].stop(); return awaitStopped(c.nodes[i].living().cmd.Process.Pid) },
					func(i int) error { c.nodes[i].resume(); return nil }},
				{"cut off", 5 * time.Second,
					func(i int) error { return c.net.unplug(i) },
					func(i int) error { return c.net.mend() }},
			} {
				if f.name == "cut off" && c.net == nil {
					continue
				}
				for _, leads := range []bool{true, false} {
					var took []time.Duration
					for range 3 {
						if err := c.awaitWhole(t.Context(), time.Minute); err != nil {
							t.Fatal(err)
						}
						victim := c.awaitLeader(register)
						if !leads {
							victim = (victim + 1) % 3
						}
						if err := f.do(victim); err != nil {
							t.Fatal(err)
						}
						took = append(took, c.nextCommand(t, (victim+1)%3))
						if err := f.undo(victim); err != nil {
							t.Fatal(err)
						}
					}
					slices.Sort(took)
					t.Logf("%s, leader: %t: the next command is accepted after %v", f.name, leads, took)
					if took[1] > f.limit {
						t.Errorf("%s, leader: %t: a median of %v, want less than %v", f.name, leads, took[1], f.limit)
					}
				}
			}
		})
	}
}

// nextCommand returns how long a member takes to have a command accepted.
func (c *cluster) nextCommand(t *testing.T, by int) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		r, err := c.nodes[by].living().ask(ctx, request{Ask: "do", Group: register, Command: command{ID: rand.Uint64(), Do: write, New: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome == yes {
			return time.Since(began)
		}
	}
}
