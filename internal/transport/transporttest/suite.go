// Package transporttest checks that a transport.Host does what its documentation says. The tests of every
// implementation run the same suite, so that code tested on the simulated network meets no surprises on the real one.
package transporttest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// patience bounds everything that should happen soon. It is generous: the suite also runs under the race detector on a
// busy machine.
const patience = time.Minute

// noticeWithin is how fast the silent death of a peer must be seen with the default heartbeats (2 s, dead after 6 s).
// The documented limit is 7 s; the rest is for a busy machine.
const noticeWithin = 45 * time.Second

// Opener opens a host as its package's constructor does.
type Opener func(transport.Config) (transport.Host, error)

// Run runs the suite. Hosts are opened for loopback and closed by the suite.
func Run(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"identity", testIdentity},
		{"connect", testConnect},
		{"connect concurrently", testConnectConcurrently},
		{"connect errors", testConnectErrors},
		{"echo", testEcho},
		{"lazy open", testLazyOpen},
		{"half close", testHalfClose},
		{"close in order", testCloseInOrder},
		{"read deadline", testReadDeadline},
		{"write deadline", testWriteDeadline},
		{"abort reaches both sides", testAbort},
		{"abort wakes pending calls", testAbortPending},
		{"unused stream", testUnusedStream},
		{"unknown protocol", testUnknownProtocol},
		{"handler replaced and removed", testHandlerReplaced},
		{"thousand streams", testThousandStreams},
		{"stalled reader", testStalledReader},
		{"foreign network", testForeignNetwork},
		{"wrong secret", testWrongSecret},
		{"right secret", testRightSecret},
		{"disconnect", testDisconnect},
		{"ban", testBan},
		{"newer incarnation", testNewerIncarnation},
		{"older incarnation", testOlderIncarnation},
		{"supersede", testSupersede},
		{"events", testEvents},
		{"watch cancel", testWatchCancel},
		{"close waits for handlers", testCloseWaits},
		{"close says goodbye", testCloseSaysGoodbye},
		{"close lets others read", testCloseLetsOthersRead},
		{"use after close", testUseAfterClose},
		{"kill is noticed", testKill},
		{"reconnect after death", testReconnect},
		{"rtt", testRTT},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, &bench{t: t, open: open, network: id.Random()})
		})
	}
}

// bench is what one test works with: hosts on a network of its own.
type bench struct {
	t       *testing.T
	open    Opener
	network id.ID
}

// host opens a host with a new identity.
func (b *bench) host(change ...func(*transport.Config)) transport.Host {
	b.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := transport.Config{Network: b.network, Key: key, Reach: transport.ReachHost}
	for _, c := range change {
		c(&cfg)
	}
	h, err := b.open(cfg)
	if err != nil {
		b.t.Fatalf("open host: %v", err)
	}
	b.t.Cleanup(func() { h.Close() })
	return h
}

func withKey(k ed25519.PrivateKey) func(*transport.Config) {
	return func(c *transport.Config) { c.Key = k }
}

func withSecret(s string) func(*transport.Config) {
	return func(c *transport.Config) { c.Secret = s }
}

// newKey returns a key to open several hosts with.
func (b *bench) newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	return key
}

// pair opens two hosts and connects the first to the second.
func (b *bench) pair() (from, to transport.Host) {
	b.t.Helper()
	from, to = b.host(), b.host()
	b.connect(from, to)
	return from, to
}

// connect connects and waits until both sides list the other.
func (b *bench) connect(from, to transport.Host) {
	b.t.Helper()
	if err := b.dial(from, to); err != nil {
		b.t.Fatalf("connect: %v", err)
	}
	b.eventually("both sides are connected", func() bool {
		return from.Connected(to.ID()) && to.Connected(from.ID())
	})
}

// dial connects, and tries again when a machine that is busy with other things was too slow for a dial or a hello.
func (b *bench) dial(from, to transport.Host) error {
	for start := time.Now(); ; {
		err := from.Connect(b.ctx(), to.Addr())
		slow := errors.Is(err, transport.ErrUnreachable) || link.CodeOf(err) == link.CodeTimeout
		if err == nil || !slow || time.Since(start) > patience {
			return err
		}
	}
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	b.t.Cleanup(cancel)
	return ctx
}

// stream opens a stream.
func (b *bench) stream(from, to transport.Host, protocol string) transport.Stream {
	b.t.Helper()
	s, err := from.Open(b.ctx(), to.ID(), protocol)
	if err != nil {
		b.t.Fatalf("open %s: %v", protocol, err)
	}
	b.t.Cleanup(func() { s.Abort(link.CodeCancelled) })
	return s
}

// handleEcho answers each stream of the protocol with what it says.
func handleEcho(h transport.Host, protocol string) {
	h.Handle(protocol, func(s transport.Stream) {
		defer s.Close()
		io.Copy(s, s)
	})
}

// handleSilent takes streams of the protocol and does nothing with them until the test ends or the host closes.
func (b *bench) handleSilent(h transport.Host, protocol string) <-chan transport.Stream {
	taken := make(chan transport.Stream, 16)
	done := make(chan struct{})
	b.t.Cleanup(func() { close(done) }) // runs before the host is closed
	h.Handle(protocol, func(s transport.Stream) {
		defer s.Abort(link.CodeCancelled)
		select {
		case taken <- s:
		case <-done:
		}
		<-done
	})
	return taken
}

// echo sends text on a new stream and checks the answer.
func (b *bench) echo(from, to transport.Host, protocol, text string) {
	b.t.Helper()
	if err := echo(b.ctx(), from, to, protocol, text); err != nil {
		b.t.Fatal(err)
	}
}

func echo(ctx context.Context, from, to transport.Host, protocol, text string) error {
	s, err := from.Open(ctx, to.ID(), protocol)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.Close()
	deadline, _ := ctx.Deadline()
	if err := errors.Join(s.SetReadDeadline(deadline), s.SetWriteDeadline(deadline)); err != nil {
		return fmt.Errorf("set deadlines: %w", err)
	}
	// A long text does not fit into the buffers of both directions, so writing and reading overlap.
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(s, text)
		wrote <- errors.Join(err, s.CloseWrite())
	}()
	got, err := io.ReadAll(s)
	if err := errors.Join(err, <-wrote); err != nil {
		return fmt.Errorf("exchange: %w", err)
	}
	if string(got) != text {
		return fmt.Errorf("echo of %d bytes came back as %d other bytes", len(text), len(got))
	}
	return nil
}

// eventually waits until the condition holds.
func (b *bench) eventually(what string, cond func() bool) {
	b.t.Helper()
	b.within(patience, what, cond)
}

func (b *bench) within(limit time.Duration, what string, cond func() bool) {
	b.t.Helper()
	for start := time.Now(); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > limit {
			b.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// receive waits for a value on a channel.
func receive[T any](b *bench, what string, c <-chan T) T {
	b.t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		b.t.Fatalf("not within %v: %s", patience, what)
		panic("not reached")
	}
}

// wantCode checks that an error carries a close code.
func (b *bench) wantCode(what string, err error, want link.Code) {
	b.t.Helper()
	if !errors.Is(err, &link.CloseError{Code: want}) {
		b.t.Errorf("%s: got error %v, want one that carries %q", what, err, want)
	}
}

// recorder collects a host's events.
type recorder struct {
	mu     sync.Mutex
	events []transport.Event
}

func (b *bench) record(h transport.Host) *recorder {
	r := &recorder{}
	b.t.Cleanup(h.Watch(func(e transport.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}))
	return r
}

func (r *recorder) all() []transport.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]transport.Event(nil), r.events...)
}

// has reports whether an event of the kind about the peer was seen; code zero matches any.
func (r *recorder) has(kind transport.EventKind, peer id.PeerID, code link.Code) bool {
	for _, e := range r.all() {
		if e.Kind == kind && e.Peer == peer && (code == 0 || e.Code == code) {
			return true
		}
	}
	return false
}
