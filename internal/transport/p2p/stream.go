package p2p

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// A stream starts with a header that names its protocol: one byte for the length of the name, and the name. It travels
// with the first bytes that the opener writes.
const (
	headerMax     = 255
	headerTimeout = 5 * time.Second
	maxEarly      = 32 // incoming streams of a connection that may wait for its hello

	// scopeProtocol is the one protocol that the library's accounting knows; naming it takes a stream off the count of those
	// that are being set up.
	scopeProtocol = "mosaik"
)

// stream implements [transport.Stream].
type stream struct {
	conn     *conn
	raw      network.Stream
	protocol string

	header atomic.Bool // still to be sent, on a stream that this side opened; whoever clears it sends it
	over   atomic.Bool // Close or Abort was called
}

// open opens a stream on this very connection.
func (c *conn) open(ctx context.Context, protocol string) (*stream, error) {
	c.enter()
	raw, err := c.raw.NewStream(ctx)
	if err != nil {
		c.leave()
		return nil, err
	}
	s := &stream{conn: c, raw: raw, protocol: protocol}
	s.header.Store(true)
	if err := raw.SetProtocol(scopeProtocol); err != nil {
		s.Abort(link.CodeOverloaded)
		return nil, err
	}
	return s, nil
}

func (s *stream) Peer() id.PeerID   { return s.conn.peer }
func (s *stream) Protocol() string  { return s.protocol }
func (s *stream) Transport() string { return s.conn.transport }

// Read returns errors only without data. The library may return both, for example when it cannot tell the other side any
// more that there is room again, and what arrived before is not to be lost for that.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.raw.Read(b)
	if n > 0 {
		s.conn.host.meter.ingress.Add(float64(n))
		return n, nil
	}
	return 0, s.translate(err)
}

func (s *stream) Write(b []byte) (int, error) {
	if s.header.Load() && s.header.CompareAndSwap(true, false) {
		h := s.headerBytes()
		n, err := s.raw.Write(append(h, b...))
		n = max(0, n-len(h))
		s.conn.host.meter.egress.Add(float64(n))
		return n, s.translate(err)
	}
	n, err := s.raw.Write(b)
	s.conn.host.meter.egress.Add(float64(n))
	return n, s.translate(err)
}

func (s *stream) headerBytes() []byte {
	return append([]byte{byte(len(s.protocol))}, s.protocol...)
}

func (s *stream) SetReadDeadline(t time.Time) error  { return s.raw.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.raw.SetWriteDeadline(t) }

func (s *stream) CloseWrite() error {
	if s.header.CompareAndSwap(true, false) {
		if _, err := s.raw.Write(s.headerBytes()); err != nil {
			return s.translate(err)
		}
	}
	return s.translate(s.raw.CloseWrite())
}

func (s *stream) Close() error {
	if !s.leave() {
		return nil
	}
	if s.header.CompareAndSwap(true, false) {
		return s.raw.Reset() // the other side does not know of it yet
	}
	return s.translate(s.raw.Close())
}

func (s *stream) Abort(code link.Code) error {
	s.leave()
	return s.raw.ResetWithError(network.StreamErrorCode(code))
}

// leave takes the stream off the connection's count. It reports false if it was called before.
func (s *stream) leave() bool {
	first := s.over.CompareAndSwap(false, true)
	if first {
		s.conn.leave()
	}
	return first
}

// incoming takes a stream that the other side opened. The library runs it in a goroutine of its own, and bounds how many
// there are of one peer.
func (h *host) incoming(raw network.Stream) {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		raw.ResetWithError(network.StreamErrorCode(link.CodeShutdown))
		return
	}
	h.wg.Add(1)
	h.mu.Unlock()
	defer h.wg.Done()

	c := h.connOf(raw.Conn())
	s, why := c.receive(raw)
	if why != nil {
		h.meter.refuse(why)
		raw.ResetWithError(network.StreamErrorCode(why.Code))
		return
	}
	if s == nil {
		return // it was the control stream
	}
	h.mu.Lock()
	handler := h.handlers[s.protocol]
	h.mu.Unlock()
	if handler == nil {
		h.meter.refuse(&link.CloseError{Code: link.CodeUnknownProtocol})
		raw.ResetWithError(network.StreamErrorCode(link.CodeUnknownProtocol))
		return
	}
	c.enter()
	handler(s)
}

// receive reads the header of an incoming stream and waits for the hello. It serves the control stream itself, and then
// returns neither a stream nor a reason to refuse it.
func (c *conn) receive(raw network.Stream) (*stream, *link.CloseError) {
	select {
	case <-c.ready:
	default:
		defer c.early.Add(-1)
		if c.early.Add(1) > maxEarly {
			return nil, &link.CloseError{Code: link.CodeOverloaded}
		}
	}
	protocol, err := readHeader(raw)
	switch {
	case isTimeout(err):
		return nil, &link.CloseError{Code: link.CodeTimeout}
	case err != nil:
		return nil, &link.CloseError{Code: link.CodeProtocolViolation}
	case protocol == controlProtocol:
		c.accept(raw)
		return nil, nil
	}
	<-c.ready
	if why := c.why(); why != nil {
		return nil, &link.CloseError{Code: why.Code}
	}
	if err := raw.SetProtocol(scopeProtocol); err != nil {
		return nil, &link.CloseError{Code: link.CodeOverloaded}
	}
	return &stream{conn: c, raw: raw, protocol: protocol}, nil
}

func readHeader(raw network.Stream) (string, error) {
	raw.SetReadDeadline(time.Now().Add(headerTimeout))
	defer raw.SetReadDeadline(time.Time{})
	var size [1]byte
	if _, err := io.ReadFull(raw, size[:]); err != nil {
		return "", err
	}
	name := make([]byte, size[0])
	if _, err := io.ReadFull(raw, name); err != nil {
		return "", err
	}
	return string(name), nil
}
