package bond

import (
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

// However long a peer was out of reach, and however often, the bond is up again as soon as there is a connection to it,
// whoever has made that.
func TestBondFollowsConnection(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		g := id.Of("g")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		w.within(time.Second, "the bond is up", bonded(s0, s1))
		for round := range 4 {
			w.Isolate(n1.host.ID())
			w.within(10*time.Second, "the silence is seen", func() bool { return s0.bond(n1) == nil && s1.bond(n0) == nil })
			time.Sleep(time.Minute)
			w.Rejoin(n1.host.ID())
			from, to := n0, n1
			if round%2 == 1 {
				from, to = n1, n0
			}
			w.within(10*time.Second, "a connection", func() bool {
				return from.host.Connect(t.Context(), to.host.Addr()) == nil
			})
			w.within(yieldTime+time.Second, "the bond is up again", bonded(s0, s1))
		}
	})
}
