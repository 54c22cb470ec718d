package groups_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

func contains(s, sub string) bool { return strings.Contains(s, sub) }

// step is a command that says who sent it and as what number.
type step struct {
	Sender int
	Number uint64
}

// ledger counts what it has seen of each sender, and finds gaps, repetitions and reordering.
type ledger struct {
	last  map[int]uint64
	count uint64
	wrong string
}

func newLedger() *ledger { return &ledger{last: make(map[int]uint64)} }

func (*ledger) Signature() id.ID { return id.Of("groups test ledger v1") }

// Apply answers how many commands were applied, or zero for one that is out of order.
func (l *ledger) Apply(_ groups.ApplyContext, s step) uint64 {
	l.count++
	if s.Number <= l.last[s.Sender] {
		l.wrong = "a command was repeated or overtaken"
		return 0
	}
	l.last[s.Sender] = s.Number
	return l.count
}

// Query answers with what is wrong, and how many commands came.
func (l *ledger) Query(struct{}) uint64 {
	if l.wrong != "" {
		return 0
	}
	return l.count
}

// While leaders are killed under load, calls on the survivors neither fail nor get lost, reordered or repeated.
func TestLeaderKilledUnderLoad(t *testing.T) {
	t.Parallel()
	const nodes, sendersPerNode = 5, 4
	net := testnet.Loopback(t, nodes)
	net.DiscoverAll(t.Context())
	key := groups.RandomKey()
	var gs []*groups.Group[step, struct{}, uint64]
	for i := range nodes {
		g, err := groups.Join(net.Node(i), key, newLedger, quick)
		if err != nil {
			t.Fatal(err)
		}
		gs = append(gs, g)
	}
	for _, g := range gs {
		within(t, bootstrapLimit(), "online", g.When().Online)
	}
	voting(t, net, nodes, gs)

	var down [nodes]atomic.Bool
	var acked, unknown atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for n := range nodes {
		for s := range sendersPerNode {
			wg.Go(func() {
				for number := uint64(1); ctx.Err() == nil; number++ {
					_, err := gs[n].Execute(context.Background(), step{n*sendersPerNode + s, number})
					switch {
					case err == nil:
						acked.Add(1)
						time.Sleep(time.Millisecond) // so that a busy machine gets to elections, too
					case !down[n].Load():
						t.Errorf("node %d lives, but a call failed: %v", n, err)
						return
					case errors.Is(err, groups.ErrOutcomeUnknown):
						unknown.Add(1)
						return
					default:
						return
					}
				}
			})
		}
	}
	alive := func() []int { return net.Up() }
	for range 2 {
		time.Sleep(300 * time.Millisecond)
		for _, n := range alive() {
			if gs[n].IsLeader() {
				down[n].Store(true)
				net.Kill(n)
				break
			}
		}
		survivor := alive()[0]
		before := gs[survivor].Committed()
		within(t, patience, "commands go on", func(ctx context.Context) error {
			return gs[survivor].When().Committed().Reaches(ctx, before+100)
		})
	}
	stop()
	wg.Wait()
	for _, n := range alive() {
		res := must(t, patience, "strong read", func(ctx context.Context) (groups.Result[uint64], error) {
			return gs[n].Query(ctx, struct{}{}, groups.Strong)
		})
		if res.Value == 0 {
			t.Errorf("node %d: a command was repeated or overtaken", n)
		}
		if res.Value < acked.Load() || res.Value > acked.Load()+unknown.Load() || res.Index != groups.Index(res.Value) {
			t.Errorf("node %d has applied %d commands at index %d; %d were acknowledged, %d are unknown",
				n, res.Value, res.Index, acked.Load(), unknown.Load())
		}
	}
	t.Logf("%d commands acknowledged, %d unknown", acked.Load(), unknown.Load())
}
