package groups_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mosaik-go/mosaik/groups"
)

// A strong read that is confirmed at the moment at which its member goes over to another history sees the state of the old
// one or of the new one, and not that of a machine that has just begun.
func TestStrongReadsDuringMerge(t *testing.T) {
	t.Parallel()
	net, gs := rivals(t, []int{6, 2, 2})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var reads, empty atomic.Int64
	for _, g := range gs[1:] {
		for range 64 {
			wg.Go(func() {
				for ctx.Err() == nil {
					res, err := g.Query(ctx, struct{}{}, groups.Strong)
					if err != nil {
						continue
					}
					reads.Add(1)
					if res.Index < 2 || res.Value == 0 {
						empty.Add(1)
					}
				}
			})
		}
	}
	meet(t, net)
	oneLeader(t, gs, patience)
	for _, g := range gs {
		reaches(t, g, 10)
	}
	cancel()
	wg.Wait()
	if n := empty.Load(); n > 0 {
		t.Errorf("%d of %d strong reads saw less than had been acknowledged before", n, reads.Load())
	}
}
