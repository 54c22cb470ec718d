package discovery

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/internal/link"
)

// farewells is how many peers at least are told of the departure, if so many are connected.
const farewells = 3

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
			n.w.Append(ctx, news.Append)
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

// close refuses further links and returns those there are.
func (h *hood) close() []*neighbour {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closing = true
	return slices.Collect(maps.Values(h.links))
}

// strangers returns up to n connected peers of the catalog that are not neighbours.
func (d *Discovery) strangers(links []*neighbour, n int) []PeerID {
	var out []PeerID
	for _, p := range d.host.Peers() {
		if len(out) >= n {
			break
		}
		if d.store.known(p) && !slices.ContainsFunc(links, func(l *neighbour) bool { return l.peer == p }) {
			out = append(out, p)
		}
	}
	return out
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
