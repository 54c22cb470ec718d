package groups_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// warehouse is a machine with a large state: each command adds a MiB that follows from its number.
type warehouse struct{ blocks [][]byte }

const blockSize = 1 << 20

func newWarehouse() *warehouse { return new(warehouse) }

func (*warehouse) Signature() id.ID { return id.Of("groups test warehouse v1") }

func (w *warehouse) Apply(_ groups.ApplyContext, seed uint64) int {
	if seed != 0 {
		b := make([]byte, blockSize)
		rng := rand.New(rand.NewPCG(seed, 0))
		for i := 0; i < len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
		}
		w.blocks = append(w.blocks, b)
	}
	return len(w.blocks)
}

func (w *warehouse) Query(struct{}) int { return len(w.blocks) }

func (w *warehouse) Snapshot() (groups.View, error) { return warehouseView(slices.Clip(w.blocks)), nil }

func (w *warehouse) Restore(r io.Reader) error {
	for {
		b := make([]byte, blockSize)
		if _, err := io.ReadFull(r, b); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		w.blocks = append(w.blocks, b)
	}
}

type warehouseView [][]byte

func (v warehouseView) WriteTo(w io.Writer) (n int64, err error) {
	for _, b := range v {
		k, err := w.Write(b)
		if n += int64(k); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (warehouseView) Release() {}

type warehouseGroup = groups.Group[uint64, struct{}, int]

func joinWarehouse(t testing.TB, net *mosaik.Network, key groups.Key) *warehouseGroup {
	t.Helper()
	g, err := groups.Join(net, key, newWarehouse, unhurried, groups.WithRetention(groups.Retention{Keep: 2, Most: 8}))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// fullWarehouses returns a group of members that hold a state of some MiB and have cut their logs.
func fullWarehouses(t testing.TB, members, size int) (*testnet.Net, groups.Key) {
	t.Helper()
	net := testnet.Loopback(t, members)
	net.DiscoverAll(t.Context())
	key := groups.RandomKey()
	g := make([]*warehouseGroup, members)
	for i := range g {
		g[i] = joinWarehouse(t, net.Node(i), key)
	}
	for _, g := range g {
		within(t, bootstrapLimit(), "online", g.When().Online)
	}
	for i := range size + 20 {
		seed := uint64(i) + 1
		if i >= size {
			seed = 0
		}
		must(t, 10*time.Second, "execute", func(ctx context.Context) (groups.Result[int], error) { return g[0].Execute(ctx, seed) })
	}
	for _, g := range g {
		deadline := time.Now().Add(20 * time.Second)
		for st := g.Status(); !st.LogCut || st.Voters != members; st = g.Status() {
			if time.Now().After(deadline) {
				t.Fatalf("the log is not cut:\n%v", st)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return net, key
}

// BenchmarkJoinWithState measures how long a member takes to join a group of three that hold a large state, all four on
// this machine. MB/s is over the whole time from Join to the state being in use; the time for finding each other is in it.
func BenchmarkJoinWithState(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprintf("%dMiB", size), func(b *testing.B) {
			if testing.Short() && size > 64 {
				b.Skip("large")
			}
			net, key := fullWarehouses(b, 3, size)
			net.Add()
			net.DiscoverAll(b.Context())
			b.SetBytes(int64(size) * blockSize)
			for b.Loop() {
				g := joinWarehouse(b, net.Node(3), key)
				within(b, time.Minute, "online", g.When().Online)
				if n := must(b, time.Second, "query", func(ctx context.Context) (groups.Result[int], error) {
					return g.Query(ctx, struct{}{}, groups.Weak)
				}); n.Value != size {
					b.Fatalf("%d blocks", n.Value)
				}
				b.StopTimer()
				g.Close()
				b.StartTimer()
			}
		})
	}
}

// Two members at once fetch a state that is too large to be kept as bytes.
func TestJoinWithLargeState(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("tens of MiB")
	}
	const size = 24
	net, key := fullWarehouses(t, 3, size)
	net.Add()
	net.Add()
	net.DiscoverAll(t.Context())
	late := []*warehouseGroup{joinWarehouse(t, net.Node(3), key), joinWarehouse(t, net.Node(4), key)}
	for _, g := range late {
		within(t, time.Minute, "online", g.When().Online)
		if n := must(t, 5*time.Second, "query", func(ctx context.Context) (groups.Result[int], error) {
			return g.Query(ctx, struct{}{}, groups.Strong)
		}); n.Value != size {
			t.Errorf("%d blocks", n.Value)
		}
	}
}
