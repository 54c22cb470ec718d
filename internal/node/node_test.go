package node_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// diary is what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("what happened was %q, want %q", d.lines, lines)
	}
}

// service writes its end into a diary.
type service struct {
	name  string
	diary *diary
	node  *node.Node
	err   error // of Close
	hang  bool  // Close waits for its context
}

func (s *service) Close(ctx context.Context) error {
	if s.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := s.node.Host.Connect(ctx, s.node.Host.Addr()); !errors.Is(err, transport.ErrSelf) {
		s.diary.note("the transport was closed before " + s.name)
	}
	s.diary.note("close " + s.name)
	return s.err
}

func (s *service) Kill() { s.diary.note("kill " + s.name) }

// host notes when a transport ends.
type host struct {
	transport.Host
	diary *diary
}

func (h *host) Close() error {
	h.diary.note("close host")
	return h.Host.Close()
}

func (h *host) Kill() {
	h.diary.note("kill host")
	h.Host.Kill()
}

// inBubble runs fn with a node on a simulated network.
func inBubble(t *testing.T, fn func(t *testing.T, n *node.Node, d *diary)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := new(diary)
		n, err := node.Open(t.Context(), config(simnet.New(simnet.Options{}), d))
		if err != nil {
			t.Fatal(err)
		}
		defer n.Kill() // does nothing if the test has closed it
		fn(t, n, d)
	})
}

func config(f *simnet.Fabric, d *diary) node.Config {
	seed := id.Of("node")
	return node.Config{
		Network:       id.Of("net"),
		Key:           ed25519.NewKeyFromSeed(seed[:]),
		Reach:         transport.ReachHost,
		Listen:        []string{"/memory/1"},
		ShutdownGrace: 10 * time.Second,
		NewHost: func(cfg transport.Config) (transport.Host, error) {
			h, err := f.NewHost(cfg)
			if err != nil {
				return nil, err
			}
			return &host{h, d}, nil
		},
	}
}

// attach attaches a service of the name.
func attach(t *testing.T, n *node.Node, s *service) {
	t.Helper()
	got, err := node.Attach(n, s.name, func(n *node.Node) (*service, error) {
		s.node = n
		return s, nil
	})
	if err != nil || got != s {
		t.Fatalf("attach %s: %v, %v", s.name, got, err)
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, n *node.Node, d *diary) {
		first := &service{name: "a", diary: d}
		attach(t, n, first)
		again, err := node.Attach(n, "a", func(*node.Node) (*service, error) {
			t.Error("a service that is there was started again")
			return nil, nil
		})
		if err != nil || again != first {
			t.Errorf("second attach: %v, %v", again, err)
		}

		// What fails to start is not there, and can be tried again.
		broken := errors.New("broken")
		if _, err := node.Attach(n, "b", func(*node.Node) (*service, error) { return nil, broken }); err != broken {
			t.Errorf("got %v, want the error of the start", err)
		}
		attach(t, n, &service{name: "b", diary: d})

		n.Close()
		if _, err := node.Attach(n, "a", func(*node.Node) (*service, error) { return nil, nil }); err != node.ErrClosed {
			t.Errorf("attach after Close: got %v, want ErrClosed", err)
		}
	})
}

func TestAttachConcurrently(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, n *node.Node, d *diary) {
		var wg sync.WaitGroup
		started := 0
		for range 20 {
			wg.Go(func() {
				s, err := node.Attach(n, "a", func(n *node.Node) (*service, error) {
					started++
					return &service{name: "a", diary: d, node: n}, nil
				})
				if err != nil || s == nil {
					t.Errorf("attach: %v, %v", s, err)
				}
			})
		}
		wg.Wait()
		if started != 1 {
			t.Errorf("started %d times", started)
		}
	})
}

// The end comes from the top down, and one who fails does not keep the others from departing.
func TestClose(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, n *node.Node, d *diary) {
		attach(t, n, &service{name: "groups", diary: d})
		attach(t, n, &service{name: "streams", diary: d, err: errors.New("spilled")})
		attach(t, n, &service{name: "top", diary: d})
		errs := make(chan error, 3)
		for range 3 {
			go func() { errs <- n.Close() }()
		}
		for range 3 {
			if err := <-errs; err == nil || !strings.Contains(err.Error(), "close streams: spilled") {
				t.Errorf("Close: got %v, want the error of the service with its name", err)
			}
		}
		d.want(t, "close top", "close streams", "close groups", "close host")
		n.Kill() // too late
		d.want(t, "close top", "close streams", "close groups", "close host")
		if err := n.Disc.AddTags("x"); !errors.Is(err, discovery.ErrClosed) {
			t.Errorf("discovery after Close: got %v, want ErrClosed", err)
		}
	})
}

// A service that hangs is given most of the grace and no more; the others are still asked, and the transport says goodbye.
func TestCloseInTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, n *node.Node, d *diary) {
		attach(t, n, &service{name: "good", diary: d})
		attach(t, n, &service{name: "hangs", diary: d, hang: true})
		start := time.Now()
		err := n.Close()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "close hangs") {
			t.Errorf("Close: got %v, want to hear who hung", err)
		}
		if took := time.Since(start); took < 7*time.Second || took > 10*time.Second {
			t.Errorf("Close took %v, want less than the grace of 10s", took)
		}
		d.want(t, "close good", "close host")
	})
}

func TestKill(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, n *node.Node, d *diary) {
		attach(t, n, &service{name: "groups", diary: d})
		attach(t, n, &service{name: "streams", diary: d})
		n.Kill()
		n.Kill()
		d.want(t, "kill host", "kill streams", "kill groups")
		if err := n.Close(); err != node.ErrClosed {
			t.Errorf("Close after Kill: got %v, want ErrClosed", err)
		}
	})
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, f := new(diary), simnet.New(simnet.Options{})
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := node.Open(cancelled, config(f, d)); !errors.Is(err, context.Canceled) {
			t.Errorf("with a cancelled context: got %v", err)
		}

		cfg := config(f, d)
		broken := errors.New("no socket")
		cfg.NewHost = func(transport.Config) (transport.Host, error) { return nil, broken }
		if _, err := node.Open(t.Context(), cfg); !errors.Is(err, broken) {
			t.Errorf("without a transport: got %v", err)
		}

		cfg = config(f, d)
		cfg.Discovery.AnnounceInterval = -time.Second
		if _, err := node.Open(t.Context(), cfg); err == nil {
			t.Error("with a bad configuration of discovery: no error")
		}
		d.want(t, "close host")
		n, err := node.Open(t.Context(), config(f, d)) // the address is free again
		if err != nil {
			t.Fatal(err)
		}
		if n.ID() != id.PeerIDOf(n.Key) {
			t.Errorf("ID is %v", n.ID())
		}
		n.Close()
	})
}
