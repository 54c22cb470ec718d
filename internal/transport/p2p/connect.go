package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

const (
	openTimeout = 10 * time.Second // of Open without a deadline
	addrsMax    = 16               // addresses kept of one peer, the latest learned
	addrTTL     = time.Minute      // how long the library keeps the addresses of a dial
	stalePause  = 5 * time.Millisecond
	staleLimit  = time.Second // for a connection that has ended to leave the library's books
)

func (h *host) Learn(addr id.PeerAddr) {
	if addr.ID == h.self || len(addr.Addrs) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.peerLocked(addr.ID)
	st.addrs = merge(st.addrs, addr.Addrs)
}

// merge adds addresses behind those that are known. The latest stay when there are too many. The slices are not changed.
func merge(known, more []string) []string {
	known = slices.DeleteFunc(slices.Clone(known), func(a string) bool { return slices.Contains(more, a) })
	for _, a := range more {
		if !slices.Contains(known, a) {
			known = append(known, a)
		}
	}
	return known[max(0, len(known)-addrsMax):]
}

func (h *host) Connect(ctx context.Context, addr id.PeerAddr) error {
	_, err := h.connect(ctx, addr)
	return err
}

// connect returns a usable connection to the peer, dialling if there is none.
func (h *host) connect(ctx context.Context, addr id.PeerAddr) (*conn, error) {
	if addr.ID == h.self {
		return nil, transport.ErrSelf
	}
	c, err := h.dial(ctx, addr)
	switch {
	case err == nil || err == transport.ErrClosed:
		return c, err
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return nil, fmt.Errorf("p2p: connect to %s: %w", addr.ID.Short(), err)
}

func (h *host) dial(ctx context.Context, addr id.PeerAddr) (*conn, error) {
	h.Learn(addr)
	p, err := peerOf(addr.ID)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; {
		c, err := h.ready(addr.ID)
		if c != nil || err != nil {
			return c, err
		}
		if err := h.aim(addr.ID); err != nil && len(h.stack.swarm.ConnsToPeer(p)) == 0 {
			return nil, err
		}
		h.stack.swarm.Backoff().Clear(p) // how often to try is for the callers to say
		// The peer may be the one to dial, from addresses that are not known here.
		dialCtx, cancel := h.untilUsable(ctx, addr.ID)
		raw, err := h.stack.swarm.DialPeer(dialCtx, p)
		came := dialCtx.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil {
			best, over := h.ready(addr.ID)
			switch {
			case best != nil || over != nil:
				return best, over
			case came: // and went
				continue
			}
			return nil, fmt.Errorf("%w: %w", transport.ErrUnreachable, err)
		}
		c = h.connOf(raw)
		over := c.why()
		select {
		case <-c.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// Either this one, or another that came up meanwhile.
		if best, err := h.ready(addr.ID); best != nil || err != nil {
			return best, err
		}
		if over == nil || time.Since(began) > staleLimit {
			return nil, c.ended()
		}
		// The library returned a connection that had ended here and is about to leave its books.
		select {
		case <-time.After(stalePause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ready returns the connection to use for the peer, nil if there is none, or why there can be none.
func (h *host) ready(p id.PeerID) (*conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closing:
		return nil, transport.ErrClosed
	case h.bannedLocked(p):
		return nil, &link.CloseError{Code: link.CodeBanned}
	}
	if st := h.peers[p]; st != nil {
		return st.best(), nil
	}
	return nil, nil
}

func (h *host) isClosing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closing
}

// aim tells the library the addresses to dial.
func (h *host) aim(who id.PeerID) error {
	h.mu.Lock()
	var texts []string
	if st := h.peers[who]; st != nil {
		texts = st.addrs
	}
	h.mu.Unlock()
	var addrs []ma.Multiaddr
	for _, text := range texts {
		if a, err := ma.NewMultiaddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return transport.ErrNoAddress
	}
	p, err := peerOf(who)
	if err != nil {
		return err
	}
	book := h.stack.swarm.Peerstore()
	book.ClearAddrs(p)
	book.AddAddrs(p, addrs, addrTTL)
	return nil
}

func (h *host) Open(ctx context.Context, p id.PeerID, protocol string) (transport.Stream, error) {
	if protocol == "" || len(protocol) > headerMax || protocol == controlProtocol {
		return nil, fmt.Errorf("p2p: open: bad name of a protocol: %q", protocol)
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	for try := 1; ; try++ {
		c, err := h.connect(ctx, id.PeerAddr{ID: p})
		if err != nil {
			return nil, err
		}
		s, err := c.open(ctx, protocol)
		if err == nil {
			return s, nil
		}
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case errors.Is(err, network.ErrResourceLimitExceeded):
			err = fmt.Errorf("%w: %w", &link.CloseError{Code: link.CodeOverloaded}, err)
		case try == 1:
			c.close(link.CodeUnexpectedClose)
			continue
		default:
			err = closeError(err)
		}
		return nil, fmt.Errorf("p2p: open %s to %s: %w", protocol, p.Short(), err)
	}
}
