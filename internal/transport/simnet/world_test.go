package simnet_test

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

// world is a fabric in a bubble, with hosts that echo.
type world struct {
	*testing.T
	*simnet.Fabric
}

// inBubble runs fn in virtual time on links of exactly 10 ms.
func inBubble(t *testing.T, fn func(t *testing.T, w world)) {
	inBubbleWith(t, simnet.Options{Link: simnet.Link{Delay: 10 * time.Millisecond}}, fn)
}

func inBubbleWith(t *testing.T, opts simnet.Options, fn func(t *testing.T, w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, world{t, simnet.New(opts)}) })
}

func (w world) host(name string) transport.Host {
	w.Helper()
	return w.hostAt(name, "")
}

func (w world) hostAt(name, listen string) transport.Host {
	w.Helper()
	seed := id.Of(name)
	cfg := transport.Config{Network: id.Of("test"), Key: ed25519.NewKeyFromSeed(seed[:])}
	if listen != "" {
		cfg.Listen = []string{listen}
	}
	h, err := w.NewHost(cfg)
	if err != nil {
		w.Fatalf("open host %s: %v", name, err)
	}
	w.Cleanup(func() { h.Close() })
	h.Handle("echo", func(s transport.Stream) {
		defer s.Close()
		io.Copy(s, s)
	})
	return h
}

func (w world) connect(from, to transport.Host) {
	w.Helper()
	if err := from.Connect(w.Context(), to.Addr()); err != nil {
		w.Fatalf("connect: %v", err)
	}
	w.settle()
}

// settle lets what is under way arrive: less than a heartbeat passes.
func (w world) settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

func (w world) stream(from, to transport.Host) transport.Stream {
	w.Helper()
	s, err := from.Open(w.Context(), to.ID(), "echo")
	if err != nil {
		w.Fatalf("open: %v", err)
	}
	return s
}

// ask sends text over the stream and waits for the echo.
func ask(s transport.Stream, text string) error {
	if _, err := s.Write([]byte(text)); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("got %q, want %q", got, text)
	}
	return nil
}

// events lists a host's events with their times since now.
func (w world) events(h transport.Host) func() []string {
	var mu sync.Mutex
	var out []string
	start := time.Now()
	h.Watch(func(e transport.Event) {
		mu.Lock()
		defer mu.Unlock()
		out = append(out, fmt.Sprintf("%v %d %v", time.Since(start), e.Kind, e.Code))
	})
	return func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(out)
	}
}
