package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
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
)

// stream implements [transport.Stream].
type stream struct {
	conn     *conn
	raw      network.Stream
	protocol string

	header atomic.Bool // still to be sent, on a stream that this side opened; whoever clears it sends it
	once   sync.Once   // leaves the connection's count
}

// open opens a stream on this very connection.
func (c *conn) open(ctx context.Context, protocol string) (*stream, error) {
	if len(protocol) > headerMax {
		return nil, fmt.Errorf("protocol name of %d bytes", len(protocol))
	}
	raw, err := c.raw.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	s := &stream{conn: c, raw: raw, protocol: protocol}
	s.header.Store(true)
	c.streams.Add(1)
	return s, nil
}

func (s *stream) Peer() id.PeerID   { return s.conn.peer }
func (s *stream) Protocol() string  { return s.protocol }
func (s *stream) Transport() string { return s.conn.transport }

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.raw.Read(b)
	s.conn.host.meter.ingress.Add(float64(n))
	if err != nil && err != io.EOF {
		err = s.translate(err)
	}
	return n, err
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

// flushHeader sends the header of a stream that never wrote, so that the other side learns of it.
func (s *stream) flushHeader() {
	if s.header.CompareAndSwap(true, false) {
		s.raw.Write(s.headerBytes())
	}
}

func (s *stream) SetReadDeadline(t time.Time) error  { return s.raw.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.raw.SetWriteDeadline(t) }

func (s *stream) CloseWrite() error {
	s.flushHeader()
	return s.translate(s.raw.CloseWrite())
}

func (s *stream) Close() error {
	s.flushHeader()
	s.leave()
	return s.translate(s.raw.Close())
}

func (s *stream) Abort(code link.Code) error {
	s.leave()
	return s.raw.ResetWithError(network.StreamErrorCode(code))
}

func (s *stream) leave() { s.once.Do(func() { s.conn.streams.Add(-1) }) }

// translate gives an error of the library our form. When the connection is gone its reason is the better one.
func (s *stream) translate(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if typed := closeError(err); typed != err {
		return typed
	}
	if isTimeout(err) {
		return os.ErrDeadlineExceeded
	}
	if why := s.conn.why(); why != nil {
		return why
	}
	return err
}

// closeError finds the typed reason in an error of the library, or returns the error.
func closeError(err error) error {
	if c, ok := errors.AsType[*network.ConnError](err); ok && c.ErrorCode != 0 {
		return &link.CloseError{Code: link.Code(c.ErrorCode), Remote: c.Remote}
	}
	if s, ok := errors.AsType[*network.StreamError](err); ok {
		code := link.Code(s.ErrorCode)
		if code == 0 {
			code = link.CodeUnexpectedClose
		}
		return &link.CloseError{Code: code, Remote: s.Remote}
	}
	return err
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// incoming takes a stream that the other side opened. The library runs it in a goroutine of its own.
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
	if !c.admit() {
		raw.ResetWithError(network.StreamErrorCode(link.CodeOverloaded))
		h.meter.refuse("too many pending streams")
		return
	}
	protocol, err := readHeader(raw)
	if err == nil {
		err = raw.SetProtocol("mosaik") // leaves the scope of streams that are being set up
	}
	if err != nil {
		c.admitted()
		raw.ResetWithError(network.StreamErrorCode(link.CodeProtocolViolation))
		return
	}
	if protocol == controlProtocol {
		c.admitted()
		c.accept(raw)
		return
	}
	select {
	case <-c.ready:
		c.admitted()
	case <-c.gone:
		c.admitted()
	}
	h.mu.Lock()
	handler := h.handlers[protocol]
	h.mu.Unlock()
	if handler == nil || c.why() != nil {
		raw.ResetWithError(network.StreamErrorCode(link.CodeUnexpectedClose))
		return
	}
	c.streams.Add(1)
	handler(&stream{conn: c, raw: raw, protocol: protocol})
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
