package groups_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// A history gives way to another one while a third comes in sight, which is ahead of both. Its member goes where its calls
// went, whatever the moment, so that none of those that are under way fails.
func TestThirdRivalComesInSight(t *testing.T) {
	t.Parallel()
	for i := range 80 {
		ok := t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { thirdRival(t, time.Duration(i)*5*time.Millisecond) })
		})
		if !ok {
			return
		}
	}
}

func thirdRival(t *testing.T, after time.Duration) {
	net := testnet.Simulated(t, 3, testnet.Links(testnet.Link{Delay: 20 * time.Millisecond}))
	key := groups.RandomKey()
	var gs []*groups.Group[step, struct{}, uint64]
	for i, node := range net.Nodes() {
		g, err := groups.Join(node, key, newLedger, quick)
		if err != nil {
			t.Fatal(err)
		}
		gs = append(gs, g)
		within(t, time.Minute, "self-election", g.When().IsLeader)
		var steps []step // so many that those of the senders below do not count
		for n := range 1000 * i {
			steps = append(steps, step{100 + i, uint64(n + 1)})
		}
		if i > 0 {
			must(t, time.Minute, "execute", func(ctx context.Context) (groups.Batch[uint64], error) {
				return g.ExecuteMany(ctx, steps...)
			})
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for s := range 3 {
		wg.Go(func() {
			for n := uint64(1); ctx.Err() == nil; n++ {
				if _, err := gs[0].Execute(context.Background(), step{s, n}); err != nil {
					t.Errorf("the third comes after %v: %v", after, err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	dial := func(from, to int) {
		if err := net.Node(from).Discovery().Dial(t.Context(), net.Node(to).Addr()); err != nil {
			t.Error(err)
		}
	}
	wg.Go(func() { dial(0, 1) })
	time.Sleep(after)
	wg.Go(func() { dial(0, 2) })
	net.WaitUntil("one history", func() error {
		for i, g := range gs {
			if st := g.Status(); !st.Online || st.Genesis != gs[0].Status().Genesis || len(st.Members) != 3 {
				return fmt.Errorf("node %d:\n%v", i, st)
			}
		}
		return nil
	})
	stop()
	wg.Wait()
}
