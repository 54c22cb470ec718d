package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

const (
	patience = time.Minute      // bounds what should happen soon, on a busy machine and under the race detector
	slack    = 45 * time.Second // what such a machine may add to a deadline
)

// takesLong skips a test that waits for many seconds when time is short.
func takesLong(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("waits for many seconds")
	}
}

func keyOf(seed string) ed25519.PrivateKey {
	digest := id.Of(seed)
	return ed25519.NewKeyFromSeed(digest[:])
}

// openHost opens a host that echoes, and is closed when the test ends.
func openHost(t *testing.T, network id.ID, listen string, change ...func(*transport.Config)) *host {
	t.Helper()
	return openTuned(t, defaultTuning, network, listen, change...)
}

func openTuned(t *testing.T, tuned tuning, network id.ID, listen string, change ...func(*transport.Config)) *host {
	t.Helper()
	cfg := transport.Config{Network: network, Key: keyOf(id.Random().String()), Reach: transport.ReachHost}
	if listen != "" {
		cfg.Listen = []string{listen}
	}
	for _, c := range change {
		c(&cfg)
	}
	h, err := open(cfg, tuned)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { h.Close() })
	h.Handle("echo", echoHandler)
	return h
}

func withSecret(secret string) func(*transport.Config) {
	return func(c *transport.Config) { c.Secret = secret }
}

func echoHandler(s transport.Stream) {
	defer s.Close()
	io.Copy(s, s)
}

// connect connects, and waits until both sides list the other.
func connect(t *testing.T, from, to transport.Host) {
	t.Helper()
	eventually(t, "both sides are connected", func() bool {
		err := from.Connect(t.Context(), to.Addr())
		if err != nil && !tooSlow(err) {
			t.Fatalf("connect: %v", err)
		}
		return from.Connected(to.ID()) && to.Connected(from.ID())
	})
}

// connectTo connects to a host of which only the address is there.
func connectTo(t *testing.T, from *host, to id.PeerAddr) {
	t.Helper()
	eventually(t, "a connection", func() bool {
		err := from.Connect(t.Context(), to)
		if err != nil && !tooSlow(err) {
			t.Fatalf("connect: %v", err)
		}
		return err == nil
	})
}

// tooSlow reports whether an attempt to connect failed in a way that a busy machine can be to blame for.
func tooSlow(err error) bool {
	return errors.Is(err, transport.ErrUnreachable) || err != nil && link.CodeOf(err) == link.CodeTimeout
}

// ask sends text on a new stream and checks the answer.
func ask(ctx context.Context, from transport.Host, to id.PeerID, text string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := from.Open(ctx, to, "echo")
	for tooSlow(err) && ctx.Err() == nil {
		s, err = from.Open(ctx, to, "echo")
	}
	if err != nil {
		return err
	}
	defer s.Close()
	s.SetReadDeadline(time.Now().Add(patience))
	s.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s, text); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(s)
	if err == nil && string(got) != text {
		err = fmt.Errorf("got %q, want %q", got, text)
	}
	return err
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	within(t, patience, what, cond)
}

func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// watched are the events of a host, each with the time when it came.
type watched struct {
	mu     sync.Mutex
	events []timedEvent
}

type timedEvent struct {
	transport.Event
	at time.Time
}

func watch(t *testing.T, h transport.Host) *watched {
	w := new(watched)
	t.Cleanup(h.Watch(func(e transport.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, timedEvent{e, time.Now()})
	}))
	return w
}

// all returns what came so far.
func (w *watched) all() []timedEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// find returns the first event of the kind about the peer; code zero matches any.
func (w *watched) find(kind transport.EventKind, p id.PeerID, code link.Code) (timedEvent, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind && e.Peer == p && (code == 0 || e.Code == code) {
			return e, true
		}
	}
	return timedEvent{}, false
}

// wait waits for such an event.
func (w *watched) wait(t *testing.T, what string, kind transport.EventKind, p id.PeerID, code link.Code) timedEvent {
	t.Helper()
	var e timedEvent
	eventually(t, what, func() (ok bool) {
		e, ok = w.find(kind, p, code)
		return ok
	})
	return e
}
