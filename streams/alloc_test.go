//go:build !race

package streams_test

import (
	"testing"

	"github.com/mosaik-go/mosaik/streams"
)

// Sending and receiving items without pointers allocates nothing for each item.
func TestAllocations(t *testing.T) {
	net := over(t, "tcp", 2)
	p := produce[quote](t, net.Node(0), streams.OnLag(streams.Block))
	c := consume[quote](t, net.Node(1))
	ctx := t.Context()
	const run = 1000
	perRun := testing.AllocsPerRun(100, func() {
		for i := range run {
			if err := p.Send(ctx, quote{Seq: uint64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		for range run {
			if _, err := c.Recv(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
	// What is allocated is for batches, connections and whatever else the nodes do.
	if each := perRun / run; each > 0.3 {
		t.Errorf("%.2f allocations for each item", each)
	}
}
