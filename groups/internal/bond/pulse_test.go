package bond

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

// The pulses of many groups go in one frame per peer, reach each its own group, and are answered, where the group says so,
// in one frame too.
func TestPulses(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		frames, sent := new(tally), new(tally)
		w.pulses = Pulses{Sent: sent, Frames: frames}
		for range 3 {
			w.node()
		}
		const groups = 20
		var sinks [3][]*testSink
		for g := range groups {
			for i, n := range w.nodes {
				sinks[i] = append(sinks[i], n.join(id.Of(fmt.Sprint("group ", g)), nil))
			}
		}
		w.within(5*time.Second, "all bonds", func() bool {
			for g := range groups {
				if !bonded(sinks[0][g], sinks[1][g], sinks[2][g])() {
					return false
				}
			}
			return true
		})
		var round Round
		for turn := range 3 {
			for g := range groups {
				for _, to := range []int{1, 2} {
					round.Pulse(sinks[0][g].bond(w.nodes[to]), wire.Pulse{Member: 1 << 60, Term: uint64(g)})
				}
			}
			round.Send()
			w.within(time.Second, "pulses and answers", func() bool {
				for g := range groups {
					want := slices.Repeat([]string{fmt.Sprintf("pulse of %d in %d", 1<<60, g)}, turn+1)
					if !slices.Equal(sinks[1][g].notes(), want) || !slices.Equal(sinks[2][g].notes(), want) {
						return false
					}
					answers := 0
					if g%2 == 0 {
						answers = 2 * (turn + 1)
					}
					if !slices.Equal(sinks[0][g].notes(), slices.Repeat([]string{fmt.Sprintf("answer in %d", g)}, answers)) {
						return false
					}
				}
				return true
			})
		}
		if got, want := frames.n.Load(), int64(3*2*2); got != want {
			t.Errorf("%v frames were sent, want %v", got, want)
		}
		if got, want := sent.n.Load(), int64(3*2*(groups+groups/2)); got != want {
			t.Errorf("%v pulses and answers were sent, want %v", got, want)
		}

		// A peer that is gone is forgotten, and its pulses are lost.
		lost := sinks[0][0].bond(w.nodes[1])
		w.nodes[1].mesh.Close()
		w.within(time.Second, "the end of the bonds", func() bool { return sinks[0][0].bond(w.nodes[1]) == nil })
		round.Pulse(lost, wire.Pulse{Member: 1, Term: 1})
		round.Send()
		if len(round.trunks) != 0 {
			t.Errorf("the round remembers %d peers that got nothing", len(round.trunks))
		}
	})
}

// tally is a counter that can be read.
type tally struct{ n atomic.Int64 }

func (c *tally) Inc()          { c.n.Add(1) }
func (c *tally) Add(n float64) { c.n.Add(int64(n)) }
