package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mosaik-go/mosaik/discovery"
)

// Online decides, from the peers at the other ends of all live channels, whether a producer or consumer is online.
type Online func(peers []discovery.PeerInfo) bool

// roster is the live channels of a producer or consumer, and who waits for them to change.
type roster struct {
	rule   Online
	kick   func() // has the service call refresh
	online atomic.Bool
	dirty  atomic.Bool

	mu       sync.Mutex // guards all following fields
	channels []*Channel // never changed in place
	changed  chan struct{}
	closed   error
}

func newRoster(rule Online, kick func()) *roster {
	r := &roster{rule: rule, kick: kick, changed: make(chan struct{})}
	r.online.Store(r.judge(nil))
	return r
}

func (r *roster) judge(peers []discovery.PeerInfo) (online bool) {
	defer func() {
		if recover() != nil {
			online = false // the condition is not ours
		}
	}()
	return r.rule(peers)
}

func (r *roster) add(c *Channel) {
	r.mu.Lock()
	r.channels = append(slices.Clip(r.channels), c)
	r.mu.Unlock()
	r.poke()
}

// admit is add, and judges the online state first. Only the service's loop calls it.
func (r *roster) admit(c *Channel) {
	now := r.judge(peersOf(append(slices.Clip(r.list()), c)))
	r.mu.Lock()
	if r.closed == nil {
		r.online.Store(now)
	}
	r.mu.Unlock()
	r.add(c)
}

func (r *roster) remove(c *Channel) {
	r.mu.Lock()
	r.channels = slices.DeleteFunc(slices.Clone(r.channels), func(o *Channel) bool { return o == c })
	r.mu.Unlock()
	r.poke()
}

// poke tells waiters that something changed and has the online state judged anew.
func (r *roster) poke() {
	r.broadcast()
	r.dirty.Store(true)
	r.kick()
}

func (r *roster) broadcast() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// refresh judges the online state if something changed. Only the service's loop calls it.
func (r *roster) refresh() {
	if !r.dirty.Swap(false) {
		return
	}
	now := r.judge(peersOf(r.list()))
	r.mu.Lock()
	now = now && r.closed == nil
	r.mu.Unlock()
	if r.online.Swap(now) != now {
		r.broadcast()
	}
}

// update takes over what the catalog says of the peers.
func (r *roster) update(catalog discovery.Catalog) {
	news := false
	for _, c := range r.list() {
		remote := c.Consumer
		if remote == catalog.Local().ID() {
			remote = c.Producer
		}
		news = c.update(catalog, remote) || news
	}
	if news {
		r.broadcast()
		r.dirty.Store(true)
	}
}

func (r *roster) list() []*Channel {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.channels
}

func peersOf(channels []*Channel) []discovery.PeerInfo {
	out := make([]discovery.PeerInfo, len(channels))
	for i, c := range channels {
		out[i] = c.Peer()
	}
	return out
}

// Peers returns the peers at the other ends of all live channels.
func (r *roster) Peers() []discovery.PeerInfo { return peersOf(r.list()) }

// WaitPeers waits until ok holds for the peers.
func (r *roster) WaitPeers(ctx context.Context, ok func([]discovery.PeerInfo) bool) error {
	return r.wait(ctx, func(channels []*Channel) bool { return ok(peersOf(channels)) })
}

// WaitOnline waits until the online state is as wanted.
func (r *roster) WaitOnline(ctx context.Context, want bool) error {
	return r.wait(ctx, func([]*Channel) bool { return r.online.Load() == want })
}

func (r *roster) wait(ctx context.Context, ok func([]*Channel) bool) error {
	for {
		r.mu.Lock()
		channels, changed, closed := r.channels, r.changed, r.closed
		r.mu.Unlock()
		if closed != nil {
			return closed
		}
		if ok(channels) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// close ends all waits with why, and is final.
func (r *roster) close(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = why
		r.online.Store(false)
		close(r.changed)
	}
}
