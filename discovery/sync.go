package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// protocolSync is the protocol of comparisons, and of notices to peers that are not neighbours.
const protocolSync = "discovery/sync/1"

// Limits of comparisons.
const (
	syncTimeout  = 30 * time.Second
	syncBytes    = 16 << 20 // that one side reads; more is a violation
	syncSend     = 8 << 20  // of updates that one side sends; the rest goes into another exchange
	syncRounds   = 16       // exchanges in a row with one peer
	syncsServed  = 16       // at a time; more wait
	syncPatience = 5 * time.Second
)

// ErrSelf reports an attempt to reach the node itself.
var ErrSelf = errors.New("discovery: the peer is this node")

// errUnfinished reports that two catalogs differ by more than one comparison may move. What was moved stays.
var errUnfinished = errors.New("the catalogs differ by too much")

// syncs bounds the comparisons that go on.
type syncs struct {
	serving chan struct{} // a token for each that is served

	mu     sync.Mutex // guards all following fields
	asking map[PeerID]chan struct{}
	served map[PeerID]bool
	last   SyncStatus
}

func newSyncs() *syncs {
	return &syncs{
		serving: make(chan struct{}, syncsServed),
		asking:  make(map[PeerID]chan struct{}),
		served:  make(map[PeerID]bool),
	}
}

// ask waits until no other comparison with the peer that this node began goes on.
func (s *syncs) ask(ctx context.Context, p PeerID) (done func(), err error) {
	for {
		s.mu.Lock()
		busy := s.asking[p]
		if busy == nil {
			end := make(chan struct{})
			s.asking[p] = end
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.asking, p)
				s.mu.Unlock()
				close(end)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// serve waits for a place to serve the peer. It fails if the peer is being served already, or when none becomes free.
func (s *syncs) serve(ctx context.Context, p PeerID) (done func(), ok bool) {
	s.mu.Lock()
	if s.served[p] {
		s.mu.Unlock()
		return nil, false
	}
	s.served[p] = true
	s.mu.Unlock()
	forget := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.served, p)
	}
	patience := time.NewTimer(syncPatience)
	defer patience.Stop()
	select {
	case s.serving <- struct{}{}:
		return func() { <-s.serving; forget() }, true
	case <-patience.C:
	case <-ctx.Done():
	}
	forget()
	return nil, false
}

// Dial tells this node of peers: their addresses are remembered, each is connected to and asked for what it knows. It
// returns when all have answered or failed, or ctx ends; the error joins the failures. Peers that could not be reached are
// tried again, with growing pauses, as long as they are not in the catalog. Eight are reached at a time. Also
// without a deadline in ctx an attempt to connect ends after about 10 s, and an exchange after 30 s.
func (d *Discovery) Dial(ctx context.Context, peers ...PeerAddr) error {
	if d.closed() {
		return ErrClosed
	}
	errs := make([]error, len(peers))
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxContacts)
	for i, a := range peers {
		if a.ID == d.self {
			continue
		}
		slots <- struct{}{}
		d.hood.claim(a)
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = d.reach(ctx, a)
			d.hood.reached(a.ID, errs[i])
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// SyncWith compares catalogs with one peer and exchanges what differs, in both directions. When it returns nil both
// catalogs show everything that the other had. Without addresses the peer is reached by what this node already knows. It
// waits while another comparison with the peer goes on. The node itself fails with [ErrSelf].
func (d *Discovery) SyncWith(ctx context.Context, peer PeerAddr) error {
	switch {
	case d.closed():
		return ErrClosed
	case peer.ID == d.self:
		return ErrSelf
	}
	return d.reach(ctx, peer)
}

// reach connects to a peer and compares catalogs.
func (d *Discovery) reach(ctx context.Context, a PeerAddr) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.loopCtx, cancel)()
	if len(a.Addrs) > 0 {
		d.host.Learn(a)
	}
	if err := d.host.Connect(ctx, a); err != nil {
		return fmt.Errorf("discovery: reach %s: %w", a.ID.Short(), err)
	}
	return d.compareWith(ctx, a.ID)
}

// reachOut tries to reach a contact.
func (d *Discovery) reachOut(a PeerAddr) {
	ctx, cancel := context.WithTimeout(d.loopCtx, 2*dialTimeout)
	defer cancel()
	err := d.reach(ctx, a)
	if err != nil && d.loopCtx.Err() == nil {
		d.log.Debug("contact not reached", "peer", a.ID.Short(), "err", err)
	}
	d.hood.reached(a.ID, err)
	if d.shelf != nil {
		d.shelf.reached(a.ID, err)
	}
}

// compareWith compares catalogs with a peer, as the side that asks.
func (d *Discovery) compareWith(ctx context.Context, p PeerID) error {
	done, err := d.syncs.ask(ctx, p)
	if err != nil {
		return fmt.Errorf("discovery: sync with %s: %w", p.Short(), err)
	}
	defer done()
	status := SyncStatus{Peer: p, At: time.Now()}
	again := true
	for round := 1; ; round++ {
		x, err := d.exchangeWith(ctx, p)
		if again && x != nil && broke(err) && ctx.Err() == nil {
			again = false // the connection was from before the peer restarted, for example; the next one is new
			continue
		}
		if x != nil {
			status.Sent += x.sent
			status.Received += x.received
			if err == nil && x.more && round == syncRounds {
				err = errUnfinished
			}
		}
		if status.Err = err; err != nil || !x.more {
			break
		}
	}
	status.Took = time.Since(status.At)
	d.syncs.note(status)
	if status.Err != nil {
		d.count.syncsFailed.Inc()
		return fmt.Errorf("discovery: sync with %s: %w", p.Short(), status.Err)
	}
	d.count.syncs.Inc()
	d.log.Debug("catalogs compared", "peer", p.Short(), "sent", status.Sent, "received", status.Received, "took", status.Took)
	return nil
}

// broke reports whether an exchange ended because its connection did, and not because of what a side said.
func broke(err error) bool {
	_, isViolation := errors.AsType[*errViolation](err)
	if err == nil || isViolation || errors.Is(err, wire.ErrBadSignature) || isTimeout(err) {
		return false
	}
	code := link.CodeOf(err)
	return code == link.CodeUnexpectedClose || code == link.CodeSupplanted
}

func (s *syncs) note(status SyncStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = status
}

func (d *Discovery) exchangeWith(ctx context.Context, p PeerID) (*exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	s, err := d.host.Open(ctx, p, protocolSync)
	if err != nil {
		return nil, err
	}
	if !d.enter(s) {
		if !d.closed() {
			return nil, &link.CloseError{Code: link.CodeOverloaded}
		}
		return nil, ErrClosed
	}
	defer d.leave(s)
	defer context.AfterFunc(ctx, func() { s.Abort(link.CodeCancelled) })()
	x := d.newExchange(s)
	return x, d.finish(ctx, x, x.ask(ctx))
}

// finish ends the stream of an exchange. An exchange that has run to its end is a success, whatever closing says: the
// other side may have closed the stream first.
func (d *Discovery) finish(ctx context.Context, x *exchange, err error) error {
	d.store.flush()
	if err == nil {
		x.w.Close(ctx)
		x.stream.Close()
		return nil
	}
	d.fail(x.stream, err)
	x.w.Abort(link.CodeOf(err))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// serveSync handles a comparison or a notice that a peer began.
func (d *Discovery) serveSync(s transport.Stream) {
	if !d.enter(s) {
		return
	}
	defer d.leave(s)
	if !d.conduct.mayAsk(s.Peer(), time.Now()) {
		d.store.refuse("overloaded")
		s.Abort(link.CodeOverloaded)
		return
	}
	done, ok := d.syncs.serve(d.loopCtx, s.Peer())
	if !ok {
		d.store.refuse("overloaded")
		s.Abort(link.CodeOverloaded)
		return
	}
	defer done()
	ctx, cancel := context.WithTimeout(d.loopCtx, syncTimeout)
	defer cancel()
	x := d.newExchange(s)
	d.finish(ctx, x, x.serve(ctx))
}
