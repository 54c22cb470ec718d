package testnet_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/testnet"
)

// outputTB keeps what is written to the test's output.
type outputTB struct {
	testing.TB
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *outputTB) Output() io.Writer { return o }
func (o *outputTB) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}
func (o *outputTB) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func TestRandomSchedule(t *testing.T) {
	t.Parallel()
	const length = 5 * time.Minute
	all := []testnet.FaultKind{testnet.Split, testnet.OneWay, testnet.Broken, testnet.Slow, testnet.Lossy, testnet.Freeze,
		testnet.Crash, testnet.Resets}
	seen := map[testnet.FaultKind]int{}
	for seed := range uint64(50) {
		net := testnet.Simulated(t, 4, testnet.Seed(seed))
		schedule := net.RandomSchedule(length, all...)
		if again := net.RandomSchedule(length, all...); schedule.String() != again.String() {
			t.Fatalf("seed %d gave two schedules:\n%v\n%v", seed, schedule, again)
		}
		for i, f := range schedule {
			seen[f.Kind]++
			if f.At < 0 || f.For < 0 || f.At+f.For > length {
				t.Errorf("seed %d: %v is not within %v", seed, f, length)
			}
			if i > 0 && f.At < schedule[i-1].At {
				t.Errorf("seed %d: not in order of time:\n%v", seed, schedule)
			}
			sorted := slices.Sorted(slices.Values(f.Nodes))
			if len(slices.Compact(sorted)) != len(f.Nodes) || f.Kind == testnet.Split && (len(f.Nodes) == 0 || len(f.Nodes) == 4) {
				t.Errorf("seed %d: %v hits odd nodes", seed, f)
			}
		}
	}
	for _, k := range all {
		if seen[k] < 10 {
			t.Errorf("%v was drawn %d times in 50 schedules", k, seen[k])
		}
	}
	one := testnet.Simulated(t, 1, testnet.Seed(1))
	for _, f := range one.RandomSchedule(length) {
		if len(f.Nodes) > 1 {
			t.Errorf("a network of one node gets %v", f)
		}
	}
}

func TestPlay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 3)
		net.DiscoverAll(t.Context())
		meshed(net.Net, 0, 1, 2)
		var restarted []string
		start := time.Now()
		net.OnRestart(func(i int, _ *mosaik.Network) {
			restarted = append(restarted, fmt.Sprint(i, " at ", time.Since(start).Truncate(time.Second)))
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			net.Play(t.Context(), testnet.Schedule{
				{At: 20 * time.Second, For: 10 * time.Second, Kind: testnet.Crash, Nodes: []int{2}},
				{At: 5 * time.Second, For: 30 * time.Second, Kind: testnet.Broken, Nodes: []int{0, 1}},
			})
		})
		for _, c := range []struct {
			at        time.Duration
			up        int
			zeroToOne bool
		}{{4 * time.Second, 3, true}, {13 * time.Second, 3, false}, {25 * time.Second, 2, false}, {32 * time.Second, 3, false}} {
			time.Sleep(time.Until(start.Add(c.at)))
			if got := len(net.Up()); got != c.up {
				t.Errorf("at %v: %d nodes are up, want %d", c.at, got, c.up)
			}
			if got := connected(net.Net, 0, 1); got != c.zeroToOne {
				t.Errorf("at %v: nodes 0 and 1 are connected: %v, want %v", c.at, got, c.zeroToOne)
			}
		}
		wg.Wait()
		if took := time.Since(start); took != 35*time.Second {
			t.Errorf("the schedule took %v, want 35s", took)
		}
		if want := []string{"2 at 30s"}; !slices.Equal(restarted, want) {
			t.Errorf("restarted %v, want %v", restarted, want)
		}
		meshed(net.Net, 0, 1, 2)
	})
}

// When its context ends, a schedule ends what it has begun and begins nothing else.
func TestPlayCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 3)
		net.DiscoverAll(t.Context())
		meshed(net.Net, 0, 1, 2)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		net.Play(ctx, testnet.Schedule{
			{At: time.Second, For: time.Hour, Kind: testnet.Split, Nodes: []int{0}},
			{At: time.Second, For: time.Hour, Kind: testnet.Freeze, Nodes: []int{1}},
			{At: 20 * time.Second, For: time.Hour, Kind: testnet.Crash, Nodes: []int{2}},
		})
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("returned after %v, want 10s", took)
		}
		if got := net.Up(); len(got) != 3 {
			t.Errorf("up %v: a fault began after the end", got)
		}
		meshed(net.Net, 0, 1, 2)
	})
}

// Random faults leave a network that still works.
func TestPlayRandom(t *testing.T) {
	t.Parallel()
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			net := testnet.Simulated(t, 5)
			net.DiscoverAll(t.Context())
			net.Play(t.Context(), net.RandomSchedule(2*time.Minute))
			time.Sleep(10 * time.Second)
			meshed(net.Net, 0, 1, 2, 3, 4)
		})
	}
}
