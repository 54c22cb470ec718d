package p2p

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	yamuxlib "github.com/libp2p/go-yamux/v5"
)

// writeTimeout is how long a TCP connection may take for one frame of the multiplexer. It is long, since a slow line that
// is full makes no room for seconds; that a peer is gone is for the heartbeat to notice, which closes the connection.
const writeTimeout = time.Minute

// maxMessage is the longest frame of the multiplexer, with its header. The library's 64 KiB would cut the last bytes off a
// payload of 64 KiB that has headers in front, and they would travel by themselves.
const maxMessage = 66 << 10

// muxer is the stream multiplexer on TCP: yamux, with a note of when something last arrived.
type muxer struct{ yamux network.Multiplexer }

func newMuxer() network.Multiplexer {
	c := *yamux.DefaultTransport.Config()
	c.MaxMessageSize = maxMessage
	c.EnableKeepAlive = false // the control stream has one
	c.ConnectionWriteTimeout = writeTimeout
	t := yamux.Transport(yamuxlib.Config(c))
	return muxer{&t}
}

func (m muxer) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	e := &ear{Conn: c}
	e.heard.Store(clock())
	muxed, err := m.yamux.NewConn(e, isServer, scope)
	if err != nil {
		return nil, err
	}
	return muxedConn{muxed, e}, nil
}

type muxedConn struct {
	network.MuxedConn
	ear *ear
}

// As gives out the ear.
func (c muxedConn) As(target any) bool {
	if t, ok := target.(**ear); ok {
		*t = c.ear
		return true
	}
	return c.MuxedConn.As(target)
}

// ear notes when something arrives on a TCP connection, below the streams: a stream that is read says nothing about a
// peer while it waits for room to tell that it was read.
type ear struct {
	net.Conn
	heard atomic.Int64 // on the clock
}

func (e *ear) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if n > 0 {
		e.heard.Store(clock())
	}
	return n, err
}

// epoch makes monotonic times fit into 64 bits.
var epoch = time.Now()

// clock returns the time since the epoch, from the monotonic clock.
func clock() int64 { return int64(time.Since(epoch)) }

// onClock returns the time that the clock shows as t.
func onClock(t int64) time.Time { return epoch.Add(time.Duration(t)) }
