package discovery

import (
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

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
