package p2p

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// atOnce tells what needs no timeout from what ends with the one of local dials. A busy machine may need more for a try, but
// not for every one.
const atOnce = dialTimeoutLocal - 500*time.Millisecond

// A machine on which nobody listens says so, over TCP and for QUIC.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"", overTCP, overQUIC} {
		network := id.Random()
		from, gone := openHost(t, network, listen), openHost(t, network, listen)
		addr := gone.Addr()
		gone.Close()
		eventually(t, "a refusal at once", func() bool {
			start := time.Now()
			if err := from.Connect(t.Context(), addr); !errors.Is(err, transport.ErrUnreachable) {
				t.Fatalf("%v: %v", addr, err)
			}
			return time.Since(start) < atOnce
		})
	}
}

// Whoever waits for a dial that gets nowhere has a connection as soon as the peer dials.
func TestPeerDialsMeanwhile(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	m, err := manet.FromNetAddr(silent.Addr())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a connection in time", func() bool {
		network := id.Random()
		h, peer := openHost(t, network, overTCP), openHost(t, network, overTCP)
		defer h.Close()
		defer peer.Close()
		failed := make(chan error, 1)
		start := time.Now()
		go func() { failed <- h.Connect(t.Context(), id.PeerAddr{ID: peer.ID(), Addrs: []string{m.String()}}) }()
		c, err := silent.Accept() // it has begun
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		connectTo(t, peer, h.Addr())
		if err := <-failed; err != nil || time.Since(start) > atOnce {
			t.Logf("after %v: %v", time.Since(start), err)
			return false
		}
		if err := ask(t.Context(), h, peer.ID(), "hello"); err != nil {
			t.Error(err)
		}
		return true
	})
}

// TCP is used although its handshake takes longer than its head start, and QUIC when nothing comes of the handshake.
func TestSlowHandshake(t *testing.T) {
	t.Parallel()
	for want, late := range map[string]time.Duration{"tcp": 100 * time.Millisecond, "quic": time.Minute} {
		network := id.Random()
		to := openHost(t, network, "")
		addr := to.Addr()
		var quic string
		for _, a := range addr.Addrs {
			if strings.Contains(a, "quic") {
				quic = a
			}
		}
		// A machine may be so busy that the handshake takes longer than it may.
		eventually(t, "a stream over "+want, func() bool {
			from := openHost(t, network, "")
			defer from.Close()
			slow := lay(t, to, 0)
			slow.late.Store(int64(late))
			slow.addr.Addrs = append(slow.addr.Addrs, quic)
			connectTo(t, from, slow.addr)
			s, err := from.Open(t.Context(), to.ID(), "echo")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			return s.Transport() == want
		})
	}
}
