package groups_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// diary is a counter that keeps all amounts, so that its state grows, and can be written out. A view shares the amounts
// with the machine, which only ever appends to them.
type diary struct {
	sum     int64
	amounts []int64

	faults *diaryFaults
}

// diaryFaults are what tests do to the diaries of one node.
type diaryFaults struct {
	restores atomic.Int32 // calls of Restore
	fail     atomic.Int32 // of them that fail
	odd      bool         // writes its state in a way of its own
	noView   atomic.Bool

	views, released atomic.Int32
	stall           chan struct{} // if not nil, restores wait until it is closed, or reading fails
}

var errNoRestore = errors.New("no restore today")

func newDiary() *diary { return &diary{faults: new(diaryFaults)} }

func (*diary) Signature() id.ID { return id.Of("groups test diary v1") }

func (l *diary) Apply(_ groups.ApplyContext, amount int64) int64 {
	l.sum += amount
	l.amounts = append(l.amounts, amount)
	return l.sum
}

func (l *diary) Query(struct{}) int64 { return l.sum }

func (l *diary) Snapshot() (groups.View, error) {
	if l.faults.noView.Load() {
		return nil, errors.New("no view today")
	}
	l.faults.views.Add(1)
	return diaryView{l.amounts[:len(l.amounts):len(l.amounts)], l.faults.odd, l.faults}, nil
}

type diaryView struct {
	amounts []int64
	odd     bool
	faults  *diaryFaults
}

func (v diaryView) WriteTo(w io.Writer) (int64, error) {
	n := int64(0)
	if v.odd {
		k, err := w.Write(binary.AppendVarint(nil, 0)) // an amount that changes nothing
		if n += int64(k); err != nil {
			return n, err
		}
	}
	var b []byte
	for _, a := range v.amounts {
		b = binary.AppendVarint(b[:0], a)
		k, err := w.Write(b)
		if n += int64(k); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (v diaryView) Release() { v.faults.released.Add(1) }

func (l *diary) Restore(r io.Reader) error {
	if l.faults.restores.Add(1) <= l.faults.fail.Load() {
		return errNoRestore
	}
	in := bufio.NewReader(r)
	if l.faults.stall != nil {
		<-l.faults.stall
		if l.faults.restores.Load() <= l.faults.fail.Load() {
			return errNoRestore
		}
	}
	for {
		a, err := binary.ReadVarint(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		l.sum += a
		l.amounts = append(l.amounts, a)
	}
}

// tight makes members cut their logs almost at once.
func tight(chunk int) groups.Option {
	return groups.WithRetention(groups.Retention{Keep: 2, Most: 4, Chunk: chunk})
}

func joinDiary(t testing.TB, net *mosaik.Network, key groups.Key, faults *diaryFaults, opts ...groups.Option) *counterGroup {
	t.Helper()
	g, err := groups.Join(net, key, func() *diary { return &diary{faults: faults} }, opts...)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	return g
}

// cut waits until a member has cut its log.
func cut(t testing.TB, g *counterGroup) {
	t.Helper()
	deadline := time.Now().Add(limit(10 * time.Second))
	for st := g.Status(); !st.LogCut; st = g.Status() {
		if time.Now().After(deadline) {
			t.Fatalf("the log keeps %d entries", st.LogEntries)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A follower that comes late gets the log, or, when that has been cut, the state.
//
// spec: groups/catchup/one_leader_one_follower_small
func TestCatchUpSmall(t *testing.T) {
	t.Parallel()
	for name, machine := range map[string]func(testing.TB, *mosaik.Network, groups.Key) *counterGroup{
		"log": func(t testing.TB, n *mosaik.Network, k groups.Key) *counterGroup { return join(t, n, k) },
		"state": func(t testing.TB, n *mosaik.Network, k groups.Key) *counterGroup {
			return joinDiary(t, n, k, new(diaryFaults), tight(3))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			net := testnet.Loopback(t, 1)
			key := groups.RandomKey()
			leader := machine(t, net.Node(0), key)
			must(t, bootstrapLimit(), "a leader", leader.When().LeaderElected)
			for _, amount := range []int64{3, 4, -2, 1} {
				execute(t, leader, amount)
			}
			equal(t, "committed", leader.Committed(), 4)
			equal(t, "value", query(t, leader, groups.Weak).Value, 6)
			if name == "state" {
				execute(t, leader, 0) // so that there is something behind what is cut
				execute(t, leader, 0)
				cut(t, leader)
			}
			before := leader.Committed()

			net.Add()
			net.DiscoverAll(t.Context())
			late := machine(t, net.Node(1), key)
			who := must(t, bootstrapLimit(), "the leader", late.When().LeaderElected)
			equal(t, "leader", who, net.Node(0).ID())
			within(t, patience, "catching up", func(ctx context.Context) error { return late.When().Committed().Reaches(ctx, before) })
			equal(t, "value of the follower", query(t, late, groups.Weak).Value, 6)
			execute(t, leader, 5)
			last := execute(t, leader, -3).Index
			equal(t, "index", last, before+2)
			reaches(t, late, last)
			equal(t, "value of the follower", query(t, late, groups.Weak).Value, 8)
		})
	}
}

// Followers catch up with a few hundred commands, whatever the size of the pieces, and take part.
//
// spec: groups/catchup/one_leader_one_follower_large
func TestCatchUpLarge(t *testing.T) {
	t.Parallel()
	for _, chunk := range []int{7, 20, 100, 1000} {
		t.Run(fmt.Sprint(chunk), func(t *testing.T) {
			t.Parallel()
			net := testnet.Loopback(t, 1)
			key := groups.RandomKey()
			g := []*counterGroup{joinDiary(t, net.Node(0), key, new(diaryFaults), tight(chunk))}
			within(t, bootstrapLimit(), "online", g[0].When().Online)
			var faults []*diaryFaults
			late := func() {
				net.Add()
				net.DiscoverAll(t.Context())
				f := new(diaryFaults)
				faults = append(faults, f)
				g = append(g, joinDiary(t, net.Node(len(g)), key, f, tight(chunk)))
			}
			hundred := func(g *counterGroup, from int64, want groups.Range) {
				t.Helper()
				for i := range int64(20) { // ten at a time, so that there is a log to cut
					amounts := make([]int64, 10)
					for k := range amounts {
						amounts[k] = (from + i*10 + int64(k)) % 200
					}
					must(t, patience, "execute many", func(ctx context.Context) (groups.Batch[int64], error) {
						return g.ExecuteMany(ctx, amounts...)
					})
				}
				equal(t, "committed", g.Committed(), want.Last)
			}
			reach := func(i int, index groups.Index) {
				t.Helper()
				within(t, patience, "catching up", func(ctx context.Context) error { return g[i].When().Committed().Reaches(ctx, index) })
			}
			hundred(g[0], 0, groups.Range{First: 1, Last: 200})
			cut(t, g[0])
			late()
			reach(1, 200)
			equal(t, "value of the follower", query(t, g[1], groups.Weak).Value, 19900)
			hundred(g[1], 0, groups.Range{First: 201, Last: 400})
			reach(0, 400)
			cut(t, g[0])
			late()
			reach(2, 400)
			for i := range g {
				equal(t, "value everywhere", query(t, g[i], groups.Weak).Value, 39800)
			}
			for i, f := range faults {
				if f.restores.Load() == 0 {
					t.Errorf("follower %d did not need the state", i+1)
				}
			}
		})
	}
}

// The same without states: who comes late replays the log, however long it is and in whatever pieces it was written.
//
// spec: groups/catchup/one_leader_one_follower_large
func TestCatchUpByLog(t *testing.T) {
	t.Parallel()
	for _, piece := range []int{7, 20, 100, 1000} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			t.Parallel()
			net := testnet.Loopback(t, 1)
			key := groups.RandomKey()
			g := []*counterGroup{join(t, net.Node(0), key)}
			within(t, bootstrapLimit(), "online", g[0].When().Online)
			write := func(g *counterGroup, want groups.Range) {
				t.Helper()
				var amounts []int64
				for i := range int64(200) {
					amounts = append(amounts, i)
				}
				first := want.First
				for part := range slices.Chunk(amounts, piece) {
					done := must(t, patience, "execute many", func(ctx context.Context) (groups.Batch[int64], error) {
						return g.ExecuteMany(ctx, part...)
					})
					equal(t, "range", done.Range, groups.Range{First: first, Last: first + groups.Index(len(part)) - 1})
					first = done.Range.Last + 1
				}
				equal(t, "end", first-1, want.Last)
			}
			late := func(index groups.Index, value int64) {
				t.Helper()
				net.Add()
				net.DiscoverAll(t.Context())
				n := join(t, net.Node(len(g)), key)
				g = append(g, n)
				within(t, patience, "catching up", ctxArg(n.When().Committed().Reaches, index))
				equal(t, "value", query(t, n, groups.Weak).Value, value)
			}
			write(g[0], groups.Range{First: 1, Last: 200})
			late(200, 19900)
			write(g[1], groups.Range{First: 201, Last: 400})
			within(t, patience, "the leader has it", ctxArg(g[0].When().Committed().Reaches, 400))
			late(400, 39800)
			for _, g := range g {
				equal(t, "value everywhere", query(t, g, groups.Weak).Value, 39800)
			}
		})
	}
}
