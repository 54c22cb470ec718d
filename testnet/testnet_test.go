package testnet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/testnet"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// connected reports whether a node has a live connection to another.
func connected(n *testnet.Net, from, to int) bool {
	return n.Node(from).Node().Host.Connected(n.Node(to).ID())
}

// meshed waits until all given nodes are connected to each other.
func meshed(n *testnet.Net, nodes ...int) {
	for _, i := range nodes {
		for _, j := range nodes {
			if i != j {
				_ = n.Node(i).Node().Host.Connect(context.Background(), n.Node(j).Addr())
			}
		}
	}
	n.WaitFor(fmt.Sprintf("nodes %v are connected", nodes), func() bool {
		for _, i := range nodes {
			for _, j := range nodes {
				if i != j && !connected(n, i, j) {
					return false
				}
			}
		}
		return true
	})
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 3)
	if net.Len() != 3 || len(net.Nodes()) != 3 || !slices.Equal(net.Up(), []int{0, 1, 2}) {
		t.Fatalf("%d nodes, up %v, want three", net.Len(), net.Up())
	}
	net.DiscoverAll(t.Context())
	for i := range 3 {
		if got := net.Node(i).Discovery().Catalog().Len(); got != 2 {
			t.Errorf("node %d lists %d peers, want 2", i, got)
		}
	}
	net.Close(1)
	net.Kill(2)
	net.Close(2) // nothing happens to a node that is down
	if !slices.Equal(net.Up(), []int{0}) {
		t.Errorf("up %v, want 0 alone", net.Up())
	}
	net.WaitFor("node 0 is alone", func() bool { return !connected(net, 0, 1) && !connected(net, 0, 2) })
}

// Nodes that refuse each other for a moment, since they were asked too often, know each other in the end.
func TestDiscoverAllTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 2)
		ask := func() error { return net.Node(0).Discovery().SyncWith(t.Context(), net.Node(1).Addr()) }
		for n := 0; ask() == nil; n++ {
			if n > 1000 {
				t.Fatal("a node may ask as often as it likes")
			}
		}
		net.DiscoverAll(t.Context())
	})
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"loopback", "simulated"} {
		t.Run(kind, func(t *testing.T) {
			var net *testnet.Net
			if kind == "loopback" {
				net = testnet.Loopback(t, 2, testnet.Nodes(mosaik.WithTags("x")))
			} else {
				net = testnet.Simulated(t, 2, testnet.Nodes(mosaik.WithTags("x"))).Net
			}
			net.DiscoverAll(t.Context())
			var restarted []int
			net.OnRestart(func(i int, _ *mosaik.Network) { restarted = append(restarted, i) })
			before := net.Node(1)
			net.Kill(1)
			after := net.Restart(1)
			if after == before || after.ID() != before.ID() || net.Node(1) != after {
				t.Errorf("restarted %v as %v", before.ID(), after.ID())
			}
			if !slices.Equal(restarted, []int{1}) {
				t.Errorf("OnRestart was called for %v", restarted)
			}
			net.DiscoverAll(t.Context())
			net.WaitFor("the other node lists the new life with its tags", func() bool {
				p, ok := net.Node(0).Discovery().Catalog().Get(after.ID())
				return ok && p.HasTag("x") && p.StartedAt().Equal(after.Discovery().Me().StartedAt())
			})
		})
	}
}

// Minutes of virtual time pass in no time, and a network leaves nothing behind in its bubble.
func TestSimulatedPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 5)
		net.DiscoverAll(t.Context())
		meshed(net.Net, 0, 1, 2, 3, 4)
		net.Partition([]int{0, 1})
		time.Sleep(7 * time.Second)
		for i := range 5 {
			for j := range 5 {
				if want := (i < 2) == (j < 2); i != j && connected(net.Net, i, j) != want {
					t.Errorf("node %d connected to node %d: %v, want %v", i, j, !want, want)
				}
			}
		}
		net.Heal()
		time.Sleep(10 * time.Minute)
		meshed(net.Net, 0, 1, 2, 3, 4)
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		fault, after func(*testnet.Sim)
		cut          [][2]int // who is no longer connected
	}{
		{"isolate", func(n *testnet.Sim) { n.Isolate(1) }, (*testnet.Sim).Heal, [][2]int{{0, 1}, {1, 2}}},
		{"cut", func(n *testnet.Sim) { n.Cut(0, 1) }, func(n *testnet.Sim) { n.Mend(0, 1) }, [][2]int{{0, 1}}},
		{"one way", func(n *testnet.Sim) { n.CutOneWay(0, 1) }, func(n *testnet.Sim) { n.Mend(1, 0) }, [][2]int{{0, 1}}},
		{"pause", func(n *testnet.Sim) { n.Pause(2) }, func(n *testnet.Sim) { n.Resume(2) }, [][2]int{{0, 2}, {1, 2}}},
		{"slow", func(n *testnet.Sim) { n.SetLinks(testnet.Link{Delay: time.Second}) },
			func(n *testnet.Sim) { n.SetLinks(testnet.Link{}) }, nil},
		{"very slow", func(n *testnet.Sim) { n.SetLink(0, 2, testnet.Link{Delay: time.Minute}) },
			func(n *testnet.Sim) { n.SetLink(0, 2, testnet.Link{}) }, [][2]int{{0, 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := testnet.Simulated(t, 3)
				net.DiscoverAll(t.Context())
				meshed(net.Net, 0, 1, 2)
				c.fault(net)
				time.Sleep(7 * time.Second)
				for _, p := range [][2]int{{0, 1}, {1, 2}, {0, 2}} {
					want := !slices.Contains(c.cut, p)
					// The one that is paused notices nothing itself.
					if connected(net.Net, p[0], p[1]) != want {
						t.Errorf("nodes %v connected: %v, want %v", p, !want, want)
					}
				}
				c.after(net)
				time.Sleep(time.Minute)
				meshed(net.Net, 0, 1, 2)
			})
		})
	}
}

func TestKillAndPowerOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 3)
		net.DiscoverAll(t.Context())
		meshed(net.Net, 0, 1, 2)
		net.Kill(1)
		net.PowerOff(2)
		time.Sleep(100 * time.Millisecond)
		if connected(net.Net, 0, 1) {
			t.Error("the connection to a killed node did not break")
		}
		if !connected(net.Net, 0, 2) {
			t.Error("the connection to a node without power broke")
		}
		time.Sleep(7 * time.Second)
		if connected(net.Net, 0, 2) {
			t.Error("the silence was not noticed")
		}
		net.Restart(2)
		meshed(net.Net, 0, 2)
	})
}

func TestSeedFixesIdentities(t *testing.T) {
	t.Parallel()
	ids := func(seed uint64) (out []mosaik.PeerID) {
		net := testnet.Simulated(t, 3, testnet.Seed(seed))
		if net.Seed() != seed {
			t.Errorf("seed %d, want %d", net.Seed(), seed)
		}
		for _, n := range net.Nodes() {
			out = append(out, n.ID())
		}
		return out
	}
	if a, b := ids(1), ids(1); !slices.Equal(a, b) {
		t.Errorf("one seed gave %v and %v", a, b)
	}
	if a, b := ids(1), ids(2); slices.Equal(a, b) {
		t.Error("two seeds gave the same identities")
	}
}

// failingTB stands in for the test of a user whose test fails.
type failingTB struct {
	testing.TB
	mu       sync.Mutex
	messages strings.Builder
	failed   bool
	cleanups []func()
}

func (f *failingTB) say(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(&f.messages, format+"\n", args...)
}
func (f *failingTB) Logf(format string, args ...any) { f.say(format, args...) }
func (f *failingTB) Fatalf(format string, args ...any) {
	f.say(format, args...)
	f.mu.Lock()
	f.failed = true
	f.mu.Unlock()
	runtime.Goexit()
}
func (f *failingTB) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}
func (f *failingTB) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }

// run runs a test that may fail, with its cleanups, and returns what it printed.
func (f *failingTB) run(test func(testing.TB)) string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, fn := range slices.Backward(f.cleanups) {
				fn()
			}
		}()
		test(f)
	}()
	<-done
	return f.messages.String()
}

func wantInMessage(t *testing.T, message string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(message, w) {
			t.Errorf("the message does not contain %q:\n%s", w, message)
		}
	}
}

func TestFailureExplains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		message := (&failingTB{TB: t}).run(func(t testing.TB) {
			net := testnet.Simulated(t, 3, testnet.Seed(5), testnet.Patience(20*time.Second))
			net.DiscoverAll(t.Context())
			meshed(net.Net, 0, 1, 2)
			net.Kill(2)
			net.Partition([]int{0})
			net.WaitUntil("the sky falls", func() error { return errors.New("it is still up") })
		})
		wantInMessage(t, message, "not within 20s: the sky falls: it is still up", "seed 5", "MOSAIK_TESTNET_SEED=5",
			"kill 2", "partition [[0]]", "node 0 ", "lists 0 peers", "node 2 ", "is down")
		if took := time.Since(start); took < 20*time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	for want, test := range map[string]func(testing.TB){
		"Links needs a simulated network": func(t testing.TB) { testnet.Loopback(t, 1, testnet.Links(testnet.Link{})) },
		"there is no node 2":              func(t testing.TB) { testnet.Simulated(t, 2).Kill(2) },
		"it is up":                        func(t testing.TB) { testnet.Simulated(t, 1).Restart(0) },
		"open node 0":                     func(t testing.TB) { testnet.Simulated(t, 1, testnet.Nodes(mosaik.WithSecret(""))) },
	} {
		wantInMessage(t, (&failingTB{TB: t}).run(test), want)
	}
}

func TestVerbose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &outputTB{TB: t}
		net := testnet.Simulated(out, 2, testnet.Verbose(slog.LevelDebug))
		net.DiscoverAll(t.Context())
		foreign := testnet.Simulated(t, 1)
		_ = foreign.Node(0)
		net.Node(0).Node().Logger.Info("hello")
		if got := out.String(); !strings.Contains(got, "msg=hello node=0") {
			t.Errorf("the log is %q", got)
		}
	})
}
