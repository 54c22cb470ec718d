package bond

import (
	"context"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

// slowHost opens streams late.
type slowHost struct {
	transport.Host
	goOn chan struct{} // closed: they are opened now
}

func (h slowHost) Open(ctx context.Context, p id.PeerID, protocol string) (transport.Stream, error) {
	select {
	case <-h.goOn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.Host.Open(ctx, p, protocol)
}

// A dial that ends when the peer's trunk is there already, as one to a former life of the peer may, leaves that trunk alone.
func TestLateDial(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		w.wrap = func(h transport.Host) transport.Host { return slowHost{h, goOn} }
		n0 := w.node()
		w.wrap = nil
		n1 := w.node()
		g := id.Of("g")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		w.within(4*time.Second, "the bond of the larger identity is up", bonded(s0, s1))
		close(goOn)
		time.Sleep(time.Minute)
		for _, s := range []*testSink{s0, s1} {
			if up, ups, downs, _ := s.count(); up != 1 || ups != 1 || downs != 0 {
				t.Errorf("%d bonds, %d ups, %d downs", up, ups, downs)
			}
		}
		if !s0.bond(n1).Send(note("hello")) {
			t.Error("not sent")
		}
		w.within(time.Second, "it arrives", func() bool { return len(s1.notes()) == 1 })
	})
}
