package groups_test

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// long reports whether tests take the time that they take in full.
func long() bool { return os.Getenv("MOSAIK_LONG") == "1" }

// fleet is many groups on the same nodes.
type fleet struct {
	t     testing.TB
	net   *testnet.Net
	regs  []*prometheus.Registry
	teams [][]*counterGroup // by group, then by node
}

// newFleet opens the nodes, without groups.
func newFleet(t testing.TB, nodes int) *fleet {
	t.Helper()
	f := &fleet{t: t, net: testnet.Loopback(t, 0, testnet.Patience(3*time.Minute))}
	for range nodes {
		reg := prometheus.NewRegistry()
		f.net.Add(mosaik.WithMetrics(reg))
		f.regs = append(f.regs, reg)
	}
	f.net.DiscoverAll(t.Context())
	return f
}

// join makes all nodes members of n further groups, and waits until all of them vote.
func (f *fleet) join(n int, opts ...groups.Option) {
	f.t.Helper()
	for range n {
		key := groups.RandomKey()
		var team []*counterGroup
		for _, node := range f.net.Nodes() {
			team = append(team, join(f.t, node, key, opts...))
		}
		f.teams = append(f.teams, team)
	}
	f.settle()
}

// settle waits until all members of all groups are online and vote.
func (f *fleet) settle() {
	f.t.Helper()
	f.net.WaitFor("all groups are complete", func() bool {
		for _, team := range f.teams {
			for _, g := range team {
				if st := g.Status(); !st.Online || st.Voters != len(team) {
					return false
				}
			}
		}
		return true
	})
}

// sum adds up all series of a metric, over all nodes.
func (f *fleet) sum(name string) (total float64) {
	f.t.Helper()
	for _, reg := range f.regs {
		families, err := reg.Gather()
		if err != nil {
			f.t.Fatal(err)
		}
		for _, fam := range families {
			if fam.GetName() == name {
				for _, m := range fam.GetMetric() {
					total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return total
}

// use is what the process has used of the machine.
type use struct {
	at       time.Time
	cpu      time.Duration
	messages float64
}

func (f *fleet) use() use {
	u := use{messages: f.sum("mosaik_groups_bonds_messages_sent") + f.sum("mosaik_groups_pulse_frames_sent")}
	u.at, u.cpu = time.Now(), f.cpu()
	return u
}

// cpu returns the processor time of the process.
func (f *fleet) cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		f.t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// rates returns, per node, the share of a core and the messages per second since the earlier reading.
func (f *fleet) rates(since use) (core, messages float64) {
	cpu, took, nodes := f.cpu()-since.cpu, time.Since(since.at).Seconds(), float64(f.net.Len())
	return cpu.Seconds() / took / nodes, (f.use().messages - since.messages) / took / nodes
}

// held returns the bytes of live memory, and of stacks.
func held() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// Many groups on the same nodes cost little while they are idle: no goroutines, few messages, little memory.
func TestManyGroups(t *testing.T) {
	const nodes = 3
	count, span := 100, 3*time.Second
	if long() {
		count, span = 1000, 30*time.Second
	}
	f := newFleet(t, nodes)
	f.join(1, unshaken)
	goroutines, memory := runtime.NumGoroutine(), held()
	begin := time.Now()
	f.join(count-1, unshaken)
	t.Logf("%d groups on %d nodes came up in %v", count, nodes, time.Since(begin).Round(time.Millisecond))
	f.net.WaitFor("all groups are at rest", func() bool { return int(f.sum("mosaik_groups_resting")) == nodes*count })

	each := float64(held()-memory) / float64(nodes*(count-1))
	var before use
	var core, messages float64
	var more int
	for begin := time.Now(); ; { // what a busy machine makes them say, as when it holds up a leader, is over soon
		before = f.use()
		time.Sleep(span)
		core, messages = f.rates(before)
		more = runtime.NumGoroutine() - goroutines
		if messages <= float64(count) && more <= 100 || time.Since(begin) > patience {
			break
		}
	}
	t.Logf("idle: %.2f %% of a core and %.0f messages/s per node; %.1f KiB per group and node; %d goroutines more than with one group",
		core*100, messages, each/1024, more)
	if most := float64(count); messages > most {
		t.Errorf("%.0f messages/s per node while all is idle, want at most %.0f", messages, most)
	}
	if most := 30.0; each/1024 > most || long() && each/1024 > 20 {
		t.Errorf("%.1f KiB per group and node", each/1024)
	}
	if more > 100 {
		t.Errorf("%d goroutines more than with one group", more)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		n := 0
		defer func() { done <- n }()
		tick := time.NewTicker(time.Second / time.Duration(count)) // ten a second for each that is active
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			team := f.teams[i%(count/10)]
			if _, err := team[i%nodes].Execute(context.Background(), 1); err != nil {
				t.Error(err)
				return
			}
			n++
		}
	}()
	before = f.use()
	time.Sleep(span)
	core, messages = f.rates(before)
	cancel()
	t.Logf("one in ten active, %.0f commands/s in all: %.2f %% of a core and %.0f messages/s per node",
		float64(<-done)/span.Seconds(), core*100, messages)

	f.net.Kill(0)
	begin = time.Now()
	led := func() bool {
		for _, team := range f.teams {
			for _, g := range team[1:] {
				if leader, ok := g.Leader(); !ok || leader == f.net.Node(0).ID() || !g.Status().Online {
					return false
				}
			}
		}
		return true
	}
	f.net.WaitFor("all groups have a leader again", led)
	t.Logf("%v after one node was killed all groups had a leader among the others", time.Since(begin).Round(time.Millisecond))
	for _, i := range f.net.Up() {
		f.net.Kill(i) // two thousand departures at once are another matter
	}
}
