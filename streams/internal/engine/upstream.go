package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

const (
	dialTimeout = 5 * time.Second
	maxDials    = 16 // at a time
)

// dialBackoff is how the time between attempts to connect grows; a changed entry resets it.
var dialBackoff = Backoff{Initial: 250 * time.Millisecond, Multiplier: 1.5, Jitter: 0.25, Max: 15 * time.Second, GiveUp: -1}

// upstream is a peer with producers that this node wants. It is the loop's.
type upstream struct {
	peer     id.PeerID
	client   *client // nil without a connection
	dialing  bool
	attempts attempts
	idle     time.Time // since when there is no subscription
}

func (s *Service) upstream(peer id.PeerID) *upstream {
	u := s.peers[peer]
	if u == nil {
		u = &upstream{peer: peer}
		s.peers[peer] = u
	}
	return u
}

// dial connects to a peer, if it is time.
func (s *Service) dial(u *upstream, plan *schedule) {
	if u.dialing {
		return
	}
	if !u.attempts.due(plan.now) {
		plan.at(u.attempts.retry)
		return
	}
	if s.dials >= maxDials {
		return // one that ends looks again
	}
	s.dials++
	u.dialing = true
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
		stream, err := s.host.Open(ctx, u.peer, wire.Protocol)
		cancel()
		if err != nil {
			s.post(func() { s.unreachable(u, err) })
			return
		}
		s.run(u, stream)
	})
}

func (s *Service) unreachable(u *upstream, err error) {
	s.dials--
	u.dialing = false
	r := Refusal{Peer: u.peer, Code: link.CodeOf(err), Detail: err.Error()}
	u.attempts.failed(dialBackoff, r, time.Now())
	if s.ctx.Err() == nil {
		s.log.Debug("cannot reach a producer", "peer", u.peer.Short(), "err", err)
	}
}

// connected takes note of a new connection.
func (s *Service) connected(ev transport.Event) {
	if ev.Kind != transport.Connected {
		return
	}
	s.freshMu.Lock()
	s.fresh[ev.Peer] = true
	s.freshMu.Unlock()
	s.nudge()
}

// forgive lets peers be dialled at once to which there is a connection again: that they were out of reach says nothing any
// more.
func (s *Service) forgive() {
	s.freshMu.Lock()
	defer s.freshMu.Unlock()
	for peer := range s.fresh {
		if u := s.peers[peer]; u != nil {
			u.attempts.settled()
		}
	}
	clear(s.fresh)
}

// run runs a trunk to a peer until it ends.
func (s *Service) run(u *upstream, stream transport.Stream) {
	c := &client{trunk: newTrunk(stream), svc: s, inlets: make(map[uint32]*inlet), retries: make(map[id.ID]struct{})}
	defer context.AfterFunc(s.ctx, func() { c.abort(link.CodeShutdown) })()
	c.tell(func(dst []byte) []byte { return wire.AppendPreface(dst, s.node.Network) })
	s.host.Protect(u.peer, wire.Protocol)
	since := time.Now()
	s.post(func() {
		s.dials--
		u.dialing = false
		u.client = c
		if rtt, ok := s.host.RTT(u.peer); ok {
			s.disc.ObserveRTT(u.peer, rtt)
		}
	})
	err := c.read()
	s.host.Unprotect(u.peer, wire.Protocol)
	if errors.Is(err, io.EOF) {
		c.stream.Close()
		c.fail(err)
	} else {
		s.complain(u.peer, err)
		c.abort(codeOf(err))
	}
	<-c.done
	c.mu.Lock()
	inlets := c.inlets
	c.inlets = nil
	c.mu.Unlock()
	s.post(func() { s.lost(u, c, inlets, err, since) })
}

// lost cleans up after a trunk that has ended.
func (s *Service) lost(u *upstream, c *client, inlets map[uint32]*inlet, err error, since time.Time) {
	u.client = nil
	code, detail := ending(err)
	if time.Since(since) >= steadyAfter {
		u.attempts.settled()
	} else {
		u.attempts.failed(dialBackoff, Refusal{Peer: u.peer, Code: code, Detail: detail}, time.Now())
	}
	for _, in := range inlets {
		s.ended(in, wire.End{Code: code, Detail: detail})
	}
}

// tend keeps trunks alive and closes those to producers that nobody wants.
func (s *Service) tend(plan *schedule) {
	s.mu.Lock()
	for v := range s.served {
		v.keepAlive(plan.now)
		plan.soon()
	}
	s.mu.Unlock()
	for peer, u := range s.peers {
		wanted := plan.wanted[peer]
		switch {
		case wanted:
			u.idle = time.Time{}
		case u.idle.IsZero():
			u.idle = plan.now
		}
		if c := u.client; c != nil {
			c.keepAlive(plan.now)
			plan.soon()
			if !wanted && plan.now.Sub(u.idle) > idleAfter {
				c.close()
			}
		} else if !wanted && !u.dialing {
			delete(s.peers, peer)
		}
	}
}
