package discovery

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
	"github.com/mosaik-go/mosaik/tickets"
)

// A neighbour that does not read loses frames, and gets what they said in a comparison when it reads again.
func TestSlowNeighbourCatchesUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{Config: Config{SyncInterval: time.Hour}})
		a, b := nodes[0], nodes[1]
		w.fabric.SetLink(a.self, b.self, simnet.Link{Delay: time.Millisecond, Bandwidth: 200_000})
		for n := range 80 { // 80 times up to 50 KB; the queue holds 1 MiB
			key := numberedKey(n)
			e, err := NewEntry(w.network, PeerAddr{ID: id.PeerIDOf(key)}).WithTicket(tickets.Ticket{Data: make([]byte, MaxTicketBytes)})
			for c := range byte(2) {
				if err == nil {
					e, err = e.WithTicket(tickets.Ticket{Class: id.ID{c + 1}, Data: make([]byte, MaxTicketBytes)})
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			s, err := e.Sign(key)
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Feed(s); got != FeedAdded {
				t.Fatalf("entry %d: %v", n, got)
			}
		}
		if testutil.ToFloat64(a.count.dropped) == 0 {
			t.Error("nothing was dropped, so nothing is tested")
		}
		eventually(t, 2*time.Minute, "the slow one has everything", func() bool { return b.Catalog().Len() == 81 })
	})
}

// Catalogs that differ by more than fits into one exchange are compared in several.
func TestLargeCatalogs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		const n = 360 // times 48 KB
		for i := range n {
			key := numberedKey(i)
			e := NewEntry(w.network, PeerAddr{ID: id.PeerIDOf(key)})
			for c := range byte(3) {
				var err error
				if e, err = e.WithTicket(tickets.Ticket{Class: id.ID{c + 1}, Data: make([]byte, MaxTicketBytes)}); err != nil {
					t.Fatal(err)
				}
			}
			s, err := e.Sign(key)
			if err != nil {
				t.Fatal(err)
			}
			into := a
			if i >= 350 {
				into = b
			}
			if got := into.Feed(s); got != FeedAdded {
				t.Fatalf("entry %d: %v", i, got)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.SyncWith(ctx, a.host.Addr()); err != nil {
			t.Fatal(err)
		}
		if x, y := a.Catalog().Len(), b.Catalog().Len(); x != n+1 || y != n+1 {
			t.Errorf("%d and %d peers, want %d", x, y, n+1)
		}
		if r := a.Status().Refused; len(r) != 0 {
			t.Errorf("refused: %v", r)
		}
	})
}

func TestSyncWith(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.node(), w.node()
		ctx := context.Background()
		if err := a.SyncWith(ctx, a.host.Addr()); !errors.Is(err, ErrSelf) {
			t.Errorf("with itself: %v", err)
		}
		if err := a.SyncWith(ctx, PeerAddr{ID: b.self}); !errors.Is(err, transport.ErrNoAddress) {
			t.Errorf("without an address: %v", err)
		}
		if err := a.SyncWith(ctx, PeerAddr{ID: b.self, Addrs: []string{"/memory/9999"}}); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("where nobody is: %v", err)
		}
		// Several at once, in both directions, with one peer.
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := a.SyncWith(ctx, b.host.Addr()); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if err := b.SyncWith(ctx, a.host.Addr()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !a.sees(b) || !b.sees(a) {
			t.Error("they do not see each other when the call returns")
		}
		last := a.Status().LastSync
		if last.Peer != b.self || last.Err != nil || last.At.IsZero() {
			t.Errorf("the last comparison was %+v", last)
		}
		short, cancel := context.WithCancel(ctx)
		cancel()
		if err := a.SyncWith(short, b.host.Addr()); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		a.stop()
		if err := a.SyncWith(ctx, b.host.Addr()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestDial(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.node(), w.node(), w.node()
		ctx := context.Background()
		if err := a.Dial(ctx, a.host.Addr(), b.host.Addr(), c.host.Addr()); err != nil {
			t.Fatal(err)
		}
		meet(t, time.Second, a, b, c)

		// One that is not there yet is tried again until it is.
		key := w.newKey()
		addr := PeerAddr{ID: id.PeerIDOf(key), Addrs: []string{"/memory/77"}}
		if err := a.Dial(ctx, addr); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("where nobody is: %v", err)
		}
		contacts := a.Status().Contacts
		if last := contacts[len(contacts)-1]; last.Addr.ID != addr.ID || last.Origin != "dialled" || last.Known || last.Err == nil || last.Fails == 0 {
			t.Errorf("the contact is %+v", last)
		}
		host, err := w.fabric.NewHost(transport.Config{Network: w.network, Key: key, Listen: []string{"/memory/77"}})
		if err != nil {
			t.Fatal(err)
		}
		d, err := Start(Env{Host: host, Key: key, Network: w.network}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		late := &testNode{d, host, key, nil}
		t.Cleanup(late.stop)
		meet(t, 2*time.Minute, a, b, c, late)
		a.stop()
		if err := a.Dial(ctx, b.host.Addr()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A node whose bootstrap peers are all away finds them when they come, and its Status says meanwhile what is missing.
func TestBootstrapPeersThatComeLater(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		key, addr := a.key, a.host.Addr()
		a.kill()
		b := w.node(a)
		time.Sleep(10 * time.Second)
		s := b.Status()
		if s.AloneSince.IsZero() || len(s.Contacts) != 1 || s.Contacts[0].Fails < 3 || s.Contacts[0].Origin != "bootstrap" {
			t.Errorf("status of a node alone: %+v", s)
		}
		if text := s.String(); text == "" || !hasAll(text, "no neighbour since", "not reached after") {
			t.Errorf("in words: %q", text)
		}
		host, err := w.fabric.NewHost(transport.Config{Network: w.network, Key: key, Listen: addr.Addrs})
		if err != nil {
			t.Fatal(err)
		}
		d, err := Start(Env{Host: host, Key: key, Network: w.network}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		a = &testNode{d, host, key, nil}
		t.Cleanup(a.stop)
		meet(t, 40*time.Second, a, b)
	})
}

// discovery: catalog/different_networks_are_isolated, as far as discovery is concerned
func TestForeignNetworks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.nodes(2, nodeOptions{})
		b := w.nodes(3, nodeOptions{network: id.Of("another")})
		ctx := context.Background()
		for _, x := range a {
			for _, y := range b {
				if err := x.SyncWith(ctx, y.host.Addr()); !errors.Is(err, &link.CloseError{Code: link.CodeDifferentNetwork}) {
					t.Errorf("across networks: %v", err)
				}
				if got := x.Feed(y.MeSigned()); got != FeedForeign {
					t.Errorf("an entry of another network was %v", got)
				}
			}
		}
		time.Sleep(time.Minute)
		for _, n := range a {
			if n.Catalog().Len() != 1 {
				t.Errorf("%d peers, want 1", n.Catalog().Len())
			}
		}
		for _, n := range b {
			if n.Catalog().Len() != 2 {
				t.Errorf("%d peers, want 2", n.Catalog().Len())
			}
		}
	})
}
