package groups_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// stuck is a machine whose Apply waits for a gate when it is told to.
type stuck struct {
	gate  <-chan struct{}
	begun chan<- struct{}
}

func (*stuck) Signature() id.ID { return id.Of("groups test stuck v1") }

func (s *stuck) Apply(_ groups.ApplyContext, wait bool) bool {
	if wait && s.gate != nil {
		s.begun <- struct{}{}
		<-s.gate
	}
	return wait
}

func (s *stuck) Query(struct{}) bool { return false }

type stuckGroup = groups.Group[bool, struct{}, bool]

// stick joins a group on the nodes and has the first one's machine hang in Apply. It returns the handles, what the call
// that hangs returns, and what lets it go on, which the end of the test does at the latest: before the nodes are closed,
// if they were opened before.
func stick(t *testing.T, key groups.Key, nodes ...*mosaik.Network) (gs []*stuckGroup, outcome <-chan error, release func()) {
	t.Helper()
	gate, begun := make(chan struct{}), make(chan struct{}, 1)
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	for i, n := range nodes {
		m := new(stuck)
		if i == 0 {
			m.gate, m.begun = gate, begun
		}
		g, err := groups.Join(n, key, func() *stuck { return m }, quick)
		if err != nil {
			t.Fatal(err)
		}
		gs = append(gs, g)
	}
	for _, g := range gs {
		within(t, bootstrapLimit(), "all vote", func(ctx context.Context) error {
			for g.Status().Voters != len(nodes) || !g.Status().Online {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		})
	}
	failed := make(chan error, 1)
	go func() {
		_, err := gs[0].Execute(context.Background(), true)
		failed <- err
	}()
	select {
	case <-begun:
	case err := <-failed:
		t.Fatalf("the call that was to hang: %v", err)
	}
	return gs, failed, release
}

// Close, Leave, and the network's Close and Kill return in time though a command is being applied, say so, and tell the
// caller of the command that its outcome is unknown. What is left ends by itself when the command is done; until then the
// node cannot join the group again.
func TestCloseWhileApplying(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit time.Duration
		end   func(*testnet.Sim, *stuckGroup) error
	}{
		"Close": {5*time.Second + 100*time.Millisecond, func(_ *testnet.Sim, g *stuckGroup) error { return g.Close() }},
		"Leave": {2*time.Second + 100*time.Millisecond, func(_ *testnet.Sim, g *stuckGroup) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			return g.Leave(ctx)
		}},
		"Network.Close": {11 * time.Second, func(net *testnet.Sim, _ *stuckGroup) error {
			err := net.Node(0).Close()
			net.Kill(0) // so that the network knows that it is down
			return err
		}},
		"Network.Kill": {2 * time.Second, func(net *testnet.Sim, g *stuckGroup) error {
			net.Kill(0)
			return groups.ErrMachineBusy // which nobody is told of
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // which fails if a goroutine stays behind
				net := testnet.Simulated(t, 3)
				net.DiscoverAll(t.Context())
				key := groups.RandomKey()
				gs, outcome, release := stick(t, key, net.Nodes()...)
				begin := time.Now()
				err := c.end(net, gs[0])
				if took := time.Since(begin); took > c.limit {
					t.Errorf("returned after %v, want at most %v", took, c.limit)
				}
				wantError(t, err, groups.ErrMachineBusy)
				wantError(t, <-outcome, groups.ErrOutcomeUnknown)
				if st := gs[0].Status(); st.Online {
					t.Errorf("still online:\n%v", st)
				}
				within(t, time.Minute, "the others go on", func(ctx context.Context) error {
					_, err := gs[1].Execute(ctx, false)
					return err
				})
				again := func() error {
					g, err := groups.Join(net.Node(0), key, func() *stuck { return new(stuck) }, quick)
					if err == nil {
						g.Close()
					}
					return err
				}
				if name == "Close" || name == "Leave" {
					wantError(t, again(), groups.ErrMachineBusy)
				}
				release()
				synctest.Wait()
				if name == "Close" || name == "Leave" {
					if err := again(); err != nil {
						t.Errorf("join after the command had returned: %v", err)
					}
				}
			})
		})
	}
}

// A node with a durable store is closed while a command is being applied, then its store is; when both are opened again the
// command is there, whether or not the old Apply has returned by then.
func TestCloseDurableWhileApplying(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"the store is opened again", "Apply returns"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			dir, key, identity := t.TempDir(), groups.RandomKey(), t.Name()
			open := func() (*mosaik.Network, logstore.Store) {
				store, err := pebble.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				node, err := mosaik.New(t.Context(), t.Name(), mosaik.WithSeed(identity), mosaik.WithReach(mosaik.Host),
					mosaik.WithoutRegistry(), mosaik.WithListen("127.0.0.1:0"), mosaik.WithStorage(store))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { // if the test has not come to do it
					node.Close()
					store.Close()
				})
				return node, store
			}
			node, store := open()
			gs, outcome, release := stick(t, key, node)
			wantError(t, node.Close(), groups.ErrMachineBusy)
			wantError(t, <-outcome, groups.ErrOutcomeUnknown)
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			if first == "Apply returns" {
				release()
			}
			node, store = open()
			g, err := groups.Join(node, key, func() *stuck { return new(stuck) }, quick)
			if err != nil {
				t.Fatal(err)
			}
			within(t, bootstrapLimit(), "the command is there", ctxArg(g.When().Committed().Reaches, gs[0].Committed()+1))
			if first != "Apply returns" {
				release()
			}
			if err := errors.Join(node.Close(), store.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}
