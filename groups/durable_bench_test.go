package groups_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
	"github.com/mosaik-go/mosaik/testnet"
)

// durableTeam returns three members of a group whose logs are on disk, the leader first. All three stores are on one
// disk, so each command is synced three times there.
func durableTeam(b *testing.B) []*sinkGroup {
	b.Helper()
	net := testnet.Loopback(b, 0)
	key := groups.RandomKey()
	for range 3 {
		s, err := pebble.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		net.Add(mosaik.WithStorage(s))
	}
	b.Cleanup(func() { // before the stores
		for i := range 3 {
			net.Close(i)
		}
	})
	var gs []*sinkGroup
	for i := range 3 {
		for j := range i {
			if err := net.Node(i).Discovery().Dial(b.Context(), net.Node(j).Addr()); err != nil {
				b.Fatal(err)
			}
		}
	}
	for i := range 3 {
		g, err := groups.Join(net.Node(i), key, newSink)
		if err != nil {
			b.Fatal(err)
		}
		gs = append(gs, g)
	}
	for _, g := range gs {
		within(b, bootstrapLimit(), "online", g.When().Online)
		for g.Status().Voters != 3 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for i, g := range gs {
		if g.IsLeader() {
			gs[0], gs[i] = gs[i], gs[0]
			break
		}
	}
	return gs
}

// BenchmarkDurableExecute is BenchmarkExecute with logs on disk, synced before anything is acknowledged.
func BenchmarkDurableExecute(b *testing.B) {
	gs := durableTeam(b)
	for i, member := range members {
		for _, proposers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d", member, proposers), func(b *testing.B) {
				drive(b, proposers, 1, func() error {
					_, err := gs[i].Execute(context.Background(), payload{})
					return err
				})
			})
		}
	}
}

// BenchmarkDurableExecuteMany has batches of 100 commands.
func BenchmarkDurableExecuteMany(b *testing.B) {
	gs := durableTeam(b)
	batch := make([]payload, 100)
	for _, proposers := range []int{1, 16} {
		b.Run(fmt.Sprint("leader/", proposers), func(b *testing.B) {
			drive(b, proposers, len(batch), func() error {
				_, err := gs[0].ExecuteMany(context.Background(), batch...)
				return err
			})
		})
	}
}
