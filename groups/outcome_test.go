package groups_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// simulated runs fn in virtual time on n simulated nodes that know each other.
func simulated(t *testing.T, n int, fn func(*testing.T, *testnet.Sim)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, n)
		net.DiscoverAll(t.Context())
		fn(t, net)
	})
}

// joinAll joins the group of the key on every node and waits until all vote.
func joinAll(t *testing.T, net *testnet.Net, key groups.Key, opts ...groups.Option) []*counterGroup {
	t.Helper()
	var gs []*counterGroup
	for _, node := range net.Nodes() {
		gs = append(gs, join(t, node, key, opts...))
	}
	for _, g := range gs {
		within(t, time.Minute, "online", g.When().Online)
	}
	settled(t, gs)
	return gs
}

func leaderOf(t testing.TB, gs []*counterGroup) (leader int) {
	t.Helper()
	for i, g := range gs {
		if g.IsLeader() {
			return i
		}
	}
	t.Fatal("nobody leads")
	return -1
}

// A call on a group without a leader was not applied, whatever ended the wait.
func TestOutcomeWithoutLeader(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		g := join(t, net.Node(0), groups.RandomKey(), groups.ExpectMembers(3)) // never founded
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := g.Execute(ctx, 1)
		wantError(t, err, groups.ErrNotApplied, context.DeadlineExceeded)
		if errors.Is(err, groups.ErrOutcomeUnknown) || errors.Is(err, groups.ErrOffline) {
			t.Errorf("got %v", err)
		}

		begin := time.Now()
		_, err = g.Execute(t.Context(), 1)
		wantError(t, err, groups.ErrNotApplied, groups.ErrOffline)
		if took := time.Since(begin); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("patience of 10s ended after %v", took)
		}
		if !strings.Contains(err.Error(), g.Status().Reason) || g.Status().Reason == "" {
			t.Errorf("the error does not say why: %v", err)
		}
		_, err = g.Query(t.Context(), struct{}{}, groups.Strong)
		wantError(t, err, groups.ErrOffline)
		if res, err := g.Query(t.Context(), struct{}{}, groups.Weak); err != nil || res.Value != 0 {
			t.Errorf("weak query offline: %v, %v", res, err)
		}

		cause := errors.New("the user went away")
		ctx2, cancel2 := context.WithCancelCause(t.Context())
		cancel2(cause)
		_, err = g.Feed(ctx2, 1)
		wantError(t, err, groups.ErrNotApplied, cause)
	})
}

// A call that was sent to a leader which cannot commit has an unknown outcome; it takes effect at most once.
func TestOutcomeUnknown(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		gs := joinAll(t, net.Net, groups.RandomKey())
		l := leaderOf(t, gs)
		net.Isolate(l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := gs[l].Execute(ctx, 1)
		wantError(t, err, groups.ErrOutcomeUnknown, context.DeadlineExceeded)
		if errors.Is(err, groups.ErrNotApplied) {
			t.Errorf("got %v", err)
		}
		other := gs[(l+1)%3]
		within(t, 30*time.Second, "another leader", func(ctx context.Context) error {
			_, err := other.Execute(ctx, 10)
			return err
		})
		net.Heal()
		within(t, time.Minute, "the old leader is back", gs[l].When().Online)
		within(t, time.Minute, "the old leader takes commands", func(ctx context.Context) error {
			_, err := gs[l].Execute(ctx, 100)
			return err
		})
		sum := must(t, time.Minute, "strong read", func(ctx context.Context) (groups.Result[int64], error) {
			return other.Query(ctx, struct{}{}, groups.Strong)
		}).Value
		if sum != 110 && sum != 111 {
			t.Errorf("sum %d: the command of unknown outcome was applied %d times", sum, sum-110)
		}
	})
}

// Calls that make no sense fail at once and say so.
func TestRefusedCalls(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		g := join(t, net.Node(0), groups.RandomKey())
		_, err := g.ExecuteMany(t.Context())
		wantError(t, err, groups.ErrNoCommands, groups.ErrNotApplied)
		_, err = g.FeedMany(t.Context())
		wantError(t, err, groups.ErrNoCommands, groups.ErrNotApplied)
		_, err = g.ExecuteMany(t.Context(), make([]int64, groups.MaxCallBytes)...)
		wantError(t, err, groups.ErrTooLarge, groups.ErrNotApplied)
		_, err = g.Query(t.Context(), struct{}{}, 7)
		wantError(t, err, groups.ErrNotApplied)
	})
}

// Close ends everything that waits on the handle, and all that comes later.
func TestCloseFailsWaiters(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		g := join(t, net.Node(0), groups.RandomKey(), groups.ExpectMembers(3))
		ctx := t.Context()
		waits := map[string]func() error{
			"execute":  func() error { _, err := g.Execute(ctx, 1); return err },
			"feed":     func() error { _, err := g.FeedMany(ctx, 1, 2); return err },
			"strong":   func() error { _, err := g.Query(ctx, struct{}{}, groups.Strong); return err },
			"online":   func() error { return g.When().Online(ctx) },
			"leader":   func() error { _, err := g.When().LeaderElected(ctx); return err },
			"reaches":  func() error { return g.When().Committed().Reaches(ctx, 5) },
			"changed":  func() error { _, err := g.When().Committed().Changed(ctx); return err },
			"reverted": func() error { _, err := g.When().Committed().Reverted(ctx); return err },
		}
		ended := make(chan string, len(waits))
		for name, wait := range waits {
			go func() {
				err := wait()
				if !errors.Is(err, groups.ErrClosed) {
					t.Errorf("%s ended with %v", name, err)
				}
				ended <- name
			}()
		}
		events := make(chan struct{})
		evs := g.Events(ctx)
		go func() {
			defer close(events)
			for range evs {
			}
		}()
		synctest.Wait()
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		for range waits {
			<-ended
		}
		<-events
		for name, wait := range waits {
			if err := wait(); !errors.Is(err, groups.ErrClosed) {
				t.Errorf("%s on a closed handle: %v", name, err)
			}
		}
		if _, err := g.Query(ctx, struct{}{}, groups.Weak); !errors.Is(err, groups.ErrClosed) {
			t.Errorf("weak query on a closed handle: %v", err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		net.Close(0)
		if _, err := groups.Join(net.Node(0), groups.RandomKey(), newCounter); !errors.Is(err, groups.ErrClosed) {
			t.Errorf("join on a closed network: %v", err)
		}
	})
}

// bomb is a counter that panics at 13.
type bomb struct{ counter }

func newBomb() *bomb { return new(bomb) }

func (b *bomb) Apply(ctx groups.ApplyContext, amount int64) int64 {
	if amount == 13 {
		panic("unlucky")
	}
	return b.counter.Apply(ctx, amount)
}

// A panic in Apply ends the group on that node with a reason, and nothing else of the program.
func TestPanicInApply(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		bad, err := groups.Join(net.Node(0), groups.RandomKey(), newBomb)
		if err != nil {
			t.Fatal(err)
		}
		good := join(t, net.Node(0), groups.RandomKey())
		within(t, time.Minute, "online", bad.When().Online)
		if _, err := bad.Execute(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		_, err = bad.Execute(t.Context(), 13)
		wantError(t, err, groups.ErrOutcomeUnknown)
		p, ok := errors.AsType[*groups.PanicError](err)
		if !ok || p.Value != "unlucky" || !strings.Contains(string(p.Stack), "bomb") {
			t.Fatalf("got %v", err)
		}
		_, err = bad.Execute(t.Context(), 1)
		wantError(t, err, groups.ErrNotApplied)
		if _, ok := errors.AsType[*groups.PanicError](err); !ok {
			t.Errorf("a later call fails with %v", err)
		}
		if err := bad.When().Online(t.Context()); err == nil || !strings.Contains(err.Error(), "unlucky") {
			t.Errorf("waiting for online: %v", err)
		}
		if st := bad.Status(); st.Online || st.Failed == nil || !strings.Contains(st.String(), "unlucky") {
			t.Errorf("status: %v", st)
		}
		within(t, time.Minute, "the other group works", func(ctx context.Context) error {
			_, err := good.Execute(ctx, 1)
			return err
		})
		synctest.Wait()
		if net.Node(0).Discovery().Me().HasGroup(bad.ID()) {
			t.Error("the failed group is still advertised")
		}
		if err := bad.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// words is a machine with the counter's signature and other commands.
type words struct{ n int64 }

func newWords() *words { return new(words) }

func (*words) Signature() id.ID { return (*counter)(nil).Signature() }

func (w *words) Apply(_ groups.ApplyContext, s string) int64 {
	w.n += int64(len(s))
	return w.n
}

func (w *words) Query(struct{}) int64 { return w.n }

// Members whose commands differ are kept apart, and both can see why.
func TestSchemaMismatch(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		a := join(t, net.Node(0), key)
		b, err := groups.Join(net.Node(1), key, newWords)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "id", a.ID(), b.ID())
		time.Sleep(5 * time.Second)
		for _, st := range []groups.Status{a.Status(), b.Status()} {
			if len(st.Bonds) != 0 || len(st.Refused) != 1 {
				t.Fatalf("status: %v", st)
			}
			if text := st.String(); !strings.Contains(text, "schema mismatch") || !strings.Contains(text, "commands are") {
				t.Errorf("the status does not explain it: %s", text)
			}
		}
	})
}

// Whoever has another key is in another group and sees nobody.
func TestOtherKey(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		key := groups.RandomKey()
		a, b := join(t, net.Node(0), key), join(t, net.Node(1), key)
		c := join(t, net.Node(2), groups.RandomKey())
		for _, g := range []*counterGroup{a, b, c} {
			within(t, time.Minute, "online", g.When().Online)
		}
		if len(a.Bonds()) != 1 || len(b.Bonds()) != 1 || len(c.Bonds()) != 0 {
			t.Errorf("bonds: %d, %d, %d", len(a.Bonds()), len(b.Bonds()), len(c.Bonds()))
		}
	})
}

func memberOf(t *testing.T, g *counterGroup, node *mosaik.Network) bool {
	t.Helper()
	for _, m := range g.Members() {
		if m.Peer == node.ID() {
			return true
		}
	}
	return false
}
