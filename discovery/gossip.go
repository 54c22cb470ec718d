package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"

	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
	"github.com/mosaik-go/mosaik/discovery/internal/overlay"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// protocolGossip is the protocol of links between neighbours.
const protocolGossip = "discovery/gossip/1"

const greetTimeout = 5 * time.Second

// How much work one neighbour may make in a second, and at once: updates to verify, entries to look up. More make it wait,
// and only it.
const (
	workRate  = 1000
	workBurst = 4000
)

// dialLink opens a link to a peer.
func (d *Discovery) dialLink(p PeerID) {
	ctx, cancel := context.WithTimeout(d.loopCtx, dialTimeout)
	defer cancel()
	s, err := d.host.Open(ctx, p, protocolGossip)
	if err != nil {
		d.hood.dialFailed(p, err)
		return
	}
	if !d.enter(s) {
		d.hood.dialFailed(p, &link.CloseError{Code: link.CodeOverloaded})
		return
	}
	go func() { // ended and waited for through enter
		defer d.leave(s)
		n, r, err := d.greetDialled(s)
		if err != nil {
			d.fail(s, err)
			d.hood.dialFailed(p, err)
			return
		}
		d.runLink(n, r)
	}()
}

// greetDialled does the dialler's part of the greeting.
func (d *Discovery) greetDialled(s transport.Stream) (*neighbour, *link.Reader, error) {
	s.SetReadDeadline(time.Now().Add(greetTimeout))
	n := d.newNeighbour(s, true)
	r := link.NewReader(s, wire.MaxGossipFrame)
	d.hood.greet(n)
	if _, err := d.readGreet(s, r); err != nil {
		n.w.Abort(link.CodeOf(err))
		return nil, nil, err
	}
	if !d.hood.up(n) {
		n.w.Abort(link.CodeSuccess)
		return nil, nil, &link.CloseError{Code: link.CodeSuccess}
	}
	return n, r, nil
}

// serveGossip handles a link that a peer opened.
func (d *Discovery) serveGossip(s transport.Stream) {
	if !d.enter(s) {
		return
	}
	defer d.leave(s)
	s.SetReadDeadline(time.Now().Add(greetTimeout))
	r := link.NewReader(s, wire.MaxGossipFrame)
	g, err := d.readGreet(s, r)
	if err != nil {
		d.fail(s, err)
		return
	}
	n, code := d.hood.admit(s, g.Lonely)
	if n == nil {
		s.Abort(code)
		return
	}
	d.runLink(n, r)
}

func (d *Discovery) newNeighbour(s transport.Stream, dialled bool) *neighbour {
	return &neighbour{
		peer:    s.Peer(),
		dialled: dialled,
		stream:  s,
		w:       link.NewWriter(s, link.WriterConfig{MaxFrame: wire.MaxGossipFrame, Buffer: linkBuffer}),
		done:    make(chan struct{}),
		said:    time.Now(),
	}
}

// readGreet reads the other side's greeting and takes in its entry.
func (d *Discovery) readGreet(s transport.Stream, r *link.Reader) (*wire.Greet, error) {
	f, err := d.readFrame(r)
	if err != nil {
		return nil, err
	}
	g, ok := f.(*wire.Greet)
	if !ok {
		return nil, violation("%T instead of a greeting", f)
	}
	return g, d.takeSelf(g.Self, s.Peer())
}

// takeSelf takes in the entry with which a peer introduces itself, and says whether to go on.
func (d *Discovery) takeSelf(u wire.Update, from PeerID) error {
	if u.Peer() != from {
		return violation("introduced itself as %s", u.Peer().Short())
	}
	out, err := d.take(u, from, nil)
	if err != nil {
		return err
	}
	return d.introduced(from, out)
}

// introduced says whether a peer whose own entry had this outcome can be talked to.
func (d *Discovery) introduced(p PeerID, out catalog.Outcome) error {
	switch out.Verdict {
	case catalog.Future, catalog.Outdated:
		d.drifted(p, time.Duration(out.Age)*time.Millisecond, out.Verdict == catalog.Future)
		return &link.CloseError{Code: link.CodeClockDrift}
	case catalog.Gone:
		return &link.CloseError{Code: link.CodeSupplanted}
	case catalog.Foreign:
		return &link.CloseError{Code: link.CodeDifferentNetwork}
	}
	return nil
}

// errViolation is what a peer did that no correct peer does.
type errViolation struct{ what string }

func (e *errViolation) Error() string { return "protocol violation: " + e.what }

func violation(format string, args ...any) error { return &errViolation{fmt.Sprintf(format, args...)} }

func (d *Discovery) readFrame(r *link.Reader) (wire.Frame, error) {
	body, err := r.Next()
	if err != nil {
		return nil, err
	}
	f, err := wire.Decode(body)
	if errors.Is(err, wire.ErrIncompatible) {
		return nil, &link.CloseError{Code: link.CodeIncompatibleVersion}
	}
	if err != nil {
		return nil, violation("%v", err)
	}
	return f, nil
}

// fail ends a stream because of err and, if the peer is to blame, holds that against it.
func (d *Discovery) fail(s transport.Stream, err error) {
	code := link.CodeOf(err)
	blame, isViolation := errors.AsType[*errViolation](err)
	closed, isClosed := errors.AsType[*link.CloseError](err)
	if isClosed && closed.Remote && isRefusal(closed.Code) {
		d.refusedBy(s.Peer(), closed.Code)
	}
	switch {
	case errors.Is(err, wire.ErrBadSignature):
		s.Abort(link.CodeProtocolViolation)
		d.scold("peer banned", s.Peer(), err.Error())
		d.store.refuse("banned")
		d.host.Ban(s.Peer(), banFor)
		return
	case isViolation:
		code = link.CodeProtocolViolation
		d.blame(s.Peer(), blame.what)
	case isClosed && !closed.Remote && closed.Code == link.CodeFrameTooLarge:
		d.blame(s.Peer(), "frame too large")
	case isTimeout(err):
		code = link.CodeTimeout
	}
	s.Abort(code)
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// runLink reads a link until it ends.
func (d *Discovery) runLink(n *neighbour, r *link.Reader) {
	d.host.Protect(n.peer, protocolGossip)
	d.log.Debug("neighbour up", "peer", n.peer.Short(), "dialled", n.dialled)
	r.LimitIdle(n.stream, linkIdle)
	err := d.readLink(n, r)
	if errors.Is(err, io.EOF) {
		ctx, cancel := context.WithTimeout(context.Background(), retireGrace)
		n.w.Close(ctx)
		cancel()
		n.stream.Close()
	} else {
		d.fail(n.stream, err)
		n.w.Abort(link.CodeOf(err))
	}
	close(n.done)
	if d.hood.down(n, !errors.Is(err, io.EOF)) {
		d.host.Unprotect(n.peer, protocolGossip)
	}
	d.log.Debug("neighbour down", "peer", n.peer.Short(), "reason", err)
}

func (d *Discovery) readLink(n *neighbour, r *link.Reader) error {
	allowed := rate.NewLimiter(workRate, workBurst)
	for {
		f, err := d.readFrame(r)
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case wire.Updates:
			err = d.takeFrom(n, f, allowed)
		case wire.Wants:
			allowed.WaitN(d.loopCtx, len(f)) // fails only when closing, and then it does not matter
			d.answerWants(n, f)
		case wire.Alive:
		default:
			err = violation("%T on a gossip link", f)
		}
		if err != nil {
			return err
		}
	}
}

// takeFrom takes in what a neighbour says, and asks it for entries of which only a sign of life came.
func (d *Discovery) takeFrom(n *neighbour, updates wire.Updates, allowed *rate.Limiter) error {
	var wants wire.Wants
	for _, u := range updates {
		out, err := d.take(u, n.peer, nil)
		if err != nil {
			return err
		}
		if u.Peer() == n.peer {
			if err := d.introduced(n.peer, out); err != nil {
				return err
			}
		}
		if out.Verdict == catalog.Missing {
			wants = append(wants, u.Peer())
		}
		if out.Verdict.Changed() || out.Verdict == catalog.Held || out.Verdict == catalog.Conflict {
			allowed.Wait(d.loopCtx)
		}
	}
	switch {
	case len(wants) > wire.MaxWants:
		d.hood.compareWithLink(n)
	case len(wants) > 0:
		d.hood.sendTo(n, wants.Append(nil))
	}
	return nil
}

func (d *Discovery) answerWants(n *neighbour, wants wire.Wants) {
	for _, p := range wants {
		if u, ok := d.store.lookup(p); ok {
			d.hood.sendTo(n, wire.Updates{u}.Append(nil))
		}
	}
}

// greet queues the own greeting as the first frame of a link.
func (h *hood) greet(n *neighbour) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.greetLocked(n)
}

func (h *hood) greetLocked(n *neighbour) {
	g := wire.Greet{Lonely: h.core.Len() == 0, Self: h.d.store.local()}
	h.send(n, time.Now(), g.Append(nil))
}

// admit makes a stream that a peer opened a link, or says why not.
func (h *hood) admit(s transport.Stream, lonely bool) (*neighbour, link.Code) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return nil, link.CodeShutdown
	}
	answer, drop := h.core.Incoming(s.Peer(), lonely)
	switch answer {
	case overlay.Duplicate:
		return nil, link.CodeSuccess
	case overlay.Crowded:
		return nil, link.CodeOverloaded
	}
	if n := h.links[drop]; n != nil {
		h.retire(n)
	}
	n := h.d.newNeighbour(s, false)
	h.greetLocked(n)
	h.upLocked(n)
	return n, 0
}

// up makes a dialled stream a link, unless there is one that takes precedence.
func (h *hood) up(n *neighbour) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing || !h.core.Replaces(n.peer, true) {
		return false
	}
	n.compare = true // the dialler asks what was missed
	h.upLocked(n)
	return true
}

func (h *hood) upLocked(n *neighbour) {
	if old := h.links[n.peer]; old != nil {
		h.retire(old)
	}
	h.links[n.peer] = n
	h.core.Up(n.peer, n.dialled, time.Now())
	h.d.count.neighbours.set(len(h.links))
	h.wake()
}

// down forgets a link. It reports false if another has taken its place.
func (h *hood) down(n *neighbour, failed bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.links[n.peer] != n {
		return false
	}
	delete(h.links, n.peer)
	h.core.Down(n.peer, failed && !n.retired, time.Now())
	h.d.count.neighbours.set(len(h.links))
	h.wake()
	return true
}

// dialFailed takes note that no link came of a dial.
func (h *hood) dialFailed(p PeerID, err error) {
	h.d.unreached(p, err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.d.loopCtx.Err() == nil {
		h.d.log.Debug("no link", "peer", p.Short(), "err", err)
	}
	if link.CodeOf(err) == link.CodeSuccess {
		h.core.Unneeded(p, time.Now())
	} else {
		h.core.Failed(p, time.Now())
	}
	h.wake()
}

func (h *hood) sendTo(n *neighbour, body []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.send(n, time.Now(), body)
}

func (h *hood) compareWithLink(n *neighbour) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n.compare = true
	h.wake()
}
