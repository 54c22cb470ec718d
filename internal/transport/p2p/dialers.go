package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	tpt "github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The library dials QUIC a moment after TCP, and then takes what is ready first. On loopback and private addresses that is
// too simple in two ways, which the dialers here mend: a machine that is busy with the handshake over TCP needs longer than
// that moment, and an address where no process listens any more is waited for in vain.

// handshakePatience is how long QUIC waits for a handshake that is under way over TCP.
const handshakePatience = time.Second

// Times of looking whether anybody listens at an address: first when a dial is not over soon, then with growing pauses.
const (
	refusalFirst = 10 * time.Millisecond
	refusalMax   = 500 * time.Millisecond
)

// handshakes counts the dials over TCP that have a connection and work on its handshake, by peer.
type handshakes struct {
	mu   sync.Mutex
	with map[peer.ID]*handshakesWith
}

type handshakesWith struct {
	count int
	none  chan struct{} // closed when the last one is over
}

func newHandshakes() *handshakes { return &handshakes{with: make(map[peer.ID]*handshakesWith)} }

func (hs *handshakes) begin(p peer.ID) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	w := hs.with[p]
	if w == nil {
		w = &handshakesWith{none: make(chan struct{})}
		hs.with[p] = w
	}
	w.count++
}

func (hs *handshakes) end(p peer.ID) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	w := hs.with[p]
	if w.count--; w.count == 0 {
		delete(hs.with, p)
		close(w.none)
	}
}

// wait waits until no handshake with the peer is under way, but not for long.
func (hs *handshakes) wait(ctx context.Context, p peer.ID) error {
	hs.mu.Lock()
	w := hs.with[p]
	hs.mu.Unlock()
	if w == nil {
		return nil
	}
	timer := time.NewTimer(handshakePatience)
	defer timer.Stop()
	select {
	case <-w.none:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// tcpDialer is the library's TCP, which here says when a handshake is under way.
type tcpDialer struct {
	*tcp.TcpTransport
	handshakes *handshakes
}

func (t *tcpDialer) Dial(ctx context.Context, to ma.Multiaddr, p peer.ID) (tpt.CapableConn, error) {
	return t.DialWithUpdates(ctx, to, p, nil)
}

// DialWithUpdates dials, and tells the caller when a connection is there.
func (t *tcpDialer) DialWithUpdates(ctx context.Context, to ma.Multiaddr, p peer.ID, updates chan<- tpt.DialUpdate) (tpt.CapableConn, error) {
	connected, over := make(chan tpt.DialUpdate, 1), make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(over)
	wg.Go(func() {
		select {
		case u := <-connected:
			t.handshakes.begin(p)
			defer t.handshakes.end(p)
			select {
			case updates <- u:
			default: // the library does without
			}
			<-over
		case <-over:
		}
	})
	return t.TcpTransport.DialWithUpdates(ctx, to, p, connected)
}

// quicDialer is the library's QUIC, which here gives precedence to a handshake over TCP, and does not wait for who is not
// there.
type quicDialer struct {
	tpt.Transport
	handshakes *handshakes
}

func (t *quicDialer) Dial(ctx context.Context, to ma.Multiaddr, p peer.ID) (tpt.CapableConn, error) {
	if manet.IsPublicAddr(to) {
		return t.Transport.Dial(ctx, to, p)
	}
	if err := t.handshakes.wait(ctx, p); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if refused(ctx, to) {
			cancel(syscall.ECONNREFUSED)
		}
	})
	c, err := t.Transport.Dial(ctx, to, p)
	cancel(nil)
	wg.Wait()
	if err != nil && context.Cause(ctx) == syscall.ECONNREFUSED {
		err = fmt.Errorf("nobody listens: %w", syscall.ECONNREFUSED)
	}
	return c, err
}

// refused reports whether the machine at an address says that nobody listens there, as it does for TCP. A socket that sends
// to one address alone is told so, which those of QUIC are not; nodes ignore what it sends. It returns false when ctx ends.
func refused(ctx context.Context, to ma.Multiaddr) bool {
	timer := time.NewTimer(refusalFirst)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	network, addr, err := manet.DialArgs(to)
	if err != nil {
		return false
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for pause := 2 * refusalFirst; ctx.Err() == nil; pause = min(2*pause, refusalMax) {
		c.SetReadDeadline(time.Now().Add(pause))
		_, err := c.Write([]byte{0}) // no packet of QUIC begins so
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return true
		case !isTimeout(err):
			return false
		}
	}
	return false
}
