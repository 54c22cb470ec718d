package simnet_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

func TestDelays(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		start := time.Now()
		if err := a.Connect(t.Context(), b.Addr()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 20*time.Millisecond {
			t.Errorf("connect took %v, want one round trip of 20ms", took)
		}
		if b.Connected(a.ID()) {
			t.Error("the acceptor calls the connection usable before the dialler has agreed")
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if !b.Connected(a.ID()) {
			t.Error("the acceptor is not connected after one and a half round trips")
		}
		s := w.stream(a, b)
		defer s.Close()
		start = time.Now()
		if err := ask(s, "hello"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 20*time.Millisecond {
			t.Errorf("echo took %v, want 20ms", took)
		}
		for _, d := range [][2]transport.Host{{a, b}, {b, a}} {
			if rtt, ok := d[0].RTT(d[1].ID()); !ok || rtt != 20*time.Millisecond {
				t.Errorf("RTT is %v, %v; want 20ms", rtt, ok)
			}
		}
		w.SetLink(a.ID(), b.ID(), simnet.Link{Delay: 30 * time.Millisecond}) // one direction
		time.Sleep(3 * time.Second)                                          // a heartbeat measures again
		if rtt, _ := b.RTT(a.ID()); rtt != 40*time.Millisecond {
			t.Errorf("RTT is %v after the change, want 40ms", rtt)
		}
	})
}

func TestBandwidth(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		w.SetLink(a.ID(), b.ID(), simnet.Link{Delay: 10 * time.Millisecond, Bandwidth: 1 << 20})
		s := w.stream(a, b)
		defer s.Close()
		start := time.Now()
		if err := ask(s, strings.Repeat("x", 200<<10)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 200*time.Millisecond || took > 250*time.Millisecond {
			t.Errorf("200 KiB at 1 MiB/s took %v, want 195ms plus a round trip", took)
		}
	})
}

func TestLossStalls(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		w.SetLinks(simnet.Link{Delay: 10 * time.Millisecond, Loss: 0.3})
		s := w.stream(a, b)
		defer s.Close()
		slow := 0
		for i := range 100 {
			start := time.Now()
			if err := ask(s, fmt.Sprint("message ", i)); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			if took := time.Since(start); took >= 220*time.Millisecond {
				slow++
			} else if took != 20*time.Millisecond {
				t.Errorf("message %d took %v, neither lost nor not", i, took)
			}
		}
		// Both directions must get through: 51 in 100 are expected to be slow.
		if slow < 30 || slow > 70 {
			t.Errorf("%d of 100 exchanges were slow", slow)
		}
	})
}

// A partition is silence. Who is silent for less than DeadAfter keeps the connection, and nothing is lost.
func TestShortPartition(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		events := w.events(a)
		s := w.stream(a, b)
		defer s.Close()
		if err := ask(s, "before"); err != nil {
			t.Fatal(err)
		}
		w.Partition([]id.PeerID{a.ID()}, []id.PeerID{b.ID()})
		if _, err := s.Write([]byte("during")); err != nil {
			t.Fatalf("a write into the silence fails: %v", err)
		}
		s.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read across the partition: %v, want os.ErrDeadlineExceeded", err)
		}
		w.Heal()
		s.SetReadDeadline(time.Time{})
		start := time.Now()
		got := make([]byte, 6)
		if _, err := io.ReadFull(s, got); err != nil || string(got) != "during" {
			t.Fatalf("after healing: %q, %v", got, err)
		}
		if took := time.Since(start); took != 20*time.Millisecond {
			t.Errorf("what was held back took %v after healing, want 20ms", took)
		}
		if e := events(); len(e) != 0 {
			t.Errorf("events %v, want none", e)
		}
	})
}

func TestLongPartition(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.host("a"), w.host("b"), w.host("c")
		for _, p := range [][2]transport.Host{{a, b}, {b, c}, {a, c}} {
			w.connect(p[0], p[1])
		}
		s := w.stream(a, b)
		if err := ask(s, "before"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		w.Partition([]id.PeerID{b.ID()}) // a and c are together in the rest
		_, err := s.Read(make([]byte, 1))
		if !errors.Is(err, &link.CloseError{Code: link.CodeTimeout}) {
			t.Errorf("read: %v, want a timeout", err)
		}
		if took := time.Since(start); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("the silence was noticed after %v, want at most 6s", took)
		}
		time.Sleep(2 * time.Second)
		for _, d := range []struct {
			from, to transport.Host
			want     bool
		}{{a, b, false}, {b, a, false}, {b, c, false}, {c, b, false}, {a, c, true}, {c, a, true}} {
			if got := d.from.Connected(d.to.ID()); got != d.want {
				t.Errorf("connected: %v, want %v", got, d.want)
			}
		}
		start = time.Now()
		if err := a.Connect(t.Context(), b.Addr()); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("connect across the partition: %v, want ErrUnreachable", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the dial gave up after %v, want 3s", took)
		}
		w.Heal()
		w.connect(a, b)
	})
}

// When only a's packets are lost, b hears nothing and gives up; a learns of it, because b's packets get through.
// A host's own heartbeat is stronger than the fabric's.
func TestHeartbeatOfHost(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		seed := id.Of("hasty")
		hasty, err := w.NewHost(transport.Config{
			Network: id.Of("test"), Key: ed25519.NewKeyFromSeed(seed[:]), Heartbeat: 100 * time.Millisecond, DeadAfter: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer hasty.Close()
		b := w.host("b")
		w.connect(hasty, b)
		time.Sleep(time.Minute)
		events, ofB := w.events(hasty), w.events(b)
		w.Isolate(b.ID())
		time.Sleep(2 * time.Second)
		if got := events(); len(got) != 1 || !strings.HasSuffix(got[0], "2 timeout") {
			t.Errorf("the hasty host saw %v, want a timeout", got)
		}
		if got := ofB(); len(got) != 0 {
			t.Errorf("the other host saw %v already", got)
		}
		time.Sleep(5 * time.Second)
		if got := ofB(); len(got) != 1 {
			t.Errorf("the other host saw %v, want a timeout", got)
		}
		if _, err := w.NewHost(transport.Config{Key: ed25519.NewKeyFromSeed(seed[:]), Heartbeat: time.Second, DeadAfter: time.Second}); err == nil {
			t.Error("a heartbeat without time for an answer was accepted")
		}
	})
}

func TestAsymmetricPartition(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		ea, eb := w.events(a), w.events(b)
		w.Block(a.ID(), b.ID())
		time.Sleep(7 * time.Second)
		if got := eb(); len(got) != 1 || !strings.HasSuffix(got[0], "2 timeout") {
			t.Errorf("b's events: %v, want one timeout", got)
		}
		if got := ea(); len(got) != 1 || !strings.HasSuffix(got[0], "2 timeout") {
			t.Errorf("a's events: %v, want one timeout, told by b", got)
		}
		if err := b.Connect(t.Context(), a.Addr()); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("connect while one direction is blocked: %v", err)
		}
		w.Unblock(a.ID(), b.ID())
		w.connect(b, a)
	})
}

func TestIsolate(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		w.Isolate(b.ID())
		time.Sleep(7 * time.Second)
		if a.Connected(b.ID()) || b.Connected(a.ID()) {
			t.Error("connected to an isolated peer")
		}
		w.Rejoin(b.ID())
		w.connect(a, b)
	})
}

func TestReset(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		ea, eb := w.events(a), w.events(b)
		s := w.stream(a, b)
		w.Reset(b.ID(), a.ID())
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, &link.CloseError{Code: link.CodeUnexpectedClose}) {
			t.Errorf("read after a reset: %v", err)
		}
		want := []string{"0s 2 unexpected close"}
		if x, y := ea(), eb(); !slices.Equal(x, want) || !slices.Equal(y, want) {
			t.Errorf("events %v and %v, want %v", x, y, want)
		}
		w.connect(a, b)
	})
}

// The kernel of a killed process resets its connections; a machine that loses power cannot.
func TestKillAndPowerLoss(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.host("a"), w.host("b"), w.host("c")
		w.connect(a, b)
		w.connect(a, c)
		events := w.events(a)
		b.Kill()
		w.Isolate(c.ID())
		c.Kill()
		time.Sleep(7 * time.Second)
		got := events()
		if len(got) != 2 || got[0] != "10ms 2 unexpected close" || !strings.HasSuffix(got[1], " 2 timeout") {
			t.Errorf("events %v, want a reset after 10ms and a timeout", got)
		}
		start := time.Now()
		if err := a.Connect(t.Context(), b.Addr()); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("connect to the dead: %v", err)
		}
		if took := time.Since(start); took != 20*time.Millisecond {
			t.Errorf("a closed port refused after %v, want one round trip", took)
		}
	})
}

func TestPause(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		events := w.events(b)
		mine, theirs := w.stream(a, b), w.stream(b, a)
		if err := errors.Join(ask(mine, "hello"), ask(theirs, "hello")); err != nil {
			t.Fatal(err)
		}
		w.Pause(b.ID())
		start := time.Now()
		took := make(chan time.Duration, 3)
		go func() { // a frozen process does not see its deadlines pass
			theirs.SetReadDeadline(time.Now().Add(time.Second))
			theirs.Read(make([]byte, 1))
			took <- time.Since(start)
		}()
		go func() {
			b.Connect(context.Background(), id.PeerAddr{ID: id.PeerID{1}})
			took <- time.Since(start)
		}()
		go func() {
			theirs.Write([]byte("x"))
			took <- time.Since(start)
		}()
		time.Sleep(10 * time.Second)
		if a.Connected(b.ID()) {
			t.Error("nobody noticed that the peer is frozen")
		}
		if !b.Connected(a.ID()) {
			t.Error("the frozen peer noticed something")
		}
		w.Resume(b.ID())
		for range 3 {
			if d := <-took; d != 10*time.Second {
				t.Errorf("a call of the frozen peer returned after %v, want 10s", d)
			}
		}
		w.settle()
		if got := events(); len(got) != 1 || !strings.HasSuffix(got[0], "2 timeout") {
			t.Errorf("events of the one that was frozen: %v, want that it was given up", got)
		}
	})
}

func TestShortPause(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		s := w.stream(a, b)
		defer s.Close()
		w.Pause(b.ID())
		answered := make(chan error)
		go func() { answered <- ask(s, "hello") }()
		time.Sleep(4 * time.Second)
		w.Resume(b.ID())
		if err := <-answered; err != nil {
			t.Errorf("exchange over a short pause: %v", err)
		}
	})
}

// A frozen process can be killed, and its next life is not frozen.
func TestKillPaused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		w.Pause(b.ID())
		b.Kill()
		w.settle()
		if a.Connected(b.ID()) {
			t.Error("the connection to the killed process did not break")
		}
		w.connect(a, w.host("b"))
	})
}
