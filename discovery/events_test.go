package discovery

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestEvents(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(nodeOptions{Config: Config{EventBacklog: 5}})
		a.Feed(w.stranger(t, 0)) // before anybody listens
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		slow, quick := a.Events(ctx), a.Events(context.Background())
		for n := range 3 {
			a.Feed(w.stranger(t, n+1))
		}
		// A loop that is broken off goes on where it stopped.
		var got []PeerID
		for e := range quick {
			got = append(got, e.Peer)
			if e.Kind != Discovered || e.Entry.ID() != e.Peer {
				t.Errorf("event %+v", e)
			}
			break
		}
		for e := range quick {
			if got = append(got, e.Peer); len(got) == 3 {
				break
			}
		}
		for n := range 3 {
			if want := w.stranger(t, n+1).ID(); got[n] != want {
				t.Errorf("event %d is about %v, want %v", n, got[n], want)
			}
		}
		// The slow one has missed some and is told how many.
		for n := range 6 {
			a.Feed(w.stranger(t, n+10))
		}
		var kinds []string
		for e := range slow {
			kinds = append(kinds, e.String())
			if e.Kind == Lagged && e.Missed != 4 {
				t.Errorf("%d events were missed, want 4", e.Missed)
			}
			if len(kinds) == 6 {
				break
			}
		}
		if kinds[0] != "lagged, 4 events missed" || !strings.HasPrefix(kinds[1], "discovered ") {
			t.Errorf("the slow one got %q", kinds)
		}
		// The end of the context ends the sequence, as does that of the node; what came before is delivered.
		a.Feed(w.stranger(t, 30))
		cancel()
		n := 0
		for range slow {
			n++
		}
		if n != 1 {
			t.Errorf("%d events after the context ended, want the one that waited", n)
		}
		done := make(chan int)
		go func() {
			n := 0
			for range quick {
				n++
			}
			done <- n
		}()
		time.Sleep(time.Second)
		a.stop()
		if n := <-done; n < 5 {
			t.Errorf("%d events until the node closed", n)
		}
	})
}

// A catalog that is taken after an event shows at least what the event says.
func TestEventsComeAfterTheirCatalog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		ctx, cancel := context.WithCancel(context.Background())
		seq := a.Events(ctx)
		done := make(chan struct{})
		kinds := map[EventKind]int{}
		go func() {
			defer close(done)
			for e := range seq {
				kinds[e.Kind]++
				p, ok := a.Catalog().Get(e.Peer)
				switch e.Kind {
				case Discovered, Updated:
					if ok && e.Entry.Version().NewerThan(p.Version()) { // it may have left again
						t.Errorf("the catalog does not show %v yet", e)
					}
				case Departed:
					if ok {
						t.Errorf("the catalog still shows %v", e)
					}
				}
			}
		}()
		for n := range 20 {
			b := w.node(a)
			meet(t, time.Second, a, b)
			if err := b.AddTags("y", ""); err == nil || b.Me().HasTag("y") {
				t.Errorf("an empty tag: %v", err)
			}
			if err := b.AddTags("x"); err != nil {
				t.Error(n, err)
			}
			b.stop()
		}
		cancel()
		<-done
		if kinds[Discovered] != 20 || kinds[Departed] != 20 {
			t.Errorf("events: %v", kinds)
		}
	})
}

func TestEventNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for k := Discovered; k <= DuplicateIdentity; k++ {
		if s := k.String(); s == "" || seen[s] || strings.HasPrefix(s, "event") {
			t.Errorf("kind %d is called %q", k, s)
		} else {
			seen[s] = true
		}
	}
	for r := Left; r <= Removed; r++ {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d is called %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if EventKind(99).String() != "event 99" || DepartReason(99).String() != "" {
		t.Error("unknown kinds and reasons have odd names")
	}
	if s := (Event{Kind: Departed, Peer: PeerID{1}, Reason: Left}).String(); s != "departed 0100000000 (left)" {
		t.Errorf("printed as %q", s)
	}
}

func TestWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		changed, cancel := a.Watch()
		for n := range 10 {
			a.Feed(w.stranger(t, n))
		}
		<-changed
		select {
		case <-changed:
			t.Error("tokens add up")
		default:
		}
		if err := a.AddTags("x"); err != nil {
			t.Fatal(err)
		}
		<-changed // changes of the own entry count
		time.Sleep(time.Minute)
		select {
		case <-changed:
			t.Error("the own signs of life are a change")
		default:
		}
		cancel()
		a.Feed(w.stranger(t, 77))
		select {
		case <-changed:
			t.Error("told after the end")
		default:
		}
	})
}
