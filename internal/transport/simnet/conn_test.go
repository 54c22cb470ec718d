package simnet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

func TestOrderUnderJitter(t *testing.T) {
	t.Parallel()
	opts := simnet.Options{Seed: 3, Link: simnet.Link{Delay: time.Millisecond, Jitter: 100 * time.Millisecond, Loss: 0.1}}
	inBubbleWith(t, opts, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		if err := a.Connect(t.Context(), b.Addr()); err != nil {
			t.Fatal(err)
		}
		s := w.stream(a, b)
		defer s.Close()
		const n = 200
		go func() {
			for i := range n {
				s.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
				time.Sleep(time.Millisecond)
			}
			s.CloseWrite()
		}()
		got, err := io.ReadAll(s)
		if err != nil || len(got) != 4*n {
			t.Fatalf("got %d bytes and %v, want %d", len(got), err, 4*n)
		}
		for i := range n {
			if v := binary.BigEndian.Uint32(got[4*i:]); v != uint32(i) {
				t.Fatalf("message %d arrived in place of %d", v, i)
			}
		}
	})
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		w.connect(a, b)
		var open []transport.Stream
		for range 1024 {
			s := w.stream(a, b)
			s.Write([]byte("x"))
			open = append(open, s)
		}
		extra := w.stream(a, b)
		if err := ask(extra, "one more"); !errors.Is(err, &link.CloseError{Code: link.CodeOverloaded}) {
			t.Errorf("stream 1025: %v, want overloaded", err)
		}
		for _, s := range open {
			s.Close()
		}
		w.settle()
		s := w.stream(a, b)
		defer s.Close()
		if err := ask(s, "room again"); err != nil {
			t.Errorf("after the others are closed: %v", err)
		}
	})
}

// What was written and closed in order survives the end of the connection, once it has arrived.
func TestDataOutlivesConnection(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		got := make(chan []byte)
		b.Handle("sink", func(s transport.Stream) {
			defer s.Close()
			time.Sleep(time.Second) // by then the connection is gone
			data, err := io.ReadAll(s)
			if err != nil {
				t.Errorf("read: %v", err)
			}
			got <- data
		})
		w.connect(a, b)
		s, err := a.Open(t.Context(), b.ID(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("x"), 100000)
		if _, err := s.Write(want); err != nil {
			t.Fatal(err)
		}
		s.Close()
		a.Close()
		if data := <-got; !bytes.Equal(data, want) {
			t.Errorf("got %d bytes, want %d", len(data), len(want))
		}
		if b.Connected(a.ID()) {
			t.Error("still connected")
		}
	})
}

// A side that has closed discards what still comes, so that the other side does not hang in Write.
func TestWriteToClosedReader(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		wrote := make(chan struct{})
		b.Handle("source", func(s transport.Stream) {
			defer s.Close()
			defer close(wrote)
			if n, err := s.Write(make([]byte, 1<<20)); err != nil {
				t.Errorf("write: %d bytes, %v", n, err)
			}
		})
		w.connect(a, b)
		s, err := a.Open(t.Context(), b.ID(), "source")
		if err != nil {
			t.Fatal(err)
		}
		s.Write([]byte("go"))
		w.settle()
		s.Close()
		select {
		case <-wrote:
		case <-time.After(time.Second):
			t.Error("the writer hangs")
		}
	})
}

func TestPeerJudgedAgainWhenHelloEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(h, dialler transport.Host)
		code   link.Code
	}{
		{"banned", func(h, d transport.Host) { h.Ban(d.ID(), time.Minute) }, link.CodeBanned},
		{"superseded", func(h, d transport.Host) { h.Supersede(d.ID(), d.Incarnation()+1) }, link.CodeSupplanted},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				a, b := w.host("a"), w.host("b")
				go a.Connect(t.Context(), b.Addr())
				time.Sleep(15 * time.Millisecond) // the hello has been accepted, the end of it has not arrived
				c.change(b, a)
				events := w.events(b)
				time.Sleep(20 * time.Millisecond)
				if b.Connected(a.ID()) {
					t.Error("connected all the same")
				}
				if got := events(); len(got) != 1 || got[0] != "15ms 3 "+c.code.String() {
					t.Errorf("events %v, want one refusal: %v", got, c.code)
				}
			})
		})
	}
}

func TestCallsShareOneDial(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		a.Learn(b.Addr())
		errs := make(chan error)
		for range 5 {
			go func() { errs <- a.Connect(t.Context(), b.Addr()) }()
		}
		for range 5 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		w.settle()
		if n := w.Conns(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

// A dial that knows a stale address and a good one takes the good one without waiting for the other.
func TestDialTriesAllAddresses(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.host("a"), w.host("b"), w.host("c")
		w.Isolate(c.ID()) // a dial to c's address gets no answer
		addr := b.Addr()
		addr.Addrs = slices.Concat(c.Addr().Addrs, []string{"/memory/999", "nonsense"}, addr.Addrs)
		start := time.Now()
		if err := a.Connect(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 20*time.Millisecond {
			t.Errorf("connect took %v, want one round trip", took)
		}
	})
}

// When every host is gone the fabric holds nothing of them that grows.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.host("a"), w.host("b"), w.host("c")
		w.connect(a, b)
		w.connect(b, c)
		s := w.stream(a, b)
		if err := ask(s, "x"); err != nil {
			t.Fatal(err)
		}
		b.Kill()
		a.Close()
		c.Close()
		w.settle()
		if n := w.Conns(); n != 0 {
			t.Errorf("%d connections left", n)
		}
	})
}

// An event that had happened before cancel, but was not handed out yet, does not come after it.
func TestCancelDropsWhatIsQueued(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		release := make(chan struct{})
		a.Watch(func(transport.Event) { <-release })
		called := false
		cancel := a.Watch(func(transport.Event) { called = true })
		w.connect(a, b)
		cancel()
		close(release)
		w.settle()
		if called {
			t.Error("called after cancel")
		}
	})
}
