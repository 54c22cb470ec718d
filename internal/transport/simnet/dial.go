package simnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// hello is what each side shows the other before anything else. A real transport sends a proof of the secret; here the
// secret itself stands for it.
type hello struct {
	network     id.ID
	incarnation transport.Incarnation
	secret      string
}

// dial is a host's attempt to reach a peer, shared by all calls that wait for it. All addresses are tried at once.
type dial struct {
	host    *host
	peer    id.PeerID
	tried   []string
	pending int
	refused error // the last typed refusal
	done    chan struct{}
	err     error // valid after done is closed
}

func (h *host) Connect(ctx context.Context, addr id.PeerAddr) error {
	d, err := h.dial(ctx, addr)
	if d == nil || err != nil {
		return err
	}
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("simnet: connect to %s: %w", addr.ID.Short(), context.Cause(ctx))
	}
}

// dial returns the attempt to wait for, or nil when there is a connection.
func (h *host) dial(ctx context.Context, addr id.PeerAddr) (*dial, error) {
	if addr.ID == h.id {
		return nil, transport.ErrSelf
	}
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	for h.f.paused[h.id] && !h.closed {
		resumed := h.resumed
		h.f.mu.Unlock()
		select {
		case <-resumed:
		case <-ctx.Done():
		}
		h.f.mu.Lock()
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case h.closed:
		return nil, transport.ErrClosed
	case ctx.Err() != nil:
		return nil, fmt.Errorf("simnet: connect to %s: %w", addr.ID.Short(), context.Cause(ctx))
	case len(h.conns[addr.ID]) > 0:
		return nil, nil
	case h.isBanned(addr.ID):
		return nil, fmt.Errorf("simnet: connect to %s: %w", addr.ID.Short(), &link.CloseError{Code: link.CodeBanned})
	}
	d := h.dials[addr.ID]
	if d == nil {
		if len(addr.Addrs)+len(h.book[addr.ID]) == 0 {
			return nil, fmt.Errorf("simnet: connect to %s: %w", addr.ID.Short(), transport.ErrNoAddress)
		}
		d = &dial{host: h, peer: addr.ID, done: make(chan struct{})}
		h.dials[addr.ID] = d
	}
	for _, a := range slices.Concat(addr.Addrs, h.book[addr.ID]) {
		d.try(a)
	}
	return d, nil
}

// try dials one address, unless this attempt has already done so.
func (d *dial) try(addr string) {
	if slices.Contains(d.tried, addr) {
		return
	}
	d.tried = append(d.tried, addr)
	d.pending++
	h, f := d.host, d.host.f
	e := f.connect(d)
	mine, sent := h.hello(), time.Now()
	e.send(controlSize, func() { e.other.dialled(addr, mine, sent) })
	f.after(f.opts.DialTimeout, func() {
		if e.state == greeting {
			e.close(link.CodeTimeout)
		}
	})
}

func (d *dial) finish(err error) {
	if d.host.dials[d.peer] == d {
		delete(d.host.dials, d.peer)
		d.err = err
		close(d.done)
	}
}

func (h *host) hello() hello { return hello{h.cfg.Network, h.incarnation, h.cfg.Secret} }

// failed takes note that a connection of this dial ended before it was usable.
func (d *dial) failed(why *link.CloseError) {
	d.host.heardClose(why)
	if why.Code != link.CodeTimeout && why.Code != link.CodeUnexpectedClose {
		d.refused = why
	}
	if d.pending--; d.pending > 0 {
		return
	}
	err := d.refused
	if err == nil {
		err = errors.Join(transport.ErrUnreachable, why)
	}
	d.finish(fmt.Errorf("simnet: connect to %s: %w", d.peer.Short(), err))
}

// errUnreachable ends a dial to an address where the peer is not.
var errUnreachable = &link.CloseError{Code: link.CodeUnexpectedClose, Remote: true}

// dialled is the arrival of a dial at an address. e is the acceptor, still idle.
func (e *end) dialled(addr string, theirs hello, sent time.Time) {
	p := e.f.places[addr]
	if p == nil || p.host == nil || p.host.id != e.self {
		e.state = greeting
		e.send(controlSize, func() { e.other.broken(errUnreachable) })
		e.broken(errUnreachable)
		return
	}
	h := p.host
	e.host, e.state, e.incarnation = h, greeting, theirs.incarnation
	if code, ok := h.judge(e.peer, theirs); !ok {
		e.refuse(code)
		return
	}
	mine, replied := h.hello(), time.Now()
	e.f.after(e.f.opts.DialTimeout, func() {
		if e.state == greeting {
			e.close(link.CodeTimeout)
		}
	})
	e.send(controlSize, func() { e.other.greeted(mine, sent, replied) })
}

// greeted is the arrival of the acceptor's hello at the dialler e.
func (e *end) greeted(theirs hello, sent, replied time.Time) {
	e.incarnation = theirs.incarnation
	if code, ok := e.host.judge(e.peer, theirs); !ok {
		e.refuse(code)
		return
	}
	e.send(controlSize, func() {
		if o := e.other; o.state == greeting {
			// What was learned since the hello was judged counts too.
			if code, ok := o.host.judgePeer(o.peer, o.incarnation); !ok {
				o.refuse(code)
				return
			}
			o.up(time.Since(replied))
		}
	})
	e.up(time.Since(sent))
}

// refuse turns the other side away.
func (e *end) refuse(code link.Code) {
	e.refused(code)
	e.close(code)
}

// refused reports that one of the two sides turned the other away.
func (e *end) refused(code link.Code) {
	e.host.log.Info("peer refused", "peer", e.peer.Short(), "reason", code.String())
	e.host.emit(transport.Event{Kind: transport.Refused, Peer: e.peer, Code: code, Incarnation: e.incarnation})
}

// judge decides on a hello. It returns the code to refuse it with, or true.
func (h *host) judge(peer id.PeerID, theirs hello) (link.Code, bool) {
	switch {
	case theirs.network != h.cfg.Network:
		return link.CodeDifferentNetwork, false
	case theirs.secret != h.cfg.Secret:
		return link.CodeBadProof, false
	}
	return h.judgePeer(peer, theirs.incarnation)
}

func (h *host) judgePeer(peer id.PeerID, incarnation transport.Incarnation) (link.Code, bool) {
	switch {
	case h.isBanned(peer):
		return link.CodeBanned, false
	case incarnation < h.newest[peer]:
		return link.CodeSupplanted, false
	}
	return 0, true
}
