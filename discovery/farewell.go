package discovery

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/internal/link"
)

// farewells is how many peers at least are told of the departure, if there are so many.
const farewells = 3

// linger is the part of the departure window for which the links stay open after the departure is on its way. In that
// time they pass on what neighbours say that close at the same moment: without it those who stay would hear of some of
// them only after PurgeAfter.
const linger = 0.2

// sayGoodbye tells the neighbours, or whoever is connected if they are few, that this node departs, and waits until they
// have heard it or ctx ends.
func (d *Discovery) sayGoodbye(ctx context.Context) {
	if d.shelf != nil {
		d.shelf.close()
	}
	local := d.store.local()
	depart := &wire.Depart{Peer: d.self, Start: local.Start(), At: max(now(), local.Entry.Entry.Update)}
	if local.Beat != nil {
		depart.At = max(depart.At, local.Beat.At)
	}
	depart.Sign(d.env.Network, d.env.Key)
	news := wire.Updates{{Depart: depart}}

	var wg sync.WaitGroup
	links := d.hood.close()
	for _, n := range links {
		wg.Go(func() {
			if n.w.Append(ctx, news.Append) == nil {
				d.linger(ctx, n)
			}
			n.w.Close(ctx)
			select {
			case <-n.done: // the other side has read to the end
			case <-ctx.Done():
			}
		})
	}
	for _, p := range d.strangers(links, farewells-len(links)) {
		wg.Go(func() { d.notify(ctx, p, news) })
	}
	wg.Wait()
}

// linger waits while a link may pass on other departures.
func (d *Discovery) linger(ctx context.Context, n *neighbour) {
	timer := time.NewTimer(stretch(d.cfg.DepartureWindow, linger))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.done:
	case <-ctx.Done():
	}
}

// close refuses further links and returns those there are.
func (h *hood) close() []*neighbour {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closing = true
	return slices.Collect(maps.Values(h.links))
}

// strangers returns up to n peers of the catalog that are not neighbours, connected ones first.
func (d *Discovery) strangers(links []*neighbour, n int) []PeerID {
	if n <= 0 {
		return nil
	}
	var near, far []PeerID
	for _, p := range d.store.candidates() {
		switch {
		case !d.store.known(p) || slices.ContainsFunc(links, func(l *neighbour) bool { return l.peer == p }):
		case d.host.Connected(p):
			near = append(near, p)
		default:
			far = append(far, p)
		}
	}
	rand.Shuffle(len(far), func(i, j int) { far[i], far[j] = far[j], far[i] })
	out := append(near, far...)
	return out[:min(n, len(out))]
}

// notify tells a peer that is not a neighbour something, and waits until it has taken it in.
func (d *Discovery) notify(ctx context.Context, p PeerID, news wire.Updates) {
	s, err := d.host.Open(ctx, p, protocolSync)
	if err != nil {
		return
	}
	if !d.enter(s) {
		return
	}
	defer d.leave(s)
	x := d.newExchange(s)
	if deadline, ok := ctx.Deadline(); ok {
		s.SetReadDeadline(deadline)
	}
	if x.write(ctx, news) == nil {
		x.read()
	}
	x.w.Abort(link.CodeSuccess)
}
