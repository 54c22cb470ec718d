package discovery

import (
	"context"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

func TestFeed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{Config: Config{MaxPeers: 4}})
		a, b := nodes[0], nodes[1]
		events := b.listen(t)
		s := w.stranger(t, 1)
		if got := a.Feed(s); got != FeedAdded || !got.Changed() {
			t.Errorf("a new entry: %v", got)
		}
		if _, ok := a.Catalog().Get(s.ID()); !ok {
			t.Error("the catalog does not show it when Feed returns")
		}
		if got := a.Feed(s); got != FeedKnown || got.Changed() {
			t.Errorf("the same entry: %v", got)
		}
		newer, err := s.Entry().WithTags("x")
		if err != nil {
			t.Fatal(err)
		}
		signed, err := newer.Sign(numberedKey(1))
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Feed(signed); got != FeedUpdated {
			t.Errorf("a newer entry: %v", got)
		}
		if got := a.Feed(s); got != FeedKnown {
			t.Errorf("an older entry: %v", got)
		}
		if got := a.Feed(SignedPeerEntry{}); got != FeedInvalid {
			t.Errorf("nothing: %v", got)
		}
		if got := a.Feed(a.MeSigned()); got != FeedSelf {
			t.Errorf("the own entry: %v", got)
		}
		a.Feed(w.stranger(t, 2))
		a.Feed(w.stranger(t, 3))
		if got := a.Feed(w.stranger(t, 4)); got != FeedFull {
			t.Errorf("a fifth peer: %v", got)
		}
		eventually(t, time.Second, "neighbours hear of it", func() bool {
			p, ok := b.Catalog().Get(s.ID())
			return ok && p.HasTag("x")
		})
		if n := events.count(func(e Event) bool { return e.Peer == s.ID() }); n == 0 {
			t.Error("no event tells of it")
		}
		for r := FeedAdded; r <= FeedInvalid; r++ {
			if r.String() == "" || r.String() == "unknown" {
				t.Errorf("result %d has no name", r)
			}
		}
		if FeedResult(0).String() != "unknown" {
			t.Error("no result has a name")
		}
	})
}

func TestUnsignedEntries(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		a, b := nodes[0], nodes[1]
		c := w.node() // nobody knows it
		events := a.listen(t)
		if !a.InsertAddr(c.host.Addr()) {
			t.Fatal("refused")
		}
		if a.Insert(b.Me()) || a.Insert(a.Me()) || a.Insert(NewEntry(id.Of("another"), PeerAddr{ID: PeerID{1}})) || a.Insert(PeerEntry{}) {
			t.Error("an entry was taken that should not be")
		}
		events.got(t, time.Second, Discovered, c)
		time.Sleep(10 * time.Second)
		if b.sees(c) || b.Catalog().Len() != 1 {
			t.Error("an unsigned entry was passed on")
		}
		// A signed one replaces it.
		if err := a.SyncWith(context.Background(), PeerAddr{ID: c.self}); err != nil {
			t.Fatal(err)
		}
		if len(ids(a.Catalog().Unsigned())) != 0 || !a.sees(c) {
			t.Error("the signed entry did not replace it")
		}
		events.got(t, time.Second, Updated, c)
		if n := events.count(func(e Event) bool { return e.Kind == Discovered && e.Peer == c.self }); n != 1 {
			t.Errorf("discovered %d times", n)
		}
		if a.Remove(c.self) {
			t.Error("a signed entry was removed by hand")
		}

		x, y := PeerAddr{ID: PeerID{1}}, PeerAddr{ID: PeerID{2}}
		a.InsertAddr(x)
		a.InsertAddr(y)
		if !a.Remove(x.ID) || a.Remove(x.ID) || !a.ClearUnsigned() || a.ClearUnsigned() {
			t.Error("Remove and ClearUnsigned do not say what was there")
		}
		time.Sleep(time.Second)
		if n := events.count(func(e Event) bool { return e.Kind == Departed && e.Reason == Removed }); n != 2 {
			t.Errorf("%d removals were told: %v", n, events)
		}
		// Nobody confirms it, so it does not stay for ever.
		a.InsertAddr(x)
		time.Sleep(6 * time.Minute)
		if len(ids(a.Catalog().Unsigned())) != 0 {
			t.Error("an unsigned entry outlives PurgeAfter")
		}
	})
}
