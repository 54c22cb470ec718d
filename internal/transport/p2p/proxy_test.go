package p2p

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// cable is a way to a host that can be cut: then nothing gets through, in either direction, and nobody is told.
type cable struct {
	addr id.PeerAddr // of the host, over the cable
	cut  atomic.Bool
	slow int          // bytes per second in each direction; zero: without limit
	late atomic.Int64 // nanoseconds by which what is sent over TCP arrives later

	closed chan struct{}
	wg     sync.WaitGroup
}

// lay lays a cable to a host that listens on one transport.
func lay(t *testing.T, to *host, bytesPerSecond int) *cable {
	t.Helper()
	c := &cable{slow: bytesPerSecond, closed: make(chan struct{})}
	target := socketOf(t, to.Addr())
	var own net.Addr
	var shut io.Closer
	if target.Network() == "tcp" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		own, shut = l.Addr(), l
		c.wg.Go(func() { c.serveTCP(l, target.String()) })
	} else {
		s, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		own, shut = s.LocalAddr(), s
		c.wg.Go(func() { c.serveUDP(s, target) })
	}
	t.Cleanup(func() {
		close(c.closed)
		shut.Close()
		c.wg.Wait()
	})
	m, err := manet.FromNetAddr(own)
	if err != nil {
		t.Fatal(err)
	}
	if own.Network() == "udp" {
		m = m.Encapsulate(ma.StringCast("/quic-v1"))
	}
	c.addr = id.PeerAddr{ID: to.ID(), Addrs: []string{m.String()}}
	return c
}

func (c *cable) serveTCP(l net.Listener, target string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", target)
		if err != nil {
			in.Close()
			continue
		}
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			c.wg.Go(func() {
				defer way[1].Close()
				c.carry(way[0], way[1])
			})
		}
		c.wg.Go(func() {
			<-c.closed
			in.Close()
			out.Close()
		})
	}
}

// carry copies one direction of a TCP connection.
func (c *cable) carry(from, to net.Conn) {
	speed := rate.NewLimiter(rate.Limit(c.slow), 16<<10)
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			if c.cut.Load() {
				<-c.closed // the news does not get through either
			}
			return
		}
		if c.slow > 0 {
			speed.WaitN(context.Background(), n)
		}
		if late := time.Duration(c.late.Load()); late > 0 {
			select {
			case <-time.After(late):
			case <-c.closed:
			}
		}
		if c.cut.Load() {
			<-c.closed
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// serveUDP carries the datagrams of one client.
func (c *cable) serveUDP(s net.PacketConn, target net.Addr) {
	var client atomic.Pointer[net.Addr]
	out, err := net.Dial("udp", target.String())
	if err != nil {
		return
	}
	c.wg.Go(func() {
		buf := make([]byte, 2<<10)
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			if to := client.Load(); to != nil && !c.cut.Load() {
				s.WriteTo(buf[:n], *to)
			}
		}
	})
	defer out.Close()
	buf := make([]byte, 2<<10)
	for {
		n, from, err := s.ReadFrom(buf)
		if err != nil {
			return
		}
		client.Store(&from)
		if !c.cut.Load() {
			out.Write(buf[:n])
		}
	}
}

// A cable that is cut, or a machine without power: no socket says anything, and both sides notice by the silence.
func TestCableCut(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		x, y := openHost(t, network, listen), openHost(t, network, listen)
		c := lay(t, x, 0)
		connectTo(t, y, c.addr)
		if err := ask(t.Context(), y, x.ID(), "before"); err != nil {
			t.Fatal(err)
		}
		seen := [2]*watched{watch(t, x), watch(t, y)}
		start := time.Now()
		c.cut.Store(true)
		for i, other := range []*host{y, x} {
			e := seen[i].wait(t, "the silence is reported", transport.Disconnected, other.ID(), link.CodeTimeout)
			took := e.at.Sub(start)
			t.Logf("side %d noticed after %v", i, took.Round(time.Millisecond))
			if took > transport.DefaultDeadAfter+slack || took < time.Second {
				t.Errorf("noticed after %v, want %v", took, transport.DefaultDeadAfter)
			}
		}
		x.Close()
		y.Close()
	})
}

// Each side has its own patience, and a hasty one is served by the other's answers.
func TestHeartbeatSettings(t *testing.T) {
	takesLong(t)
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		hasty := openHost(t, network, listen, func(c *transport.Config) {
			c.Heartbeat, c.DeadAfter = 200*time.Millisecond, 2*time.Second
		})
		calm := openHost(t, network, listen, func(c *transport.Config) {
			c.Heartbeat, c.DeadAfter = 4*time.Second, 8*time.Second
		})
		c := lay(t, calm, 0)
		connectTo(t, hasty, c.addr)
		seenHasty, seenCalm := watch(t, hasty), watch(t, calm)
		time.Sleep(3 * time.Second)
		if _, ok := seenHasty.find(transport.Disconnected, calm.ID(), 0); ok {
			t.Error("the hasty side gave up while the other answered")
		}
		start := time.Now()
		c.cut.Store(true)
		e := seenHasty.wait(t, "the hasty side gives up", transport.Disconnected, calm.ID(), link.CodeTimeout)
		if took := e.at.Sub(start); took > 2*time.Second+slack {
			t.Errorf("the hasty side gave up after %v", took)
		}
		e = seenCalm.wait(t, "the calm side gives up", transport.Disconnected, hasty.ID(), link.CodeTimeout)
		if took := e.at.Sub(start); took < 3*time.Second || took > 8*time.Second+slack {
			t.Errorf("the calm side gave up after %v", took)
		}
	})
	if _, err := New(transport.Config{Network: id.Random(), Key: keyOf("x"), Heartbeat: time.Second, DeadAfter: time.Second}); err == nil {
		t.Error("a heartbeat without time for an answer was accepted")
	}
}

// Over a slow line that is full of data pings come late or not at all. That is no reason to give up a peer whose data
// arrives.
func TestHeartbeatOnFullLine(t *testing.T) {
	takesLong(t)
	t.Parallel()
	network := id.Random()
	x, y := openHost(t, network, overTCP), openHost(t, network, overTCP)
	var got atomic.Int64
	for _, h := range []*host{x, y} {
		h.Handle("sink", func(s transport.Stream) {
			defer s.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := s.Read(buf)
				got.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	c := lay(t, x, 128<<10)
	connectTo(t, y, c.addr)
	seen := [2]*watched{watch(t, x), watch(t, y)}
	stop := time.Now().Add(2*transport.DefaultDeadAfter + 2*time.Second)
	var wg sync.WaitGroup
	for i, from := range []*host{x, y} {
		to := []*host{y, x}[i]
		for range 16 {
			s, err := from.Open(t.Context(), to.ID(), "sink")
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer s.Abort(link.CodeCancelled)
				for time.Now().Before(stop) {
					s.SetWriteDeadline(stop)
					if _, err := s.Write(make([]byte, 64<<10)); err != nil && !isTimeout(err) {
						t.Errorf("write: %v", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for i, other := range []*host{y, x} {
		if e, ok := seen[i].find(transport.Disconnected, other.ID(), 0); ok {
			t.Errorf("side %d gave up: %v", i, e.Code)
		}
	}
	rtt, _ := y.RTT(x.ID())
	t.Logf("%d KiB went through, the last round trip took %v", got.Load()>>10, rtt)
}
