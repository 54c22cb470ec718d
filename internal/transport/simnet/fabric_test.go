package simnet_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

func TestWindow(t *testing.T) {
	t.Parallel()
	inBubbleWith(t, simnet.Options{Window: 1000}, func(t *testing.T, w world) {
		a, b := w.host("a"), w.host("b")
		read := make(chan int)
		b.Handle("sink", func(s transport.Stream) {
			defer s.Close()
			for n := range read {
				io.ReadFull(s, make([]byte, n))
			}
		})
		w.connect(a, b)
		s, err := a.Open(t.Context(), b.ID(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		write := func(want int) {
			t.Helper()
			s.SetWriteDeadline(time.Now().Add(time.Second))
			n, err := s.Write(make([]byte, 5000))
			if n != want || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write: %d bytes and %v, want %d and a timeout", n, err, want)
			}
		}
		write(1000)
		read <- 600
		write(600)
		close(read)
		s.Close()
	})
}

func TestListen(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a := w.hostAt("a", "/memory/1")
		b := w.host("b") // must not get the same address
		if got := a.Addr().Addrs; !slices.Equal(got, []string{"/memory/1"}) {
			t.Errorf("address is %v", got)
		}
		if b.Addr().Addrs[0] == "/memory/1" {
			t.Error("an address was given out twice")
		}
		for _, listen := range [][]string{{"/memory/1"}, {"/ip4/127.0.0.1/tcp/1"}, {"/memory/x"}, {"/memory/7", "/memory/8"}} {
			seed := id.Of("c")
			_, err := w.NewHost(transport.Config{Key: ed25519.NewKeyFromSeed(seed[:]), Listen: listen})
			if err == nil {
				t.Errorf("listening on %v succeeded", listen)
			}
		}
		// A restarted node can have its address back.
		w.connect(b, a)
		a.Close()
		again := w.hostAt("a", "/memory/1")
		w.connect(b, again)
	})
}

func TestReaddress(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.host("a"), w.host("b"), w.host("c")
		w.connect(b, a)
		old := a.Addr()
		w.Readdress(a.ID())
		select {
		case <-a.AddrsChanged():
		default:
			t.Error("the change is not announced")
		}
		if slices.Equal(a.Addr().Addrs, old.Addrs) {
			t.Error("the address is the same")
		}
		if !b.Connected(a.ID()) {
			t.Error("the connection is gone")
		}
		if err := c.Connect(t.Context(), old); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("connect to the old address: %v", err)
		}
		w.connect(c, a)
	})
}

// Two incarnations that open within one virtual millisecond still have an order.
func TestIncarnationsRise(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w world) {
		x, y := w.host("a"), w.host("a")
		if x.Incarnation() >= y.Incarnation() {
			t.Errorf("incarnations %d and %d", x.Incarnation(), y.Incarnation())
		}
	})
}

// A full mesh that idles for ten minutes: heartbeats keep it up and nothing happens.
func TestIdleMesh(t *testing.T) {
	t.Parallel()
	const n = 10
	inBubbleWith(t, simnet.Options{Seed: 7}, func(t *testing.T, w world) {
		var hosts []transport.Host
		var events []func() []string
		for i := range n {
			hosts = append(hosts, w.host(fmt.Sprint("host ", i)))
		}
		for i, x := range hosts {
			for _, y := range hosts[:i] {
				w.connect(x, y)
			}
		}
		for _, h := range hosts {
			events = append(events, w.events(h))
		}
		time.Sleep(10 * time.Minute)
		for i, h := range hosts {
			if len(h.Peers()) != n-1 {
				t.Errorf("host %d has %d peers, want %d", i, len(h.Peers()), n-1)
			}
			if e := events[i](); len(e) != 0 {
				t.Errorf("host %d had events %v", i, e)
			}
		}
	})
}

// With one goroutine at work, one seed gives one history.
func TestSeedReplays(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (history []time.Duration) {
		opts := simnet.Options{Seed: seed, Link: simnet.Link{Delay: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.1}}
		inBubbleWith(t, opts, func(t *testing.T, w world) {
			a, b := w.host("a"), w.host("b")
			w.connect(a, b)
			s := w.stream(a, b)
			defer s.Close()
			start := time.Now()
			for range 50 {
				if err := ask(s, "x"); err != nil {
					t.Fatal(err)
				}
				history = append(history, time.Since(start))
			}
		})
		return history
	}
	first := run(1)
	if again := run(1); !slices.Equal(first, again) {
		t.Errorf("one seed, two histories:\n%v\n%v", first, again)
	}
	if other := run(2); slices.Equal(first, other) {
		t.Error("two seeds, one history")
	}
}
