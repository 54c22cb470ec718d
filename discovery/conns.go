package discovery

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// How a broken connection is judged. The transport gives a silent peer up after 6 s, so that a second attempt has to be
// short if a dead process shall be noticed within 7 s. A connection that broke all at once is no such strong evidence.
const (
	retrySilent = 500 * time.Millisecond
	retryBroken = 3 * time.Second
	maxRetries  = 64 // at a time; more wait

	// callBack is how long a peer has to dial this node when it cannot be dialled: it may be where only it can dial, and
	// have lost no more than this connection.
	callBack = 250 * time.Millisecond
)

// conns keeps track of which peers this node can reach. It hears of connections from the host, whose callbacks must not
// block; so they only leave a note, the latest for each peer.
type conns struct {
	kick  chan struct{} // capacity one: there are notes
	slots chan struct{} // a token for each attempt

	mu       sync.Mutex
	notes    map[PeerID]transport.Event
	attempts map[PeerID]*attempt
	refused  map[PeerID]bool // because of the network secret
}

// attempt is one to reach a peer again whose last connection ended. It says nothing any more as soon as there is news of a
// connection to that peer.
type attempt struct {
	ctx         context.Context
	stop        context.CancelFunc
	incarnation transport.Incarnation // of the peer's life that the connection was to
}

func newConns() *conns {
	return &conns{
		kick:  make(chan struct{}, 1),
		slots: make(chan struct{}, maxRetries),
		notes: make(map[PeerID]transport.Event),

		attempts: make(map[PeerID]*attempt),
		refused:  make(map[PeerID]bool),
	}
}

// begin makes an attempt to reach a peer, the only one that counts.
func (c *conns) begin(ctx context.Context, e transport.Event) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overtakeLocked(e.Peer)
	ctx, stop := context.WithCancel(ctx)
	a := &attempt{ctx, stop, e.Incarnation}
	c.attempts[e.Peer] = a
	return a
}

// end ends an attempt. If nothing has overtaken it, and there is a verdict, that is passed before anything else is noted.
func (c *conns) end(p PeerID, a *attempt, verdict func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.stop()
	if c.attempts[p] != a {
		return
	}
	delete(c.attempts, p)
	if verdict != nil {
		verdict()
	}
}

func (c *conns) overtakeLocked(p PeerID) {
	if a := c.attempts[p]; a != nil {
		a.stop()
		delete(c.attempts, p)
	}
}

// note remembers an event of the host.
func (c *conns) note(e transport.Event) {
	switch e.Kind {
	case transport.Connected, transport.Disconnected, transport.DuplicateIdentity:
	case transport.Refused:
		c.noteRefused(e)
		return
	default:
		return
	}
	c.mu.Lock()
	c.notes[e.Peer] = e
	c.overtakeLocked(e.Peer)
	c.mu.Unlock()
	c.wake()
}

func (c *conns) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *conns) take() map[PeerID]transport.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	notes := c.notes
	c.notes = make(map[PeerID]transport.Event)
	return notes
}

// runConns acts on what the host reports.
func (d *Discovery) runConns() {
	cancel := d.host.Watch(d.conns.note)
	defer cancel()
	for {
		select {
		case <-d.loopCtx.Done():
			return
		case <-d.conns.kick:
		}
		for p := range d.conns.takeRefused() {
			d.estrange(p)
		}
		for p, e := range d.conns.take() {
			switch e.Kind {
			case transport.Connected:
				d.connected(p)
			case transport.Disconnected:
				if patience := patienceFor(e.Code); patience > 0 && d.store.known(p) {
					a := d.conns.begin(d.loopCtx, e)
					d.loops.Go(func() { d.tryAgain(p, a, patience) })
				}
			case transport.DuplicateIdentity:
				d.duplicateReported(0)
			}
		}
	}
}

// patienceFor returns how long to try to reach a peer again whose last connection ended with the code; zero if that says
// nothing against it. A peer that shuts down says so itself, but that message may have been lost.
func patienceFor(code link.Code) time.Duration {
	switch code {
	case link.CodeTimeout:
		return retrySilent
	case link.CodeUnexpectedClose, link.CodeShutdown:
		return retryBroken
	default:
		return 0
	}
}

// connected takes note of a connection to a peer.
func (d *Discovery) connected(p PeerID) {
	d.estranged.forget(p)
	if d.store.find(p) {
		d.log.Info("peer reached again", "peer", p.Short())
		d.hood.hurry(p)
	}
	d.sample(p)
}

// tryAgain connects to a peer again, or takes note that it is lost.
func (d *Discovery) tryAgain(p PeerID, a *attempt, patience time.Duration) {
	var verdict func()
	defer func() { d.conns.end(p, a, verdict) }()
	select {
	case d.conns.slots <- struct{}{}:
		defer func() { <-d.conns.slots }()
	case <-a.ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, patience)
	defer cancel()
	grace := time.After(callBack)
	err := d.host.Connect(ctx, PeerAddr{ID: p})
	if err == nil || answered(err) {
		return
	}
	select {
	case <-grace:
	case <-a.ctx.Done():
		return
	}
	verdict = func() {
		if d.loopCtx.Err() == nil && !d.host.Connected(p) && d.store.lose(p, a.incarnation) {
			d.log.Info("peer lost", "peer", p.Short(), "err", err)
		}
	}
}

// unreached takes note of an attempt to connect to a peer that was not connected before. Failing proves little: the peer
// may be where only it can dial. But if it has also been silent for much longer than it should, it counts as lost.
func (d *Discovery) unreached(p PeerID, err error) {
	if !errors.Is(err, transport.ErrUnreachable) && !errors.Is(err, context.DeadlineExceeded) || answered(err) {
		return
	}
	quiet := stretch(d.cfg.announceEvery(d.store.size()), 3*(1+d.cfg.AnnounceJitter))
	if d.store.silence(p) > quiet && !d.host.Connected(p) && d.store.lose(p, 0) {
		d.log.Info("peer lost", "peer", p.Short(), "err", err)
	}
}

// answered reports whether a failed attempt to connect was turned down by the peer, which lives then.
func answered(err error) bool {
	closed, ok := errors.AsType[*link.CloseError](err)
	return ok && closed.Remote && closed.Code != link.CodeUnexpectedClose && closed.Code != link.CodeTimeout && closed.Code != link.CodeShutdown
}
