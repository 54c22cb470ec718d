package p2p

import (
	"context"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
)

const (
	maxRecord  = 16 << 10           // bytes that one record of TLS carries
	gatherSize = maxMessage + 2<<10 // the multiplexer's longest frame as records, short ones, too
)

// gathering is a secure transport whose connections write what one Write makes in one system call. By itself crypto/tls
// makes one for each record.
type gathering struct{ sec.SecureTransport }

func (t gathering) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	return gatherUnder(insecure, func(c net.Conn) (sec.SecureConn, error) { return t.SecureTransport.SecureInbound(ctx, c, p) })
}

func (t gathering) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	return gatherUnder(insecure, func(c net.Conn) (sec.SecureConn, error) { return t.SecureTransport.SecureOutbound(ctx, c, p) })
}

func gatherUnder(insecure net.Conn, secure func(net.Conn) (sec.SecureConn, error)) (sec.SecureConn, error) {
	raw := &gatherer{Conn: insecure}
	c, err := secure(raw)
	if err != nil {
		return nil, err
	}
	return &gatheredConn{SecureConn: c, raw: raw}, nil
}

// gatheredConn is a secure connection that stands on a gatherer.
type gatheredConn struct {
	sec.SecureConn
	raw     *gatherer
	writing sync.Mutex // held during Write and Close
}

// Write writes b. It returns once all of it was handed to the socket. When that fails it is not known how much was, and no
// later Write succeeds.
func (c *gatheredConn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if len(b) <= maxRecord {
		return c.SecureConn.Write(b)
	}
	c.raw.gather()
	n, err := c.SecureConn.Write(b)
	if failed := c.raw.release(); failed != nil {
		return 0, failed
	}
	return n, err
}

// Close closes the connection. TLS says goodbye first, but not if a Write is under way, which might be stuck: as in
// crypto/tls, that is then cut off.
func (c *gatheredConn) Close() error {
	if !c.writing.TryLock() {
		return c.raw.Conn.Close()
	}
	defer c.writing.Unlock()
	return c.SecureConn.Close()
}

// gatherer is the connection below TLS. Between gather and release it collects what is written; at other times, as in the
// handshake, it passes everything on at once.
type gatherer struct {
	net.Conn

	mu  sync.Mutex // held while writing; guards all following fields
	buf *[]byte    // collected; from the pool, nil while not gathering
	err error      // why collected bytes were not written: what would follow them makes no sense
}

var gatherBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, gatherSize)
	return &b
}}

func (g *gatherer) gather() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.buf = gatherBuffers.Get().(*[]byte)
}

// release writes what was collected. It returns why collected bytes were not written, now or earlier.
func (g *gatherer) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flush()
	gatherBuffers.Put(g.buf)
	g.buf = nil
	return g.err
}

// flush writes what was collected, unless that failed before.
func (g *gatherer) flush() {
	if len(*g.buf) > 0 && g.err == nil {
		_, g.err = g.Conn.Write(*g.buf)
	}
	*g.buf = (*g.buf)[:0]
}

func (g *gatherer) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.buf != nil && len(*g.buf)+len(b) > gatherSize {
		g.flush()
	}
	switch {
	case g.err != nil:
		return 0, g.err
	case g.buf == nil || len(b) > gatherSize:
		return g.Conn.Write(b)
	}
	*g.buf = append(*g.buf, b...)
	return len(b), nil
}
