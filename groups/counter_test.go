package groups_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/testnet"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// counter is the machine of most tests: commands are amounts, queries and results are sums.
type counter struct{ sum int64 }

func newCounter() *counter { return new(counter) }

func (*counter) Signature() id.ID { return id.Of("groups test counter v1") }

func (c *counter) Apply(_ groups.ApplyContext, amount int64) int64 {
	c.sum += amount
	return c.sum
}

func (c *counter) Query(struct{}) int64 { return c.sum }

type counterGroup = groups.Group[int64, struct{}, int64]

// What should happen soon is waited for so long in real time, since a busy machine can be slow. Where the time is virtual it
// has no such excuse.
const (
	patience = time.Minute
	soon     = 2 * time.Second

	// Twice the bootstrap delay and the longest election timeout of the defaults.
	bootstrapSoon = 2 * (3*time.Second + 2*time.Second + 500*time.Millisecond)
)

// limit is what a wait is bounded by, if it should be over soon.
func limit(soon time.Duration) time.Duration {
	if time.Now().Year() < 2020 { // virtual time begins in 2000
		return soon
	}
	return patience
}

// bootstrapLimit is the longest that a group may take to come up.
func bootstrapLimit() time.Duration { return limit(bootstrapSoon) }

// unshaken has calls wait longer for a leader than they do by default.
var unshaken = groups.WithConsensus(groups.Consensus{Patience: patience})

// quick are settings under which a group comes up sooner than with the defaults.
var quick = groups.WithConsensus(groups.Consensus{
	Heartbeat: 100 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond, BootstrapDelay: 200 * time.Millisecond,
	Patience: patience,
})

// join joins the group of the key on a node, for the duration of the test.
func join(t testing.TB, net *mosaik.Network, key groups.Key, opts ...groups.Option) *counterGroup {
	t.Helper()
	g, err := groups.Join(net, key, newCounter, opts...)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	return g
}

// team returns a network of n nodes that all are online members of one group.
func team(t testing.TB, n int, opts ...groups.Option) (*testnet.Net, []*counterGroup) {
	t.Helper()
	return teamOf(t, n, groups.RandomKey(), opts...)
}

// teamOf is team with a key.
func teamOf(t testing.TB, n int, key groups.Key, opts ...groups.Option) (*testnet.Net, []*counterGroup) {
	t.Helper()
	net := testnet.Loopback(t, n)
	meet(t, net)
	gs := make([]*counterGroup, n)
	for i := range n {
		gs[i] = join(t, net.Node(i), key, opts...)
	}
	for _, g := range gs {
		within(t, bootstrapLimit(), "online", g.When().Online)
	}
	return net, gs
}

// settled waits until all of the n members vote, or as many as may.
func settled(t testing.TB, gs []*counterGroup) {
	t.Helper()
	deadline := time.Now().Add(limit(20 * time.Second))
	want := len(gs)
	if want > 2 && want%2 == 0 {
		want--
	}
	for _, g := range gs {
		for st := g.Status(); len(st.Members) != len(gs) || st.Voters != min(want, 5); st = g.Status() {
			if time.Now().After(deadline) {
				t.Fatalf("the membership does not settle:\n%v", st)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// within runs a wait that must end in time.
func within(t testing.TB, d time.Duration, what string, wait func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := wait(ctx); err != nil {
		t.Fatalf("%s within %v: %v", what, d, err)
	}
}

// must is within for calls that return something.
func must[R any](t testing.TB, d time.Duration, what string, call func(context.Context) (R, error)) R {
	t.Helper()
	var r R
	within(t, d, what, func(ctx context.Context) (err error) {
		r, err = call(ctx)
		return err
	})
	return r
}

func execute(t testing.TB, g *counterGroup, amount int64) groups.Result[int64] {
	t.Helper()
	return must(t, limit(soon), "execute", func(ctx context.Context) (groups.Result[int64], error) {
		return g.Execute(ctx, amount)
	})
}

func query(t testing.TB, g *counterGroup, c groups.Consistency) groups.Result[int64] {
	t.Helper()
	return must(t, limit(soon), c.String()+" query", func(ctx context.Context) (groups.Result[int64], error) {
		return g.Query(ctx, struct{}{}, c)
	})
}

func reaches(t testing.TB, g *counterGroup, i groups.Index) {
	t.Helper()
	within(t, limit(soon), "commit", func(ctx context.Context) error { return g.When().Committed().Reaches(ctx, i) })
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func wantError(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Fatalf("got error %v, which is not %v", err, target)
		}
	}
}

// ctxArg makes a call with one argument fit for within.
func ctxArg[A any](call func(context.Context, A) error, a A) func(context.Context) error {
	return func(ctx context.Context) error { return call(ctx, a) }
}
