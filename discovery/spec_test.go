package discovery_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/testnet"
)

// atMost is a limit on a machine that does nothing else, which MOSAIK_LONG=1 says that this is; others get six times as much.
func atMost(d time.Duration) time.Duration {
	if os.Getenv("MOSAIK_LONG") == "1" {
		return d
	}
	return 6 * d
}

// Scenarios of the inventory on real nodes over loopback.

// discovery: catalog/converge_with_bootstrap
//
// The test is not parallel: it measures.
func TestConvergeWithBootstrap(t *testing.T) {
	net := testnet.Loopback(t, 1, testnet.Patience(3*time.Minute))
	clock := startClock()
	for range 10 {
		net.Add(mosaik.WithBootstrap(net.Node(0).Addr()))
	}
	net.WaitUntil("each of the ten sees exactly ten others", func() error {
		for i, n := range net.Nodes()[1:] {
			if got := n.Discovery().Catalog().Len(); got != 10 {
				return fmt.Errorf("node %d sees %d", i+1, got)
			}
		}
		return nil
	})
	if took := clock.took(); took > atMost(10*time.Second) {
		t.Errorf("it took %v, want less than %v", took, atMost(10*time.Second))
	}
}

// discovery: catalog/manual_sync_trigger
func TestManualSyncTrigger(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 2)
	n0, n1 := net.Node(0).Discovery(), net.Node(1).Discovery()
	counts := func(d *discovery.Discovery) [3]int {
		c := d.Catalog()
		signed, unsigned := 0, 0
		for range c.Signed() {
			signed++
		}
		for range c.Unsigned() {
			unsigned++
		}
		return [3]int{c.Len(), signed, unsigned}
	}
	expect := func(when string, want0, want1 [3]int) {
		t.Helper()
		if got := counts(n0); got != want0 {
			t.Errorf("%s: node 0 counts (all, signed, unsigned) %v, want %v", when, got, want0)
		}
		if got := counts(n1); got != want1 {
			t.Errorf("%s: node 1 counts (all, signed, unsigned) %v, want %v", when, got, want1)
		}
	}
	expect("at first", [3]int{}, [3]int{})
	if !n1.Insert(n0.Me()) {
		t.Fatal("the unsigned entry was refused")
	}
	expect("after an unsigned insert", [3]int{}, [3]int{1, 0, 1})
	net.WaitUntil("a sync", func() error { // a busy machine can be too slow for a dial
		return n1.SyncWith(t.Context(), discovery.PeerAddr{ID: net.Node(0).ID()})
	})
	expect("after the sync", [3]int{1, 1, 0}, [3]int{1, 1, 0})
}

// discovery: catalog/different_networks_are_isolated
//
// Unlike in the original, an exchange across networks does not succeed and have no effect: it is refused, with the reason.
func TestDifferentNetworksAreIsolated(t *testing.T) {
	t.Parallel()
	a, b := testnet.Loopback(t, 2), testnet.Loopback(t, 3)
	all := append(a.Nodes(), b.Nodes()...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for _, x := range all {
		for _, y := range all {
			if x == y {
				continue
			}
			wg.Go(func() {
				same := x.NetworkID() == y.NetworkID()
				err := x.Discovery().SyncWith(ctx, y.Addr())
				for same && err != nil && ctx.Err() == nil { // a busy machine can be too slow for a dial
					time.Sleep(50 * time.Millisecond)
					err = x.Discovery().SyncWith(ctx, y.Addr())
				}
				if same != (err == nil) {
					t.Errorf("same network %v: %v", same, err)
				}
			})
		}
	}
	wg.Wait()
	check := func(net *testnet.Net, want int) {
		t.Helper()
		for i, n := range net.Nodes() {
			if got := n.Discovery().Catalog().Len(); got != want {
				t.Errorf("node %d sees %d others, want %d", i, got, want)
			}
			for p := range n.Discovery().Catalog().Peers() {
				if net.IndexOf(p.ID()) < 0 {
					t.Errorf("node %d sees %v, who is not of its network", i, p)
				}
			}
		}
	}
	check(a, 1)
	check(b, 2)
}

// Fifty nodes that know one bootstrap address all see all in less than five seconds. The test is not parallel: it measures.
func TestFiftyNodesFromOneBootstrapAddress(t *testing.T) {
	nodes := 50
	if raceDetector {
		nodes = 15 // so many handshakes under the race detector are no measure of anything
	}
	net := testnet.Loopback(t, 1, testnet.Patience(3*time.Minute))
	clock := startClock()
	for range nodes - 1 {
		net.Add(mosaik.WithBootstrap(net.Node(0).Addr()))
	}
	opened := clock.took()
	net.WaitUntil("all see all", func() error {
		for i, n := range net.Nodes() {
			if got := n.Discovery().Catalog().Len(); got != nodes-1 {
				return fmt.Errorf("node %d sees %d others", i, got)
			}
		}
		return nil
	})
	took := clock.took()
	t.Logf("all see all after %v, of which opening the nodes took %v; with other programs on the machine %v", took, opened, time.Since(clock.began))
	if took > atMost(5*time.Second) {
		t.Errorf("all see all after %v, want less than %v", took, atMost(5*time.Second))
	}
}
