package transporttest

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

func testCloseWaits(t *testing.T, b *bench) {
	from, to := b.pair()
	var running atomic.Int32
	started := make(chan struct{}, 10)
	to.Handle("slow", func(s transport.Stream) {
		running.Add(1)
		defer running.Add(-1)
		defer s.Abort(link.CodeCancelled)
		started <- struct{}{}
		io.Copy(io.Discard, s)            // fails when the host closes
		time.Sleep(50 * time.Millisecond) // and takes a while to clean up
	})
	for range 10 {
		if _, err := b.stream(from, to, "slow").Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		receive(b, "the handlers run", started)
	}
	closed := make(chan error, 2)
	for range 2 { // each caller waits for the one close
		go func() {
			err := to.Close()
			if n := running.Load(); n != 0 {
				err = errors.Join(err, errors.New("handlers still run after Close"))
			}
			closed <- err
		}()
	}
	for range 2 {
		if err := receive(b, "Close returns", closed); err != nil {
			t.Error(err)
		}
	}
}

func testCloseSaysGoodbye(t *testing.T, b *bench) {
	from, to := b.pair()
	taken := b.handleSilent(from, "silent")
	s := b.stream(to, from, "silent")
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	there := receive(b, "the handler gets the stream", taken)
	seen := b.record(from)
	to.Close()
	b.eventually("the goodbye is reported", func() bool {
		return seen.has(transport.Disconnected, to.ID(), link.CodeShutdown)
	})
	there.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, there); err == nil || isTimeout(err) {
		t.Errorf("read on a stream of a closed host: got %v, want an error", err)
	}
}

// What a host wrote and ended in order before it closed is still read on the other side, although the goodbye overtakes
// whoever is slow, as long as that is not slower than the moment that Close gives it.
func testCloseLetsOthersRead(t *testing.T, b *bench) {
	const moment = 300 * time.Millisecond
	want := strings.Repeat("farewell ", 1000)
	for start := time.Now(); ; {
		from, to := b.pair()
		taken := b.handleSilent(from, "silent")
		s := b.stream(to, from, "silent")
		if _, err := io.WriteString(s, want); err != nil {
			t.Fatalf("write: %v", err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatalf("close write: %v", err)
		}
		there := receive(b, "the handler gets the stream", taken)
		goodbye := make(chan struct{}, 1)
		from.Watch(func(e transport.Event) {
			if e.Kind == transport.Disconnected && e.Code == link.CodeShutdown {
				goodbye <- struct{}{}
			}
		})
		closed := make(chan error, 1)
		said := time.Now() // or a bit later; the report of it can come much later
		go func() { closed <- to.Close() }()
		receive(b, "the goodbye is reported", goodbye)
		there.SetReadDeadline(time.Now().Add(patience))
		text, err := io.ReadAll(there)
		took := time.Since(said)
		if err := receive(b, "Close returns", closed); err != nil {
			t.Errorf("close: %v", err)
		}
		if err == nil && string(text) == want {
			return
		}
		if took < moment || time.Since(start) > patience {
			t.Fatalf("read %d bytes of %d and %v, %v after the goodbye", len(text), len(want), err, took)
		}
		// This machine is so busy that the moment was over before the reader had its turn.
	}
}

func testUseAfterClose(t *testing.T, b *bench) {
	from, to := b.pair()
	s := b.stream(from, to, "p")
	if err := from.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := from.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := from.Connect(b.ctx(), to.Addr()); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("connect: got %v, want ErrClosed", err)
	}
	if _, err := from.Open(b.ctx(), to.ID(), "p"); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("open: got %v, want ErrClosed", err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a write on a stream of a closed host succeeded")
	}
	if from.Connected(to.ID()) || len(from.Peers()) != 0 {
		t.Error("a closed host is connected")
	}
	from.Learn(to.Addr())
	from.Disconnect(to.ID(), link.CodeSuccess)
	from.Ban(to.ID(), time.Second)
	from.Supersede(to.ID(), 1)
	from.Protect(to.ID(), "tag")
	from.Unprotect(to.ID(), "tag")
	from.Handle("p", nil)
	from.Watch(func(transport.Event) {})()
	from.Kill()
}

func testKill(t *testing.T, b *bench) {
	h, victim, bystander := b.host(), b.host(), b.host()
	b.connect(victim, h)
	b.connect(bystander, h)
	taken := b.handleSilent(h, "silent")
	handleEcho(h, "echo")
	s := b.stream(victim, h, "silent")
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	there := receive(b, "the handler gets the stream", taken)
	seen := b.record(h)
	start := time.Now()
	victim.Kill()
	b.within(noticeWithin, "the death is reported", func() bool {
		return seen.has(transport.Disconnected, victim.ID(), 0)
	})
	t.Logf("noticed after %v", time.Since(start).Round(time.Millisecond))
	if seen.has(transport.Disconnected, victim.ID(), link.CodeShutdown) {
		t.Error("a killed host said goodbye")
	}
	there.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, there); err == nil || isTimeout(err) {
		t.Errorf("read on a stream of a dead peer: got %v, want an error", err)
	}
	if h.Connected(victim.ID()) {
		t.Error("still connected to the dead")
	}
	b.echo(bystander, h, "echo", "others are unharmed")
}

func testReconnect(t *testing.T, b *bench) {
	h := b.host()
	handleEcho(h, "echo")
	key := b.newKey()
	first := b.host(withKey(key))
	handleEcho(first, "echo")
	b.connect(h, first)
	first.Kill()
	later()
	second := b.host(withKey(key))
	handleEcho(second, "echo")
	b.connect(second, h)
	b.echo(second, h, "echo", "hello")
	b.echo(h, second, "echo", "hello")
	if got := h.Peers(); len(got) != 1 || got[0] != (id.PeerIDOf(key)) {
		t.Errorf("peers are %v, want the restarted one only", got)
	}
}
