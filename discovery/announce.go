package discovery

import (
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
)

// Changes of the own entry that are announced at once, and then one for each pause. Others allow an origin a little more,
// so they never have to hold back what an honest node says.
const (
	announceBurst = contentBurst - 2
	announcePause = (contentRefill + 100) * time.Millisecond
)

// runAnnounce tells the neighbours of changes of the own entry, and from time to time that this node lives.
func (d *Discovery) runAnnounce() {
	allowed := rate.NewLimiter(rate.Every(announcePause), announceBurst)
	timer := time.NewTimer(d.nextBeat())
	defer timer.Stop()
	for {
		select {
		case <-d.loopCtx.Done():
			return
		case <-timer.C:
			d.beat()
			timer.Reset(d.nextBeat())
		case <-d.host.AddrsChanged():
			d.updateAddrs()
		case <-d.own.changed:
			if allowed.Wait(d.loopCtx) != nil {
				return
			}
			d.hood.tell(d.store.local(), PeerID{}) // the latest; what came between is never seen
		}
	}
}

// nextBeat returns the pause until the next sign of life.
func (d *Discovery) nextBeat() time.Duration {
	j := d.cfg.AnnounceJitter
	return stretch(d.cfg.announceEvery(d.store.size()), 1-j+2*j*rand.Float64())
}

// beat signs a sign of life and passes it on.
func (d *Discovery) beat() {
	d.own.lock()
	defer d.own.unlock()
	var b *wire.Beat
	d.store.change(func(c *catalog.Core, now int64) noise {
		l := c.Local()
		b = &wire.Beat{Peer: d.self, Start: l.Entry.Start, Content: l.Entry.Update, At: max(now, l.Alive()+1)}
		b.Sign(d.env.Network, d.env.Key)
		c.SetLocal(&catalog.Record{Entry: l.Entry, Signed: l.Signed, Beat: b})
		return quiet
	})
	d.hood.tellBeat(b, PeerID{})
}

// updateAddrs puts the host's addresses into the own entry.
func (d *Discovery) updateAddrs() {
	addrs := d.ownAddr().Addrs
	if slices.Equal(addrs, d.Me().entry().Addrs) {
		return
	}
	if err := d.changeOwn("update addresses", setAddrs(addrs)); err != nil {
		d.log.Warn("own addresses not announced", "err", err)
	}
	d.shelf.moved()
}

// ownAddr returns the addresses that go into the own entry: sorted, and no more than fit. A machine with many interfaces
// has more than anybody needs.
func (d *Discovery) ownAddr() PeerAddr {
	addr := d.host.Addr()
	addr.Addrs = slices.DeleteFunc(addr.Addrs, func(a string) bool { return len(a) > wire.MaxAddrBytes })
	if len(addr.Addrs) > wire.MaxAddrs { // in the host's order, so that each interface keeps its transports together
		addr.Addrs = addr.Addrs[:wire.MaxAddrs]
	}
	slices.Sort(addr.Addrs)
	addr.Addrs = slices.Compact(addr.Addrs)
	return addr
}
