//go:build linux

package faultrun

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
)

var (
	runFor  = flag.Duration("faultrun.for", 0, "how long each mix of faults goes on; zero: 6 s")
	runMix  = flag.String("faultrun.mix", "", "only the mixes whose names begin with this; empty: the first three, with -short the first only")
	runSeed = flag.Uint64("faultrun.seed", 0, "of what happens; zero: a random one")
)

// mix is a kind of run.
type mix struct {
	name     string
	nodes    int
	durable  bool
	settings settings
	rest     time.Duration // longest pause between faults
	faults   []*fault
}

var (
	netFaults = []*fault{
		{name: "split", network: true, do: split(true)},
		{name: "split, one way", network: true, do: split(false)},
		{name: "partial split", network: true, do: partial},
		{name: "wire unplugged", network: true, do: unplug},
	}
	killFaults = []*fault{
		{name: "SIGKILL", do: killOne},
		{name: "SIGKILL of many", do: killMany},
		{name: "SIGKILL of all", do: killAll},
	}
	volatileKills = []*fault{
		{name: "SIGKILL", whole: true, do: killMinority},
		{name: "restart", whole: true, do: restart},
	}
	haltFault    = &fault{name: "SIGSTOP", do: halt}
	churnFault   = &fault{name: "leadership moved about", do: churn}
	clockFault   = &fault{name: "clock stepped", do: step}
	restartFault = &fault{name: "restart", do: restart}
	fullFault    = &fault{name: "disk full", do: diskFull}
	diskFaults   = []*fault{
		fullFault,
		{name: "torn tail", do: tornTail},
		{name: "cut tail", alone: true, do: damaged(cut)},
		{name: "flipped byte", alone: true, do: damaged(flip)},
	}
)

func join(lists ...[]*fault) []*fault { return slices.Concat(lists...) }

var mixes = []mix{
	{
		name: "durable-5", nodes: 5, durable: true, rest: 3 * time.Second,
		settings: settings{Expect: 5, Images: true, RemoveDurableAfter: 10 * time.Second, Patience: 4 * time.Second},
		faults:   join(netFaults, killFaults, diskFaults, []*fault{haltFault, churnFault, clockFault, restartFault}),
	},
	{
		name: "volatile-5", nodes: 5, rest: 2 * time.Second,
		settings: settings{Expect: 5, Images: true, Patience: 4 * time.Second},
		faults:   join(netFaults[2:3], volatileKills, volatileKills, []*fault{churnFault, haltFault}),
	},
	{
		name: "available-3", nodes: 3, rest: 4 * time.Second,
		settings: settings{Expect: 3, Available: 3 * time.Second, Surface: true, Patience: 4 * time.Second},
		faults:   join(netFaults, netFaults, []*fault{haltFault}),
	},
	{
		name: "available-durable-5", nodes: 5, durable: true, rest: 4 * time.Second,
		settings: settings{Expect: 5, Available: 3 * time.Second, Patience: 4 * time.Second},
		faults:   join(netFaults, netFaults, killFaults, []*fault{haltFault, restartFault}),
	},
	{
		name: "durable-3", nodes: 3, durable: true, rest: 3 * time.Second,
		settings: settings{Expect: 3, Patience: 4 * time.Second},
		faults:   join(killFaults, diskFaults, []*fault{restartFault, haltFault}),
	},
	{
		name: "volatile-3", nodes: 3, rest: 3 * time.Second,
		settings: settings{Expect: 3, Patience: 4 * time.Second},
		faults:   join(netFaults, []*fault{churnFault, clockFault, haltFault}),
	},
}

// TestMixes runs each mix of faults under load.
func TestMixes(t *testing.T) {
	length, chosen := cmp.Or(*runFor, 6*time.Second), mixes[:3]
	if testing.Short() {
		chosen = mixes[:1]
	}
	if *runMix != "" {
		chosen = slices.DeleteFunc(slices.Clone(mixes), func(m mix) bool { return !strings.HasPrefix(m.name, *runMix) })
	}
	if len(chosen) == 0 {
		t.Fatalf("there is no mix %q", *runMix)
	}
	for _, m := range chosen {
		t.Run(m.name, func(t *testing.T) {
			seed := *runSeed
			if seed == 0 {
				seed = rand.Uint64()
			}
			t.Logf("seed %d", seed)
			m.run(t, length, seed)
		})
	}
}

// run is one run.
func (m *mix) run(t *testing.T, length time.Duration, seed uint64) {
	c := newCluster(t, m.nodes, m.durable, m.settings)
	c.startAll()
	h := &harm{c: c, load: startClients(c, time.Duration(m.nodes*kinds)*time.Second/400, seed), rest: m.rest, count: make(map[string]int)}
	for _, f := range m.faults {
		if wrapped || f != fullFault {
			h.kinds = append(h.kinds, f)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	h.run(ctx, seed)
	c.note("the faults are over")
	h.awaitWhole(t.Context())
	if !h.load.finish() {
		t.Fatalf("calls of clients have not ended %v after the faults", limit)
	}
	final, err := c.books()
	if err != nil {
		h.errs = append(h.errs, err)
	} else {
		for _, text := range c.check(h.load.history, final, m.settings.Available > 0).report(t, c, h) {
			t.Error(text)
		}
	}
	for _, err := range h.errs {
		t.Error(err)
	}
	if t.Failed() {
		if err := c.save(h.load.history, final); err != nil {
			t.Error(err)
		}
		t.Logf("seed %d; histories and what happened when are in %s", seed, c.out)
	}
}

// report logs what was done and returns what is wrong.
func (v *verdict) report(t *testing.T, c *cluster, h *harm) []string {
	var b strings.Builder
	var commands, reads, slowest = map[string]int{}, map[string]int{}, time.Duration(0)
	for _, o := range h.load.history {
		if o.read() {
			reads[o.Outcome]++
		} else {
			commands[o.Outcome]++
		}
		if o.Outcome == yes {
			slowest = max(slowest, o.End-o.Begin)
		}
	}
	took := time.Since(c.began)
	fmt.Fprintf(&b, "%v: %d calls, %.0f/s; commands: %d acknowledged, %d without effect, %d unknown; strong reads: %d answered, %d not; slowest answer %v\n",
		took.Round(time.Second), len(h.load.history), float64(len(h.load.history))/took.Seconds(),
		commands[yes], commands[no], commands[unknown], reads[yes], reads[no]+reads[unknown], slowest.Round(time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(h.count)) {
		fmt.Fprintf(&b, "  %4d %s\n", h.count[name], name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.events)) {
		fmt.Fprintf(&b, "  %4d times told: %s\n", c.events[name], name)
	}
	fmt.Fprintf(&b, "%d histories checked by porcupine; commands lost %d, doubled %d, never sent %d, without effect and there %d, out of order %d, wrongly answered %d; "+
		"acknowledged and told as diverged %d", v.histories, v.lost, v.doubled, v.invented, v.risen, v.misplaced, v.wrong, v.reported)
	t.Log(b.String())
	if n := c.events[groups.StateDiverged.String()]; n > 0 {
		v.violate(nil, "%d times a member wrote its state as other bytes than the group had agreed on", n)
	}
	if commands[yes] == 0 || reads[yes] == 0 {
		v.violate(nil, "no command or no read was answered")
	}
	return v.violations
}
