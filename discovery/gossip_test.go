package discovery

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
	"github.com/mosaik-go/mosaik/tickets"
)

func TestTwoNodesMeet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		b := w.node(a)
		meet(t, time.Second, a, b)
		if a.Catalog().Len() != 1 || b.Catalog().Len() != 1 {
			t.Errorf("%d and %d peers, want 1 each", a.Catalog().Len(), b.Catalog().Len())
		}
	})
}

// All nodes of a network hear of each other though each has only a few neighbours, news reach all within a second, and
// when many close at once those who stay hear of all of them.
func TestFiftyNodes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		began := time.Now()
		nodes := w.nodes(50, nodeOptions{})
		t.Logf("all see all after %v of virtual time", time.Since(began))
		time.Sleep(10 * time.Second)
		for i, n := range nodes {
			if got := len(n.Status().Neighbours); got < 3 || got > 15 {
				t.Errorf("node %d has %d neighbours", i, got)
			}
		}
		if err := nodes[17].AddTags("fresh"); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, "all have the tag", func() bool {
			for _, n := range nodes {
				if p, _ := n.Catalog().Get(nodes[17].self); !p.HasTag("fresh") {
					return false
				}
			}
			return true
		})
		stay := nodes[:2]
		var wg sync.WaitGroup
		for _, n := range nodes[2:] {
			wg.Go(n.stop)
		}
		wg.Wait()
		for _, n := range stay {
			eventually(t, time.Second, "only one other is left", func() bool { return n.Catalog().Len() == 1 })
		}
	})
}

// A quiet network stays together: signs of life travel, contents do not, and nobody departs.
func TestQuietTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(5, nodeOptions{})
		time.Sleep(time.Second) // until what was said at first has been heard
		version := nodes[1].Me().Version()
		l := nodes[0].listen(t)
		time.Sleep(10 * time.Minute)
		meet(t, 0, nodes...)
		p, _ := nodes[0].Catalog().Get(nodes[1].self)
		if p.Version() != version {
			t.Errorf("version %v became %v though nothing changed", version, p.Version())
		}
		if quiet := time.Since(p.SeenAt()); quiet > time.Minute {
			t.Errorf("the latest sign of life is %v old", quiet)
		}
		if n := l.count(func(Event) bool { return true }); n != 0 {
			t.Errorf("events in quiet time: %v", l)
		}
		if len(nodes[0].Status().Refused) != 0 {
			t.Errorf("refused: %v", nodes[0].Status().Refused)
		}
	})
}

func TestChangesSpread(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(4, nodeOptions{tags: []string{"first"}})
		a, b := nodes[0], nodes[3]
		group, stream := id.Of("group"), id.Of("stream")
		ticket := tickets.Ticket{Class: id.Of("class"), Data: []byte("secret?")}
		other := tickets.Ticket{Class: id.Of("class"), Data: []byte("renewed")}
		at := func(what string, check func(PeerInfo) bool) {
			t.Helper()
			if self, _ := a.Catalog().Get(a.self); !check(self) || !check(a.Catalog().Local()) {
				t.Errorf("%s: the own catalog does not show it at once", what)
			}
			eventually(t, 3*time.Second, what, func() bool { // many changes in a row are slowed down
				p, ok := b.Catalog().Get(a.self)
				return ok && check(p)
			})
		}
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		at("the tag it was opened with", func(p PeerInfo) bool { return p.HasTag("first") })
		do(a.AddTags("x", "y"))
		at("two tags", func(p PeerInfo) bool { return p.HasTag("x") && p.HasTag("y") })
		do(a.RemoveTags("x", "first"))
		at("tags removed", func(p PeerInfo) bool { return !p.HasTag("x") && !p.HasTag("first") && p.HasTag("y") })
		do(a.AddTicket(ticket))
		at("a ticket", func(p PeerInfo) bool { return len(p.TicketsOf(ticket.Class)) == 1 })
		do(a.ReplaceTicket(other))
		at("a ticket replaced", func(p PeerInfo) bool {
			all := p.Tickets()
			return len(all) == 1 && all[0].ID() == other.ID()
		})
		do(a.RemoveTicket(other.ID()))
		at("a ticket removed", func(p PeerInfo) bool { return len(p.Tickets()) == 0 })
		do(a.AddTicket(ticket))
		do(a.AddTicket(other))
		do(a.RemoveTicketsOf(ticket.Class))
		at("tickets of a class removed", func(p PeerInfo) bool { return len(p.Tickets()) == 0 })
		do(a.AddGroups(group))
		do(a.AddStreams(stream))
		at("a group and a stream", func(p PeerInfo) bool { return p.HasGroup(group) && p.HasStream(stream) })
		for p := range b.Catalog().InGroup(group) {
			if p.ID() != a.self {
				t.Errorf("%v is in the group", p.ID())
			}
		}
		for p := range b.Catalog().WithStream(stream) {
			if p.ID() != a.self {
				t.Errorf("%v has the stream", p.ID())
			}
		}
		n := 0
		for p := range b.Catalog().Tagged("y") {
			if n++; p.ID() != a.self {
				t.Errorf("%v has the tag", p.ID())
			}
		}
		if n != 1 {
			t.Errorf("%d peers have the tag, want 1", n)
		}
		do(a.RemoveGroups(group))
		do(a.RemoveStreams(stream))
		at("neither group nor stream", func(p PeerInfo) bool { return !p.HasGroup(group) && !p.HasStream(stream) })

		before := a.Me().Version()
		do(a.AddTags("y"))
		do(a.RemoveTags("unknown"))
		do(a.RemoveTicket(id.Of("unknown")))
		if now := a.Me().Version(); now != before {
			t.Errorf("changes of nothing made version %v of %v", now, before)
		}
		do(a.AddTicket(ticket))
		before = a.Me().Version()
		do(a.ReplaceTicket(ticket))
		if now := a.Me().Version(); now != before {
			t.Errorf("a ticket replaced by itself made version %v of %v", now, before)
		}
	})
}

// Changes beyond the limits fail, say so, and change nothing.
func TestChangesBeyondTheLimits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		before := a.Me().Version()
		var many []string
		for n := range MaxTags + 1 {
			many = append(many, fmt.Sprint(n))
		}
		if l, ok := errors.AsType[*LimitError](a.AddTags(many...)); !ok || l.What != "tags" {
			t.Errorf("too many tags: %v", a.AddTags(many...))
		}
		if l, ok := errors.AsType[*LimitError](a.AddTicket(tickets.Ticket{Data: make([]byte, MaxTicketBytes+1)})); !ok || l.Max != MaxTicketBytes {
			t.Error("a ticket that is too large was taken")
		}
		var last error
		n := 0
		for ; n < 10 && last == nil; n++ {
			last = a.AddTicket(tickets.Ticket{Class: id.Of(fmt.Sprint(n)), Data: make([]byte, MaxTicketBytes)})
		}
		if l, ok := errors.AsType[*LimitError](last); !ok || l.Max != MaxEntryBytes || n < 3 {
			t.Errorf("after %d large tickets: %v", n, last)
		}
		if got := len(a.Me().Tickets()); got != n-1 || len(a.Me().Tags()) != 0 {
			t.Errorf("%d tickets and %d tags after failures, version %v, at first %v", got, len(a.Me().Tags()), a.Me().Version(), before)
		}
	})
}

// A program that changes its entry all the time does not flood the network, and its last word arrives.
func TestManyChangesAreCoalesced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		l := nodes[2].listen(t)
		for n := range 500 {
			if err := nodes[0].AddTags(fmt.Sprint("t", n%100)); err != nil {
				t.Fatal(err)
			}
			if err := nodes[0].RemoveTags(fmt.Sprint("t", (n+50)%100)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Millisecond)
		}
		want := nodes[0].Me()
		eventually(t, 3*time.Second, "the last change arrives", func() bool {
			p, _ := nodes[2].Catalog().Get(nodes[0].self)
			return p.Equal(want)
		})
		if n := l.count(func(e Event) bool { return e.Kind == Updated }); n > contentBurst+5 {
			t.Errorf("%d updates for a second of changes", n)
		}
		if r := nodes[2].Status().Refused; len(r) != 0 {
			t.Errorf("an honest node was held back: %v", r)
		}
	})
}

func TestAddressesAreAnnounced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		w.fabric.Readdress(nodes[1].self)
		want := nodes[1].host.Addr().Addrs[0]
		eventually(t, time.Second, "the others know the new address", func() bool {
			for _, n := range nodes {
				p, _ := n.Catalog().Get(nodes[1].self)
				if a := p.Addr().Addrs; len(a) != 1 || a[0] != want {
					return false
				}
			}
			return true
		})
	})
}

// On a network that loses every fifth packet everything arrives all the same.
func TestLossyNetwork(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fabric.SetLinks(simnet.Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.2})
		nodes := []*testNode{w.node()}
		for range 9 {
			nodes = append(nodes, w.node(nodes[0]))
		}
		meet(t, time.Minute, nodes...)
		for i, n := range nodes {
			if err := n.AddTags(fmt.Sprint("tag", i)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, time.Minute, "all have all tags", func() bool {
			for _, n := range nodes {
				for i, o := range nodes {
					if p, _ := n.Catalog().Get(o.self); !p.HasTag(fmt.Sprint("tag", i)) {
						return false
					}
				}
			}
			return true
		})
	})
}
