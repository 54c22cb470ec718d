package discovery

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// discovery: depart/graceful_departure
func TestGracefulDeparture(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.node(), w.node(), w.node()
		events := map[*testNode]*listener{a: a.listen(t), b: b.listen(t), c: c.listen(t)}
		for _, x := range []*testNode{a, b, c} {
			for _, y := range []*testNode{a, b, c} {
				if x != y {
					if err := x.SyncWith(context.Background(), y.host.Addr()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		time.Sleep(time.Second)
		for _, l := range events {
			if n := l.count(func(e Event) bool { return e.Kind == Discovered }); n != 2 {
				t.Errorf("%d peers were discovered, want exactly 2: %v", n, l)
			}
		}
		b.stop()
		for _, n := range []*testNode{a, c} {
			if e := events[n].got(t, time.Second, Departed, b); e.Reason != Left || !e.Entry.Equal(b.Me()) {
				t.Errorf("departed with %+v", e)
			}
			if n.sees(b) {
				t.Error("it is still in the catalog")
			}
		}
		time.Sleep(10 * time.Minute)
		for _, n := range []*testNode{a, c} {
			if k := events[n].count(func(e Event) bool { return e.Kind == Departed }); k != 1 {
				t.Errorf("it departed %d times", k)
			}
		}
	})
}

// A peer that has left is not brought back by a third that has not heard of it.
func TestDepartedPeerIsNotResurrected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		leaver, witness, third := nodes[0], nodes[1], nodes[2]
		time.Sleep(time.Second)
		w.fabric.Isolate(third.self)
		leaver.stop()
		if witness.sees(leaver) {
			t.Fatal("the witness did not hear that it left")
		}
		time.Sleep(2 * time.Second) // shorter than it takes to notice the silence
		if !third.sees(leaver) {
			t.Fatal("the third knows, so nothing is tested")
		}
		events := witness.listen(t)
		w.fabric.Rejoin(third.self)
		// Whatever way they talk to each other now, the witness stays with what it knows, and the third learns it.
		for range 3 {
			if err := third.SyncWith(context.Background(), witness.host.Addr()); err != nil {
				t.Fatal(err)
			}
			if err := witness.SyncWith(context.Background(), third.host.Addr()); err != nil {
				t.Fatal(err)
			}
		}
		if witness.sees(leaver) || third.sees(leaver) {
			t.Errorf("it is back: at the witness %v, at the third %v", witness.sees(leaver), third.sees(leaver))
		}
		if got := witness.Feed(leaver.MeSigned()); got != FeedDeparted {
			t.Errorf("its entry, fed by hand, was %v", got)
		}
		time.Sleep(4 * time.Minute)
		if n := events.count(func(e Event) bool { return e.Peer == leaver.self }); n != 0 {
			t.Errorf("events about it: %v", events)
		}
		if n := witness.Status().Tombstones; n != 1 {
			t.Errorf("%d tombstones, want 1", n)
		}
		time.Sleep(4 * time.Minute) // beyond PurgeAfter nothing can bring it back, so nothing needs to be remembered
		if n := witness.Status().Tombstones + third.Status().Tombstones; n != 0 {
			t.Errorf("%d tombstones are left after eight minutes", n)
		}
		if got := witness.Feed(leaver.MeSigned()); got != FeedOutdated {
			t.Errorf("its entry, fed by hand, was %v", got)
		}
	})
}

// A peer that left can come back, in another life.
func TestReturnAfterDeparture(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		nodes[1].stop()
		time.Sleep(5 * time.Millisecond)
		again := w.start(nodeOptions{key: nodes[1].key, bootstrap: nodes[:1]})
		meet(t, time.Second, nodes[0], nodes[2], again)
		p, _ := nodes[2].Catalog().Get(again.self)
		if p.Version().Start <= nodes[1].Me().Version().Start {
			t.Errorf("the new life is %v, the old was %v", p.Version(), nodes[1].Me().Version())
		}
	})
}

func TestClose(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		a := nodes[0]
		ctx := context.Background()
		done := make(chan error)
		for range 3 {
			go func() { done <- a.Close(ctx) }()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := a.Close(ctx); err != nil {
			t.Error(err)
		}
		for what, err := range map[string]error{
			"AddTags": a.AddTags("x"), "RemoveTicket": a.RemoveTicket(id.ID{}), "SyncWith": a.SyncWith(ctx, nodes[1].host.Addr()),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
		if a.Insert(nodes[1].Me()) || a.Remove(nodes[1].self) || a.ClearUnsigned() || a.Feed(nodes[1].MeSigned()) != FeedInvalid {
			t.Error("a closed node changes its catalog")
		}
		a.ObserveRTT(nodes[1].self, time.Second)
		if a.Catalog().Len() != 1 || a.Me().ID() != a.self || a.Status().Self.ID != a.self {
			t.Error("what was known can no longer be read")
		}
		for e := range a.Events(ctx) {
			t.Errorf("event %v after Close", e)
		}
	})
}

// Close does not wait longer than it may for neighbours that do not answer.
func TestCloseWithSilentNeighbours(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(4, nodeOptions{})
		time.Sleep(time.Second)
		w.fabric.Isolate(nodes[0].self)
		began := time.Now()
		nodes[0].Close(context.Background())
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		began = time.Now()
		nodes[1].Close(ctx)
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("Close with a context that has ended took %v", took)
		}
	})
}

func TestKill(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		events := nodes[1].listen(t)
		nodes[0].kill()
		if e := events.got(t, time.Second, Departed, nodes[0]); e.Reason != Lost {
			t.Errorf("departed with %+v", e)
		}
		if err := nodes[0].AddTags("x"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Kill: %v", err)
		}
	})
}

// Who asks a node that is just closing is told that it shuts down, which is no refusal and no warning.
func TestAskingANodeThatCloses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		time.Sleep(time.Second)
		closed := make(chan struct{})
		go func() {
			nodes[1].Close(context.Background())
			close(closed)
		}()
		time.Sleep(10 * time.Millisecond)
		select {
		case <-closed:
			t.Fatal("it has closed already")
		default:
		}
		err := nodes[0].SyncWith(context.Background(), nodes[1].host.Addr())
		if !errors.Is(err, &link.CloseError{Code: link.CodeShutdown}) {
			t.Errorf("asking it ends with %v", err)
		}
		<-closed
		time.Sleep(time.Minute)
		if s := nodes[0].Status(); nodes[0].log.has("refused by a peer") || len(s.RefusedBy) > 0 {
			t.Errorf("taken for a refusal: %v", s.RefusedBy)
		}
	})
}
