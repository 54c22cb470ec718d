package p2p

import (
	"cmp"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// tuning is what tests change of the upkeep.
type tuning struct {
	tendEvery time.Duration // between rounds of upkeep
	idleMax   int           // connections without streams that are kept, besides the protected ones
	idleGrace time.Duration // a connection is idle when it has had no stream for so long
}

var defaultTuning = tuning{
	tendEvery: 10 * time.Second,
	idleMax:   256,
	idleGrace: 30 * time.Second,
}

// tend does what has to be done from time to time: it notices that interfaces came or went, closes connections that nobody
// uses when there are many, and forgets bans that are over.
func (h *host) tend() {
	tick := time.NewTicker(h.tuning.tendEvery)
	defer tick.Stop()
	var addrs []string
	if h.cfg.Reach != transport.ReachHost {
		addrs = h.Addr().Addrs
	}
	for {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		h.liftBans()
		h.drop(h.unneeded(), link.CodeUnneeded)
		if h.cfg.Reach == transport.ReachHost {
			continue // loopback does not change
		}
		if now := h.Addr().Addrs; !slices.Equal(now, addrs) {
			addrs = now
			select {
			case h.addrsChanged <- struct{}{}:
			default:
			}
		}
	}
}

func (h *host) liftBans() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := range h.bans {
		if !h.bannedLocked(p) {
			delete(h.bans, p)
		}
	}
}

// unneeded returns the connections to close because more than enough are idle: those that have been so longest.
func (h *host) unneeded() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := clock()
	var idle []*conn
	for _, st := range h.peers {
		if len(st.tags) > 0 {
			continue
		}
		for _, c := range st.usable {
			if c.streams.Load() == 0 && now-c.used.Load() > int64(h.tuning.idleGrace) {
				idle = append(idle, c)
			}
		}
	}
	extra := len(idle) - h.tuning.idleMax
	if extra <= 0 {
		return nil
	}
	slices.SortFunc(idle, func(a, b *conn) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	return idle[:extra]
}
