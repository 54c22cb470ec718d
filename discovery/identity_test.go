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
