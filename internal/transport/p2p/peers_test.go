package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range addrsMax {
		many = append(many, fmt.Sprint("/", i))
	}
	for _, c := range []struct{ known, more, want []string }{
		{nil, []string{"/a"}, []string{"/a"}},
		{[]string{"/a", "/b"}, []string{"/c"}, []string{"/a", "/b", "/c"}},
		{[]string{"/a", "/b"}, []string{"/a"}, []string{"/b", "/a"}},
		{[]string{"/a"}, []string{"/b", "/b"}, []string{"/a", "/b"}},
		{many, []string{"/x", "/y"}, append(slices.Clone(many[2:]), "/x", "/y")},
		{[]string{"/old"}, many, many},
	} {
		before := slices.Clone(c.known)
		if got := merge(c.known, c.more); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v: got %v, want %v", c.known, c.more, got, c.want)
		}
		if !slices.Equal(c.known, before) {
			t.Errorf("%v was changed to %v", before, c.known)
		}
	}
}

// usable counts the connections between two hosts that one of them lists.
func usable(h *host, to id.PeerID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.peers[to]; st != nil {
		return len(st.usable)
	}
	return 0
}

// Two hosts that dial each other at the same time end up with one connection, the same on both sides, and no stream and
// no event tells of it.
func TestSimultaneousDials(t *testing.T) {
	takesLong(t)
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		type pair struct {
			hosts [2]*host
			seen  [2]*watched
		}
		var pairs []pair
		var wg sync.WaitGroup
		for range 10 {
			x, y := openHost(t, network, listen), openHost(t, network, listen)
			pairs = append(pairs, pair{[2]*host{x, y}, [2]*watched{watch(t, x), watch(t, y)}})
			for _, d := range [][2]*host{{x, y}, {y, x}} {
				d[0].Learn(d[1].Addr())
				wg.Go(func() {
					for i := range 10 {
						if err := ask(context.Background(), d[0], d[1].ID(), "hello"); err != nil {
							t.Errorf("exchange %d: %v", i, err)
							return
						}
					}
				})
			}
		}
		wg.Wait()
		twice := 0
		for _, p := range pairs {
			if usable(p.hosts[0], p.hosts[1].ID()) > 1 {
				twice++
			}
		}
		t.Logf("%d of %d pairs were connected twice", twice, len(pairs))
		// If the sides chose differently, none would be left soon.
		time.Sleep(2*duplicateGrace + 500*time.Millisecond)
		for _, p := range pairs {
			x, y := p.hosts[0], p.hosts[1]
			for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				here, there := usable(x, y.ID()), usable(y, x.ID())
				if here == 1 && there == 1 {
					break
				}
				if time.Since(start) > patience {
					t.Fatalf("the sides list %d and %d connections, want one; they saw %v and %v", here, there, p.seen[0].all(), p.seen[1].all())
				}
			}
			for i, other := range []*host{y, x} {
				if e, ok := p.seen[i].find(transport.Disconnected, other.ID(), 0); ok {
					t.Errorf("a side was disconnected: %v", e.Code)
				}
			}
		}
	})
}

// With two connections open, both sides use the one that was dialled last by the smaller identity.
func TestBestConnection(t *testing.T) {
	t.Parallel()
	h := &host{self: id.PeerID{5}}
	small, large := id.PeerID{1}, id.PeerID{9}
	for _, c := range []struct {
		name  string
		peer  id.PeerID
		conns []conn
		want  int
	}{
		{"the only one", small, []conn{{dialed: true, order: 1}}, 0},
		{"the peer is smaller", small, []conn{{dialed: true, order: 9}, {dialed: false, order: 1}}, 1},
		{"this side is smaller", large, []conn{{dialed: true, order: 1}, {dialed: false, order: 9}}, 0},
		{"the latest", small, []conn{{order: 1}, {order: 3}, {order: 2}}, 1},
		{"the latest of those that the smaller side dialled", large,
			[]conn{{dialed: true, order: 1}, {dialed: true, order: 2}, {dialed: false, order: 3}}, 1},
		{"the latest, if the smaller side dialled none", large, []conn{{order: 1}, {order: 2}}, 1},
	} {
		var st peerState
		for i := range c.conns {
			c.conns[i].host, c.conns[i].peer = h, c.peer
			st.usable = append(st.usable, &c.conns[i])
		}
		if got := slices.Index(st.usable, st.best()); got != c.want {
			t.Errorf("%s: connection %d, want %d", c.name, got, c.want)
		}
	}
	if new(peerState).best() != nil {
		t.Error("a connection out of nothing")
	}
}

// When there are more idle connections than are kept, those that were idle longest are closed, but neither those in use
// nor the protected ones.
func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	network := id.Random()
	h := openTuned(t, tuning{tendEvery: 20 * time.Millisecond, idleMax: 2, idleGrace: time.Second}, network, overTCP)
	running := make(chan struct{}, 1)
	h.Handle("wait", func(s transport.Stream) {
		defer s.Close()
		running <- struct{}{}
		s.Read(make([]byte, 1))
	})
	var peers []*host
	for range 6 {
		peers = append(peers, openHost(t, network, overTCP))
	}
	inUse, protected := peers[0], peers[1]
	h.Protect(protected.ID(), "test")
	connect(t, inUse, h)
	s, err := inUse.Open(t.Context(), h.ID(), "wait")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(nil); err != nil { // the header goes out, and the handler waits for more
		t.Fatal(err)
	}
	<-running
	for _, p := range peers[1:] {
		connectTo(t, p, h.Addr()) // some are closed again before all are there, if that takes long
	}
	var seen []*watched
	for _, p := range peers {
		seen = append(seen, watch(t, p))
	}
	eventually(t, "all but two idle connections are closed", func() bool { return len(h.Peers()) == 4 })
	time.Sleep(200 * time.Millisecond) // if more were closed than need be, it would be by now
	eventually(t, "four peers are left", func() bool { return len(h.Peers()) == 4 })
	for name, p := range map[string]*host{"in use": inUse, "protected": protected} {
		if !h.Connected(p.ID()) {
			t.Errorf("the connection that is %s was closed", name)
		}
	}
	for i, w := range seen {
		if e, ok := w.find(transport.Disconnected, h.ID(), 0); ok && e.Code != link.CodeUnneeded {
			t.Errorf("peer %d was told %v", i, e.Code)
		}
	}
	h.Unprotect(protected.ID(), "test")
	eventually(t, "one more is closed", func() bool { return len(h.Peers()) == 3 })
	if !h.Connected(inUse.ID()) {
		t.Error("the connection that is in use was closed")
	}
}

// What is remembered of peers is bounded, and those that matter are not forgotten.
func TestPeersAreForgotten(t *testing.T) {
	t.Parallel()
	network := id.Random()
	h, friend := openHost(t, network, overTCP), openHost(t, network, overTCP)
	connect(t, friend, h)
	kept := id.Of("protected")
	h.Protect(id.PeerID(kept), "test")
	for range peersMax + 1000 {
		h.Learn(id.PeerAddr{ID: id.PeerID(id.Random()), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}})
	}
	h.mu.Lock()
	n, protected := len(h.peers), h.peers[id.PeerID(kept)] != nil
	h.mu.Unlock()
	if n > peersMax || n < peersMax/2 {
		t.Errorf("%d peers are remembered, want at most %d", n, peersMax)
	}
	if !protected || !h.Connected(friend.ID()) {
		t.Error("a protected or connected peer was forgotten")
	}
}

// The memory of who is kept out is bounded too; the ban that would end first is given up.
func TestBansAreBounded(t *testing.T) {
	t.Parallel()
	h := openHost(t, id.Random(), overTCP)
	now := time.Now()
	first, last := id.PeerID(id.Random()), id.PeerID(id.Random())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.banLocked(first, now.Add(time.Hour))
	for range bansMax - 1 {
		h.banLocked(id.PeerID(id.Random()), now.Add(2*time.Hour))
	}
	h.banLocked(first, now.Add(time.Hour)) // again: needs no room
	if len(h.bans) != bansMax || !h.bannedLocked(first) {
		t.Fatalf("%d bans, want %d, the first among them", len(h.bans), bansMax)
	}
	h.banLocked(last, now.Add(2*time.Hour))
	if len(h.bans) != bansMax || h.bannedLocked(first) || !h.bannedLocked(last) {
		t.Errorf("%d bans, want %d, the last and not the first among them", len(h.bans), bansMax)
	}
}

// Strangers leave no trace in the library's books either.
func TestStrangersLeaveNoTrace(t *testing.T) {
	t.Parallel()
	v := newVictim(t, overTCP, "")
	for range 10 {
		foreign := openHost(t, id.Random(), overTCP)
		eventually(t, "it is refused", func() bool {
			err := foreign.Connect(t.Context(), v.Addr())
			if link.CodeOf(err) != link.CodeDifferentNetwork && !tooSlow(err) {
				t.Fatalf("got %v", err)
			}
			return !tooSlow(err)
		})
		foreign.Close()
	}
	eventually(t, "only members are left in the books", func() bool {
		v.mu.Lock()
		conns, peers := len(v.conns), len(v.peers)
		v.mu.Unlock()
		return conns == 1 && peers <= 2 && len(v.stack.swarm.Peerstore().PeersWithKeys()) <= 3
	})
}

// A watcher that is slow does not make the queue of events grow without end.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	h := openHost(t, id.Random(), overTCP)
	block := make(chan struct{})
	var calls atomic.Int32
	h.Watch(func(transport.Event) {
		<-block
		calls.Add(1)
	})
	h.mu.Lock()
	for range 3 * eventsMax {
		h.emitLocked(transport.Event{Kind: transport.Refused})
	}
	h.emitLocked(transport.Event{Kind: transport.Connected})
	n := len(h.events.queue)
	h.mu.Unlock()
	close(block)
	if n < eventsMax || n > eventsMax+1 {
		t.Errorf("%d events wait, want %d and the one that may not be lost", n, eventsMax)
	}
	eventually(t, "all that waited come through", func() bool { return int(calls.Load()) >= n })
}

// The metrics have the documented names, and several hosts of one network can share a registerer.
func TestMetrics(t *testing.T) {
	t.Parallel()
	network, registry := id.Random(), prometheus.NewRegistry()
	with := func(c *transport.Config) { c.Metrics = registry }
	x, y := openHost(t, network, overTCP, with), openHost(t, network, overTCP, with)
	connect(t, x, y)
	if err := ask(t.Context(), x, y.ID(), "hello"); err != nil {
		t.Fatal(err)
	}
	foreign := openHost(t, id.Random(), overTCP, with)
	foreign.Connect(t.Context(), x.Addr())
	want := []string{
		"mosaik_network_connections", "mosaik_network_connections_closed", "mosaik_network_connections_opened",
		"mosaik_network_egress_bytes", "mosaik_network_ingress_bytes", "mosaik_network_refused", "mosaik_network_rtt_seconds",
	}
	families, err := registry.Gather()
	for deadline := time.Now().Add(patience); err == nil && len(families) < len(want) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the refusal is counted a moment after it is known
		families, err = registry.Gather()
	}
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		got = append(got, f.GetName())
		for _, m := range f.GetMetric() {
			short := ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "network" {
					short = l.GetValue()
				}
			}
			if short != network.Short() && short != foreign.cfg.Network.Short() {
				t.Errorf("%s has the label network=%q", f.GetName(), short)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("metrics are\n%s, want\n%s", strings.Join(got, " "), strings.Join(want, " "))
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	network := id.Random()
	x, y := openHost(t, network, overTCP), openHost(t, network, overTCP)
	connect(t, x, y)
	for _, bad := range []string{"", controlProtocol, strings.Repeat("x", headerMax+1)} {
		if _, err := x.Open(t.Context(), y.ID(), bad); err == nil {
			t.Errorf("a stream of protocol %q was opened", bad)
		}
	}
	if !x.Connected(y.ID()) {
		t.Error("a bad name closed the connection")
	}
	if err := ask(t.Context(), x, y.ID(), "hello"); err != nil {
		t.Error(err)
	}
}

// Beyond the limit of a peer's streams the next one is refused with a reason, or waits. The connection is none the worse.
func TestTooManyStreams(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		x, y := openHost(t, network, listen), openHost(t, network, listen)
		connect(t, x, y)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var streams []transport.Stream
		for range maxStreamsIn - 1 { // and the control stream
			s, err := x.Open(ctx, y.ID(), "echo")
			if err != nil {
				t.Fatalf("stream %d: %v", len(streams), err)
			}
			s.SetReadDeadline(time.Now().Add(patience))
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatalf("stream %d: %v", len(streams), err)
			}
			if _, err := s.Read(make([]byte, 1)); err != nil {
				t.Fatalf("stream %d: %v", len(streams), err)
			}
			streams = append(streams, s)
		}
		wait := patience
		if listen == overQUIC {
			wait = time.Second // it waits until there is room
		}
		short, cancelShort := context.WithTimeout(t.Context(), wait)
		defer cancelShort()
		s, err := x.Open(short, y.ID(), "echo")
		if err == nil {
			defer s.Close()
			s.Write([]byte("x"))
			s.SetReadDeadline(time.Now().Add(patience))
			_, err = s.Read(make([]byte, 1))
		}
		if listen == overTCP && link.CodeOf(err) != link.CodeOverloaded || listen == overQUIC && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one stream too many: got %v", err)
		}
		for _, s := range streams {
			s.Close()
		}
		eventually(t, "there is room again", func() bool { return ask(t.Context(), x, y.ID(), "hello") == nil })
		if len(x.Peers()) != 1 {
			t.Error("the connection was lost")
		}
	})
}

// The library's own codes are not ours.
func TestLibraryCodes(t *testing.T) {
	t.Parallel()
	for from, want := range map[error]link.Code{
		&network.ConnError{ErrorCode: network.ConnErrorCode(link.CodeBanned)}: link.CodeBanned,
		&network.ConnError{ErrorCode: network.ConnResourceLimitExceeded}:      link.CodeOverloaded,
		&network.ConnError{ErrorCode: network.ConnRateLimited}:                link.CodeOverloaded,
		&network.ConnError{ErrorCode: network.ConnProtocolViolation}:          link.CodeProtocolViolation,
		&network.ConnError{ErrorCode: network.ConnSupplanted}:                 link.CodeSupplanted,
		&network.ConnError{ErrorCode: network.ConnGarbageCollected}:           link.CodeUnneeded,
		&network.ConnError{ErrorCode: network.ConnShutdown}:                   link.CodeShutdown,
		&network.ConnError{ErrorCode: network.ConnGated}:                      link.CodeBanned,
		&network.StreamError{}: link.CodeUnexpectedClose,
		&network.StreamError{ErrorCode: network.StreamErrorCode(link.CodeStreamTooSlow)}: link.CodeStreamTooSlow,
		&network.StreamError{ErrorCode: network.StreamResourceLimitExceeded}:             link.CodeOverloaded,
		&network.StreamError{ErrorCode: network.StreamRateLimited}:                       link.CodeOverloaded,
		&network.StreamError{ErrorCode: network.StreamProtocolViolation}:                 link.CodeProtocolViolation,
		&network.StreamError{ErrorCode: network.StreamSupplanted}:                        link.CodeSupplanted,
		&network.StreamError{ErrorCode: network.StreamGarbageCollected}:                  link.CodeUnneeded,
		&network.StreamError{ErrorCode: network.StreamShutdown}:                          link.CodeShutdown,
		&network.StreamError{ErrorCode: network.StreamGated}:                             link.CodeBanned,
		&network.ConnError{}: link.CodeUnexpectedClose,
		io.EOF:               link.CodeUnexpectedClose,
	} {
		if got := link.CodeOf(closeError(fmt.Errorf("wrapped: %w", from))); got != want {
			t.Errorf("%v is %v, want %v", from, got, want)
		}
	}
}
