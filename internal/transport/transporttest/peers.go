package transporttest

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

func testIdentity(t *testing.T, b *bench) {
	key := b.newKey()
	before := time.Now().UnixMilli()
	h := b.host(withKey(key))
	if h.ID() != id.PeerIDOf(key) {
		t.Errorf("ID is %v, want %v", h.ID(), id.PeerIDOf(key))
	}
	if got := int64(h.Incarnation()); got < before || got > time.Now().UnixMilli()+1000 {
		t.Errorf("incarnation %d is not the time of opening, %d ms", got, before)
	}
	addr := h.Addr()
	if addr.ID != h.ID() || len(addr.Addrs) == 0 {
		t.Errorf("address is %v, want the host's id and an address", addr)
	}
	if back, err := id.ParsePeerAddr(addr.String()); err != nil || !slices.Equal(back.Addrs, addr.Addrs) {
		t.Errorf("address %v does not survive its text form: %v, %v", addr, back, err)
	}
}

func testConnect(t *testing.T, b *bench) {
	from, to := b.host(), b.host()
	if from.Connected(to.ID()) || len(from.Peers()) != 0 {
		t.Fatal("connected before Connect")
	}
	b.connect(from, to)
	if got := from.Peers(); len(got) != 1 || got[0] != to.ID() {
		t.Errorf("dialler's peers are %v", got)
	}
	for h, other := range map[transport.Host]transport.Host{from: to, to: from} {
		got := h.Connections()
		if len(got) != 1 || got[0].Peer != other.ID() || got[0].Transport == "" || got[0].Dialled != (h == from) || got[0].Since.IsZero() {
			t.Errorf("connections %+v", got)
		}
	}
	if got := to.Peers(); len(got) != 1 || got[0] != from.ID() {
		t.Errorf("acceptor's peers are %v", got)
	}
	// A second Connect has nothing to do and needs no address.
	if err := from.Connect(b.ctx(), id.PeerAddr{ID: to.ID()}); err != nil {
		t.Errorf("connect again: %v", err)
	}
}

func testConnectConcurrently(t *testing.T, b *bench) {
	x, y := b.host(), b.host()
	handleEcho(x, "echo")
	handleEcho(y, "echo")
	var wg sync.WaitGroup
	for range 8 {
		for _, d := range [][2]transport.Host{{x, y}, {y, x}} {
			wg.Go(func() {
				if err := b.dial(d[0], d[1]); err != nil {
					t.Errorf("connect: %v", err)
				} else if err := echo(b.ctx(), d[0], d[1], "echo", "hello"); err != nil {
					t.Errorf("echo: %v", err)
				}
			})
		}
	}
	wg.Wait()
	if len(x.Peers()) != 1 || len(y.Peers()) != 1 {
		t.Errorf("peers are %v and %v, want one each", x.Peers(), y.Peers())
	}
}

func testConnectErrors(t *testing.T, b *bench) {
	h, other := b.host(), b.host()
	if err := h.Connect(b.ctx(), h.Addr()); !errors.Is(err, transport.ErrSelf) {
		t.Errorf("connect to self: got %v, want ErrSelf", err)
	}
	if err := h.Connect(b.ctx(), id.PeerAddr{ID: other.ID()}); !errors.Is(err, transport.ErrNoAddress) {
		t.Errorf("connect without address: got %v, want ErrNoAddress", err)
	}
	if _, err := h.Open(b.ctx(), other.ID(), "p"); !errors.Is(err, transport.ErrNoAddress) {
		t.Errorf("open without address: got %v, want ErrNoAddress", err)
	}
	gone := b.host()
	addr := gone.Addr()
	gone.Close()
	if err := h.Connect(b.ctx(), addr); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("connect to a closed host: got %v, want ErrUnreachable", err)
	}
	// At the address lives somebody else.
	stranger := id.PeerAddr{ID: id.PeerIDOf(b.newKey()), Addrs: other.Addr().Addrs}
	if err := h.Connect(b.ctx(), stranger); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("connect to another identity: got %v, want ErrUnreachable", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Connect(cancelled, other.Addr()); !errors.Is(err, context.Canceled) {
		t.Errorf("connect with a cancelled context: got %v, want context.Canceled", err)
	}
}

func testForeignNetwork(t *testing.T, b *bench) {
	h := b.host()
	foreign := b.host(func(c *transport.Config) { c.Network = id.Random() })
	handleEcho(h, "echo")
	for _, d := range [][2]transport.Host{{foreign, h}, {h, foreign}} {
		seen := [2]*recorder{b.record(d[0]), b.record(d[1])}
		b.wantCode("connect to another network", b.dial(d[0], d[1]), link.CodeDifferentNetwork)
		b.eventually("both sides report the refusal", func() bool {
			return seen[0].has(transport.Refused, d[1].ID(), link.CodeDifferentNetwork) &&
				seen[1].has(transport.Refused, d[0].ID(), link.CodeDifferentNetwork)
		})
		if seen[0].has(transport.Connected, d[1].ID(), 0) || seen[1].has(transport.Connected, d[0].ID(), 0) {
			t.Error("a foreigner was reported as connected")
		}
		if d[0].Connected(d[1].ID()) || d[1].Connected(d[0].ID()) {
			t.Error("hosts of different networks are connected")
		}
	}
	friend := b.host()
	b.connect(friend, h)
	b.echo(friend, h, "echo", "honest peers are unharmed")
}

func testWrongSecret(t *testing.T, b *bench) {
	h := b.host(withSecret("open sesame"))
	for _, secret := range []string{"wrong", ""} {
		stranger := b.host(withSecret(secret))
		for _, d := range [][2]transport.Host{{stranger, h}, {h, stranger}} {
			seen := [2]*recorder{b.record(d[0]), b.record(d[1])}
			b.wantCode("connect with secret "+secret, b.dial(d[0], d[1]), link.CodeBadProof)
			b.eventually("both sides report the refusal", func() bool {
				return seen[0].has(transport.Refused, d[1].ID(), link.CodeBadProof) &&
					seen[1].has(transport.Refused, d[0].ID(), link.CodeBadProof)
			})
			if d[0].Connected(d[1].ID()) || d[1].Connected(d[0].ID()) {
				t.Errorf("connected with secret %q", secret)
			}
		}
	}
	friend := b.host(withSecret("open sesame"))
	handleEcho(h, "echo")
	b.connect(friend, h)
	b.echo(friend, h, "echo", "honest peers are unharmed")
}

func testRightSecret(_ *testing.T, b *bench) {
	x, y := b.host(withSecret("open sesame")), b.host(withSecret("open sesame"))
	handleEcho(y, "echo")
	b.connect(x, y)
	b.echo(x, y, "echo", "hello")
}

func testDisconnect(t *testing.T, b *bench) {
	from, to := b.pair()
	taken := b.handleSilent(to, "silent")
	s := b.stream(from, to, "silent")
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	there := receive(b, "the handler gets the stream", taken)
	seenFrom, seenTo := b.record(from), b.record(to)
	from.Disconnect(to.ID(), link.CodeProtocolViolation)
	b.eventually("both sides report the code", func() bool {
		return seenFrom.has(transport.Disconnected, to.ID(), link.CodeProtocolViolation) &&
			seenTo.has(transport.Disconnected, from.ID(), link.CodeProtocolViolation)
	})
	for _, s := range []transport.Stream{s, there} {
		s.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, s); err == nil || isTimeout(err) {
			t.Errorf("read on a stream of a closed connection: got %v, want an error", err)
		}
	}
	if from.Connected(to.ID()) || to.Connected(from.ID()) {
		t.Error("still connected")
	}
	b.connect(from, to)
}

func testBan(t *testing.T, b *bench) {
	h, bad := b.host(), b.host()
	b.connect(bad, h)
	seen := b.record(bad)
	const ban = time.Second
	start := time.Now()
	h.Ban(bad.ID(), ban)
	b.eventually("the banned peer learns why it was disconnected", func() bool {
		return seen.has(transport.Disconnected, h.ID(), link.CodeBanned)
	})
	if err := h.Connect(b.ctx(), bad.Addr()); time.Since(start) < ban {
		b.wantCode("connect to a banned peer", err, link.CodeBanned)
	}
	if err := bad.Connect(b.ctx(), h.Addr()); time.Since(start) < ban {
		b.wantCode("connect of a banned peer", err, link.CodeBanned)
	}
	b.eventually("the peer is let in after the ban", func() bool { return bad.Connect(b.ctx(), h.Addr()) == nil })
	if took := time.Since(start); took < ban {
		t.Errorf("let in after %v, banned for %v", took, ban)
	}
}

// later makes sure that a host that is opened now has a later incarnation.
func later() { time.Sleep(3 * time.Millisecond) }

func testNewerIncarnation(t *testing.T, b *bench) {
	h := b.host()
	handleEcho(h, "echo")
	key := b.newKey()
	old := b.host(withKey(key))
	b.connect(old, h)
	seenByH, seenByOld := b.record(h), b.record(old)
	later()
	young := b.host(withKey(key))
	if young.Incarnation() <= old.Incarnation() {
		t.Fatalf("incarnations do not rise: %d after %d", young.Incarnation(), old.Incarnation())
	}
	if err := b.dial(young, h); err != nil {
		t.Fatalf("connect in a new incarnation: %v", err)
	}
	b.eventually("the old incarnation is turned off", func() bool {
		return seenByOld.has(transport.Disconnected, h.ID(), link.CodeSupplanted)
	})
	b.eventually("the old incarnation learns of its double", func() bool {
		return seenByOld.has(transport.DuplicateIdentity, old.ID(), 0)
	})
	b.eventually("the new incarnation is reported", func() bool {
		return slices.ContainsFunc(seenByH.all(), func(e transport.Event) bool {
			return e.Kind == transport.Connected && e.Incarnation == young.Incarnation()
		})
	})
	b.echo(young, h, "echo", "hello")
}

func testOlderIncarnation(t *testing.T, b *bench) {
	h := b.host()
	key := b.newKey()
	old := b.host(withKey(key))
	later()
	young := b.host(withKey(key))
	b.connect(young, h)
	seen, seenByH := b.record(old), b.record(h)
	b.wantCode("connect in an old incarnation", b.dial(old, h), link.CodeSupplanted)
	b.eventually("the old incarnation learns of its double", func() bool {
		return seen.has(transport.DuplicateIdentity, old.ID(), 0)
	})
	if seenByH.has(transport.Disconnected, young.ID(), 0) || !h.Connected(young.ID()) {
		t.Error("an old incarnation disturbed the new one")
	}
}

func testSupersede(t *testing.T, b *bench) {
	from, to := b.pair()
	seen := b.record(from)
	to.Supersede(from.ID(), from.Incarnation())
	if !to.Connected(from.ID()) {
		t.Fatal("Supersede with the current incarnation closed the connection")
	}
	to.Supersede(from.ID(), from.Incarnation()+1)
	b.eventually("the old connection is closed", func() bool {
		return seen.has(transport.Disconnected, to.ID(), link.CodeSupplanted) && !to.Connected(from.ID())
	})
	b.wantCode("connect in a superseded incarnation", b.dial(from, to), link.CodeSupplanted)
	if err := to.Connect(b.ctx(), from.Addr()); err == nil {
		t.Error("connected to a superseded incarnation")
	}
}

func testEvents(t *testing.T, b *bench) {
	h, other := b.host(), b.host()
	seen := b.record(h)
	const rounds = 5
	count := func() int { return len(seen.all()) }
	for i := range rounds {
		b.connect(other, h)
		b.eventually("Connected is reported", func() bool { return count() > 2*i })
		other.Disconnect(h.ID(), link.CodeSuccess)
		b.eventually("Disconnected is reported", func() bool { return count() > 2*i+1 })
	}
	for i, e := range seen.all() {
		want := transport.Event{Kind: transport.Connected, Peer: other.ID(), Incarnation: other.Incarnation()}
		if i%2 == 1 {
			want = transport.Event{Kind: transport.Disconnected, Peer: other.ID(), Code: link.CodeSuccess, Incarnation: e.Incarnation}
		}
		if e != want {
			t.Errorf("event %d is %+v, want %+v", i, e, want)
		}
	}
}

func testWatchCancel(t *testing.T, b *bench) {
	h, other := b.host(), b.host()
	var mu sync.Mutex
	calls, cancelled := 0, false
	cancel := h.Watch(func(transport.Event) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if cancelled {
			t.Error("called after cancel")
		}
	})
	still := b.record(h)
	b.connect(other, h)
	b.eventually("both watchers are called", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return calls == 1 && len(still.all()) == 1
	})
	cancel()
	mu.Lock()
	cancelled = true
	mu.Unlock()
	cancel() // a second cancel does nothing
	other.Disconnect(h.ID(), link.CodeSuccess)
	b.eventually("the other watcher is called again", func() bool { return len(still.all()) == 2 })
}

func testRTT(t *testing.T, b *bench) {
	from, to := b.pair()
	for _, d := range [][2]transport.Host{{from, to}, {to, from}} {
		b.eventually("a round-trip time is measured", func() bool {
			_, ok := d[0].RTT(d[1].ID())
			return ok
		})
		if rtt, _ := d[0].RTT(d[1].ID()); rtt <= 0 || rtt > patience {
			t.Errorf("round-trip time is %v", rtt)
		}
	}
	if rtt, ok := from.RTT(id.PeerIDOf(b.newKey())); ok {
		t.Errorf("a peer that is not connected has the round-trip time %v", rtt)
	}
}
