package discovery

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// discovery: depart/stale_peers_are_purged
func TestStalePeersArePurged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		quick := w.start(nodeOptions{Config: Config{PurgeAfter: 4 * time.Second, AnnounceInterval: 2 * time.Second, AnnounceJitter: -1}})
		events := quick.listen(t)
		slow := w.start(nodeOptions{
			Config:    Config{PurgeAfter: 180 * time.Second, AnnounceInterval: 10 * time.Second, AnnounceJitter: -1},
			bootstrap: []*testNode{quick},
		})
		began := time.Now()
		events.got(t, time.Second, Discovered, slow)
		meet(t, time.Second, quick, slow)
		events.clear()
		e := events.got(t, time.Until(began.Add(5*time.Second)), Departed, slow)
		if e.Reason != Silent || e.Entry.ID() != slow.self {
			t.Errorf("departed with %+v", e)
		}
		if took := time.Since(began); took < 4*time.Second {
			t.Errorf("purged after %v", took)
		}
		if quick.Catalog().Len() != 0 || slow.Catalog().Len() != 1 {
			t.Errorf("%d and %d peers, want 0 and 1", quick.Catalog().Len(), slow.Catalog().Len())
		}
		events.clear()
		events.got(t, time.Until(began.Add(13*time.Second)), Discovered, slow) // with its next sign of life
		meet(t, 0, quick, slow)
	})
}

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

// A crash is noticed at once when connections break, and within 7 s when everything just falls silent. Nobody waits for
// PurgeAfter, and nobody brings the peer back.
func TestCrashesAreNoticed(t *testing.T) {
	for name, crash := range map[string]func(w *world, n *testNode) (within time.Duration){
		"killed": func(w *world, n *testNode) time.Duration { n.kill(); return 50 * time.Millisecond },
		"without power": func(w *world, n *testNode) time.Duration {
			w.fabric.Isolate(n.self)
			n.kill()
			return 7 * time.Second
		},
		"stopped": func(w *world, n *testNode) time.Duration { w.fabric.Pause(n.self); return 7 * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				nodes := w.nodes(4, nodeOptions{})
				time.Sleep(20 * time.Second)
				events := nodes[0].listen(t)
				within := crash(w, nodes[3])
				began := time.Now()
				for _, n := range nodes[:3] {
					eventually(t, within-time.Since(began), "the crash is noticed", func() bool { return !n.sees(nodes[3]) })
				}
				e := events.got(t, 0, Departed, nodes[3])
				if e.Reason != Lost {
					t.Errorf("departed with %+v", e)
				}
				lost := 0
				for p := range nodes[0].Catalog().Lost() {
					since, ok := p.LostSince()
					if lost++; p.ID() != nodes[3].self || !ok || since.Before(began) {
						t.Errorf("lost %v since %v", p, since)
					}
				}
				if s := nodes[0].Status(); lost != 1 || s.Lost != 1 || s.Peers != 2 || !hasAll(s.String(), "1 known peers cannot be reached") {
					t.Errorf("%d lost, status %+v", lost, s)
				}
				time.Sleep(10 * time.Minute)
				if n := events.count(func(e Event) bool { return e.Peer == nodes[3].self }); n != 1 {
					t.Errorf("events about it: %v", events)
				}
				if s := nodes[0].Status(); s.Lost != 0 {
					t.Errorf("%d are still remembered after PurgeAfter", s.Lost)
				}
			})
		})
	}
}

// A process that was stopped is found again when it goes on.
func TestStoppedProcessComesBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		events := nodes[0].listen(t)
		w.fabric.Pause(nodes[2].self)
		events.got(t, 7*time.Second, Departed, nodes[2])
		time.Sleep(time.Minute)
		w.fabric.Resume(nodes[2].self)
		events.got(t, 45*time.Second, Discovered, nodes[2])
		meet(t, 45*time.Second, nodes...)
	})
}

// A connection that breaks while the peer lives is no news.
func TestResetConnections(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		events := nodes[0].listen(t)
		for range 20 {
			w.fabric.Reset(nodes[0].self, nodes[1].self)
			time.Sleep(700 * time.Millisecond)
		}
		if n := events.count(func(Event) bool { return true }); n != 0 {
			t.Errorf("events: %v", events)
		}
	})
}

// While a partition lasts each side sees itself; after it everybody sees everybody, however long it lasted and whether or
// not the sides have forgotten each other.
func TestPartitionAndHeal(t *testing.T) {
	for name, length := range map[string]time.Duration{
		"short": 3 * time.Second, "minutes": 2 * time.Minute, "longer than PurgeAfter": 20 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				nodes := w.nodes(12, nodeOptions{})
				left, right := nodes[:6], nodes[6:] // the bootstrap peer of all is on the left
				time.Sleep(10 * time.Second)
				events := nodes[0].listen(t)
				var side []id.PeerID
				for _, n := range left {
					side = append(side, n.self)
				}
				w.fabric.Partition(side)
				time.Sleep(length)
				for _, n := range nodes { // the nodes that are connected to the other side have noticed
					if got := n.Catalog().Len(); length > 10*time.Second && got >= 11 {
						t.Errorf("a node sees %d others during the partition", got)
					}
				}
				if length > 10*time.Minute {
					for _, half := range [][]*testNode{left, right} {
						for _, n := range half {
							if got := n.Catalog().Len(); got != 5 {
								t.Errorf("a node sees %d others during the partition, want 5", got)
							}
						}
					}
				}
				for i, n := range nodes { // news of both sides
					if err := n.AddTags("during"); err != nil {
						t.Fatal(i, err)
					}
				}
				w.fabric.Heal()
				eventually(t, 2*time.Minute, "all see all, and what was said meanwhile", func() bool {
					for _, n := range nodes {
						for _, o := range nodes {
							if p, ok := n.Catalog().Get(o.self); !ok || !p.HasTag("during") {
								return false
							}
						}
					}
					return true
				})
				if length < 5*time.Second {
					if n := events.count(func(e Event) bool { return e.Kind == Departed }); n != 0 {
						t.Errorf("a hiccup made peers depart: %v", events)
					}
				}
			})
		})
	}
}

// When two nodes cannot reach each other but a third reaches both, they learn through it that the other lives, and do not
// change their minds all the time.
func TestPartialPartition(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		a, b, c := nodes[0], nodes[1], nodes[2]
		events := a.listen(t)
		w.fabric.Block(a.self, b.self)
		w.fabric.Block(b.self, a.self)
		time.Sleep(5 * time.Minute)
		if !a.sees(b) || !b.sees(a) {
			t.Error("the third does not make up for the broken way")
		}
		if n := events.count(func(e Event) bool { return e.Kind == Departed }); n > 1 {
			t.Errorf("%d departures in five minutes: %v", n, events)
		}
		if err := b.AddTags("x"); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, "news arrive through the third", func() bool {
			p, _ := a.Catalog().Get(b.self)
			return p.HasTag("x")
		})
		// Now the peer dies for good, and the third notices; this one learns from its silence.
		b.kill()
		eventually(t, time.Second, "the third notices", func() bool { return !c.sees(b) })
		eventually(t, 6*time.Minute, "the other learns it", func() bool { return !a.sees(b) })
	})
}

// Peers that this node was never connected to, and that died unseen, vanish when it tries to reach them in vain, as soon as
// they have been silent for longer than they should.
func TestStrangersThatDiedUnseen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(40, nodeOptions{})
		time.Sleep(5 * time.Second)
		for _, n := range nodes[1:] {
			n.kill()
		}
		last := nodes[0]
		eventually(t, 3*time.Minute, "the last one sees that it is alone", func() bool { return last.Catalog().Len() == 0 })
	})
}

// A process that is killed and started again with the same identity, at another address, takes the place of the old one
// at once.
func TestRestartWithTheSameIdentity(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		w.fabric.Isolate(nodes[2].self) // its connections do not even break
		nodes[2].kill()
		w.fabric.Rejoin(nodes[2].self)
		again := w.start(nodeOptions{key: nodes[2].key, bootstrap: nodes[:1], tags: []string{"again"}})
		eventually(t, time.Second, "the new life is known everywhere", func() bool {
			for _, n := range nodes[:2] {
				if p, ok := n.Catalog().Get(again.self); !ok || !p.HasTag("again") {
					return false
				}
			}
			return true
		})
		if d := again.Status().Duplicate; d != nil {
			t.Errorf("taken for a duplicate: %+v", d)
		}
	})
}

// Two nodes with one identity: the one opened first is told, by an event, in the log and in Status; nobody's own entry is
// replaced.
func TestDuplicateIdentity(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		first := w.start(nodeOptions{bootstrap: []*testNode{a}, tags: []string{"first"}})
		meet(t, time.Second, a, first)
		events := first.listen(t)
		time.Sleep(time.Minute)
		second := w.start(nodeOptions{key: first.key, bootstrap: []*testNode{a}, tags: []string{"second"}})
		eventually(t, time.Minute, "the first is told", func() bool { return first.Status().Duplicate != nil })
		events.got(t, 0, DuplicateIdentity, first)
		if !first.log.has("another node uses this node's identity") {
			t.Error("it is not in the log")
		}
		if s := first.Status(); !hasAll(s.String(), "another node uses this node's identity") {
			t.Errorf("in words: %v", s)
		}
		time.Sleep(5 * time.Minute)
		if !first.Me().HasTag("first") || first.Me().HasTag("second") || !second.Me().HasTag("second") {
			t.Error("an own entry was replaced")
		}
		if p, _ := a.Catalog().Get(second.self); !p.HasTag("second") {
			t.Error("others do not keep to the one opened last")
		}
		if n := events.count(func(e Event) bool { return e.Kind == DuplicateIdentity }); n > 7 {
			t.Errorf("told %d times in five minutes", n)
		}
	})
}

// skewed is a host of a node whose clock is wrong.
type skewed struct {
	transport.Host
	by time.Duration
}

func (s skewed) Incarnation() transport.Incarnation {
	return s.Host.Incarnation() + transport.Incarnation(s.by.Milliseconds())
}

// A node whose clock is an hour ahead is refused, both sides say why, and nobody else is disturbed.
func TestClockAnHourAhead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		wrong := w.start(nodeOptions{bootstrap: nodes, wrap: func(h transport.Host) transport.Host { return skewed{h, time.Hour} }})
		err := wrong.SyncWith(context.Background(), nodes[0].host.Addr())
		if !errors.Is(err, &link.CloseError{Code: link.CodeClockDrift}) {
			t.Errorf("a comparison ends with %v", err)
		}
		err = nodes[1].SyncWith(context.Background(), wrong.host.Addr())
		if err == nil {
			t.Log("the wrong clock's own node has no reason to refuse")
		}
		time.Sleep(time.Minute)
		for _, n := range nodes {
			if n.sees(wrong) {
				t.Error("it was let in")
			}
			s := n.Status()
			if s.Drift == nil || s.Drift.Peer != wrong.self || !s.Drift.Ahead || s.Drift.Off < 50*time.Minute || s.Refused["future"] == 0 {
				t.Errorf("status %+v, drift %+v", s, s.Drift)
			}
			if !hasAll(s.String(), "the clock of peer "+wrong.self.Short(), "ahead of this node's") {
				t.Errorf("in words: %v", s)
			}
			if !n.log.has("its clock and this node's differ too much") {
				t.Error("it is not in the log")
			}
			if got := n.Feed(wrong.MeSigned()); got != FeedFuture {
				t.Errorf("its entry, fed by hand, was %v", got)
			}
		}
		if s := wrong.Status(); s.RefusedBy["clock drift"] == 0 || !hasAll(s.String(), "refused by peers: clock drift") {
			t.Errorf("the node itself says %v", s)
		}
		if !wrong.log.has("refused by a peer") {
			t.Error("it is not in the node's own log")
		}
		meet(t, 0, nodes...)
		if err := nodes[0].AddTags("fine"); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, "the others go on", func() bool {
			p, _ := nodes[2].Catalog().Get(nodes[0].self)
			return p.HasTag("fine")
		})
	})
}

// How far a clock may be ahead, and how old a sign of life may be.
func TestClocksThatDiffer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		for n, c := range []struct {
			off  time.Duration
			want FeedResult
		}{
			{0, FeedAdded}, {30 * time.Second, FeedAdded}, {31 * time.Second, FeedFuture}, {1000 * time.Hour, FeedFuture},
			{-300 * time.Second, FeedAdded}, {-301 * time.Second, FeedOutdated},
		} {
			key := numberedKey(n)
			e := newEntry(w.network, PeerAddr{ID: id.PeerIDOf(key)}, time.Now().Add(c.off).UnixMilli())
			s, err := e.Sign(key)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Feed(s); got != c.want {
				t.Errorf("a clock that is off by %v: %v, want %v", c.off, got, c.want)
			}
		}
		if got := a.Status().Refused; got["future"] != 2 || got["outdated"] != 1 {
			t.Errorf("refused: %v", got)
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
