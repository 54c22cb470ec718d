package host

import (
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Most groups of a node that has many are at rest most of the time: their engines are not called, and the ticker and the
// readers of the links do what is left to do, see [core.Rest]. All groups send their pulses at the same ticks, so
// that those to one peer go in one frame.

// restLocked lets the engine rest if it may. The caller is the loop, about to end, and the mailbox is empty.
func (g *Group) restLocked() {
	x := g.resting
	g.resting = nil
	if x == nil || g.dead || g.halted {
		return
	}
	g.pulse = g.pulse[:0]
	for _, who := range x.Peers {
		b := g.bonds[who]
		if b == nil {
			return
		}
		g.pulse = append(g.pulse, b)
	}
	g.rest = x
	g.svc.metrics.resting.Inc()

	// Slices that were kept to be used again are not worth it now.
	g.box, g.spare, g.out, g.decided = mailbox{}, mailbox{}, core.Output{}, nil
	if !g.applying {
		g.spares = nil
		if len(g.queue) == 0 {
			g.queue = nil
		}
	}
}

// wakeLocked ends the rest and returns it, nil if there was none.
func (g *Group) wakeLocked() *core.Rest {
	x := g.rest
	if x != nil {
		g.rest = nil
		clear(g.pulse)
		g.svc.metrics.resting.Dec()
	}
	return x
}

// tick is called by the node's ticker, at its turn number turn. Pulses that are due go into the round.
func (g *Group) tick(turn int, round *bond.Round) {
	g.mu.Lock()
	if g.dead || g.halted {
		g.mu.Unlock()
		return
	}
	if x := g.rest; x != nil && !g.running && !g.window.shut && !x.Tick() {
		if x.Leads && turn%x.Every == 0 {
			for _, b := range g.pulse {
				round.Pulse(b, wire.Pulse{Member: x.Member, Term: x.Term})
			}
		}
		g.mu.Unlock()
		return
	}
	late, failure, cause := g.expiredLocked(g.svc.now())
	g.box.tick = true
	g.kickLocked()
	g.mu.Unlock()
	for _, c := range late {
		g.meter.failed(failure)
		c.settle(0, failure, cause)
	}
}

// Pulse implements bond.Sink.
func (g *Group) Pulse(b *bond.Bond, m wire.Pulse) (answer bool) {
	g.mu.Lock()
	if x := g.rest; x != nil && !x.Leads && g.pulse[0] == b && x.Pulse(b.Peer(), &m) {
		g.mu.Unlock()
		return true
	}
	g.mu.Unlock()
	g.Receive(b, []wire.Message{&m}, pulseSize)
	return false
}

// Pulsed implements bond.Sink.
func (g *Group) Pulsed(b *bond.Bond, m wire.Pulsed) {
	g.mu.Lock()
	if x := g.rest; x != nil && x.Leads && x.Pulsed(b.Peer(), &m) {
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.Receive(b, []wire.Message{&m}, pulseSize)
}

// pulseSize is what a pulse counts in a mailbox.
const pulseSize = 64

// tickEvery runs the ticker of the node.
func (s *Service) tickEvery(ticks <-chan time.Time, done <-chan struct{}) {
	var all []*Group
	var round bond.Round
	for turn := 0; ; turn++ {
		select {
		case <-ticks:
		case <-done:
			return
		}
		all = s.live(all[:0])
		for _, g := range all {
			g.tick(turn, &round)
		}
		round.Send()
		if turn%balanceEvery == 0 {
			s.balance(all)
		}
	}
}
