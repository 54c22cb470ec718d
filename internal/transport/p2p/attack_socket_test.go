package p2p

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/mosaik-go/mosaik/id"
)

// socketOf returns the plain address of a host.
func socketOf(t *testing.T, a id.PeerAddr) net.Addr {
	t.Helper()
	m, err := ma.NewMultiaddr(strings.TrimSuffix(a.Addrs[0], "/quic-v1"))
	if err != nil {
		t.Fatal(err)
	}
	addr, err := manet.ToNetAddr(m)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// TCP connections that never finish their handshake: silent ones, ones that say nonsense, and ones that stop in the
// middle of TLS. All are closed in time, and cost little until then.
func TestHandshakesNeverFinished(t *testing.T) {
	t.Parallel()
	network := id.Random()
	c := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: overTCP})
	honest := openHost(t, network, overTCP)
	connectTo(t, honest, c.addr)
	before, _ := c.memory()
	addr := socketOf(t, c.addr).String()
	start := time.Now()
	const hello = "\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n"
	record := append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, make([]byte, 40)...) // a ClientHello that goes on
	var conns []net.Conn
	for i := range 500 {
		s, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer s.Close()
		switch i % 4 {
		case 0: // says nothing
		case 1:
			garbage := make([]byte, 200)
			rand.Read(garbage)
			s.Write(garbage)
		case 2:
			s.Write([]byte(hello))
		case 3:
			s.Write(append([]byte(hello), record...))
		}
		conns = append(conns, s)
	}
	during, goroutines := c.memory()
	if err := ask(t.Context(), honest, c.addr.ID, "during"); err != nil {
		t.Errorf("the honest peer: %v", err)
	}
	newcomer := openHost(t, network, overTCP)
	connectTo(t, newcomer, c.addr)
	var wg sync.WaitGroup
	for i, s := range conns {
		wg.Go(func() {
			s.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, s); err != nil && isTimeout(err) {
				t.Errorf("connection %d of kind %d was not closed", i, i%4)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took > acceptTimeout+slack {
		t.Errorf("the last was closed after %v, want %v", took, acceptTimeout)
	}
	after, left := c.calm()
	t.Logf("500 connections: memory %d KiB, then %+d KiB and %d goroutines, then %+d KiB and %d", before>>10,
		(during-before)>>10, goroutines, (after-before)>>10, left)
	if grown := during - before; grown > 32<<20 {
		t.Errorf("the attack took %d KiB of memory", grown>>10)
	}
}

// More connections than one place may have: those beyond the limit are not let in, old peers do not notice, and new ones
// get in when the time of the others is up.
func TestMoreConnectionsThanAllowed(t *testing.T) {
	takesLong(t)
	t.Parallel()
	network := id.Random()
	c := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: overTCP})
	honest := openHost(t, network, overTCP)
	connectTo(t, honest, c.addr)
	addr := socketOf(t, c.addr).String()
	const attempts = maxConnsLocal + 500
	var conns []net.Conn
	for range attempts {
		s, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		conns = append(conns, s)
	}
	if err := ask(t.Context(), honest, c.addr.ID, "during"); err != nil {
		t.Errorf("the honest peer: %v", err)
	}
	_, goroutines := c.memory()
	for _, s := range conns {
		s.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, s); err != nil && isTimeout(err) {
			t.Error("a connection was not closed")
		}
	}
	t.Logf("%d connections made %d goroutines", attempts, goroutines)
	if goroutines > 2*maxConnsLocal+150 { // there are two for each that is let in
		t.Errorf("%d connections made %d goroutines, want %d let in at most", attempts, goroutines, maxConnsLocal)
	}
	newcomer := openHost(t, network, overTCP)
	connectTo(t, newcomer, c.addr)
	if err := ask(t.Context(), honest, c.addr.ID, "after"); err != nil {
		t.Errorf("the honest peer: %v", err)
	}
}

// Datagrams that are no QUIC, or the start of connections that never go on.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	network := id.Random()
	c := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: overQUIC})
	honest := openHost(t, network, overQUIC)
	connectTo(t, honest, c.addr)
	before, _ := c.memory()
	s, err := net.Dial("udp", socketOf(t, c.addr).String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	packet := make([]byte, 1200)
	for i := range 5000 {
		rand.Read(packet)
		switch i % 3 {
		case 0: // the long header of an Initial packet of version 1, random otherwise
			copy(packet, []byte{0xc3, 0, 0, 0, 1, 8})
		case 1: // the short header of a packet of no connection
			packet[0] = 0x40
		}
		if _, err := s.Write(packet); err != nil && !errors.Is(err, net.ErrClosed) {
			continue // the socket is full; that is the attacker's concern
		}
	}
	if err := ask(t.Context(), honest, c.addr.ID, "after"); err != nil {
		t.Errorf("the honest peer: %v", err)
	}
	newcomer := openHost(t, network, overQUIC)
	connectTo(t, newcomer, c.addr)
	during, goroutines := c.memory()
	t.Logf("memory %d KiB, then %+d KiB and %d goroutines", before>>10, (during-before)>>10, goroutines)
	if grown := during - before; grown > 32<<20 {
		t.Errorf("the attack took %d KiB of memory", grown>>10)
	}
}
