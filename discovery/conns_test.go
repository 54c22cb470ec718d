package discovery

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/internal/transport"
)

// stuck is a host whose dials to one peer hang, until they are let go and fail.
type stuck struct {
	transport.Host
	to      atomic.Pointer[PeerID] // nil: nobody
	dialled chan struct{}          // capacity one: a dial hangs
	fail    chan struct{}          // closed: they fail
}

func (s *stuck) Connect(ctx context.Context, addr PeerAddr) error {
	if to := s.to.Load(); to == nil || addr.ID != *to {
		return s.Host.Connect(ctx, addr)
	}
	select {
	case s.dialled <- struct{}{}:
	default:
	}
	<-s.fail
	return fmt.Errorf("test: %w", transport.ErrUnreachable)
}

// A dial to a life that is over, which ends in vain when a later life is there, is held against nobody.
func TestDialToAFormerLife(t *testing.T) {
	for name, direct := range map[string]bool{"the later life is connected": true, "the later life is known through a third node": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s := &stuck{dialled: make(chan struct{}, 1), fail: make(chan struct{})}
				third := w.node()
				a := w.start(nodeOptions{bootstrap: []*testNode{third}, wrap: func(h transport.Host) transport.Host { s.Host = h; return s }})
				b := w.start(nodeOptions{bootstrap: []*testNode{a, third}})
				meet(t, 10*time.Second, a, b, third)
				time.Sleep(20 * time.Second)
				s.to.Store(&b.self)
				b.kill()
				<-s.dialled
				events := a.listen(t)
				to := third
				if direct {
					to = a
				} else {
					w.fabric.Block(a.self, b.self)
					w.fabric.Block(b.self, a.self)
				}
				again := w.start(nodeOptions{key: b.key, bootstrap: []*testNode{to}, tags: []string{"again"}})
				events.got(t, 10*time.Second, Updated, again)
				close(s.fail)
				time.Sleep(10 * time.Second)
				if n := events.count(func(e Event) bool { return e.Kind == Departed || e.Kind == Discovered }); n != 0 {
					t.Errorf("events: %v", events)
				}
				if !a.sees(again) || a.log.has("peer lost") {
					t.Error("a peer that lives was lost")
				}
			})
		})
	}
}

// A peer that only it can dial, and that lost no more than a connection, is not lost.
func TestPeerThatCannotBeDialled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := &stuck{dialled: make(chan struct{}, 1), fail: make(chan struct{})}
		close(s.fail)
		a := w.start(nodeOptions{wrap: func(h transport.Host) transport.Host { s.Host = h; return s }})
		b := w.node(a)
		meet(t, 10*time.Second, a, b)
		s.to.Store(&b.self)
		events := a.listen(t)
		for range 20 {
			w.fabric.Reset(a.self, b.self)
			time.Sleep(5 * time.Second)
		}
		if n := events.count(func(Event) bool { return true }); n != 0 {
			t.Errorf("events: %v", events)
		}
		b.kill()
		if e := events.got(t, time.Second, Departed, b); e.Reason != Lost {
			t.Errorf("%v", e)
		}
	})
}
