package discovery

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// world is a simulated network and the id of the mosaik network on it.
type world struct {
	t       *testing.T
	fabric  *simnet.Fabric
	network id.ID
	keys    byte
}

// testNode is a node on a simulated network.
type testNode struct {
	*Discovery
	host transport.Host
	key  ed25519.PrivateKey
	log  *logBuffer
}

// inWorld runs a test in virtual time with a simulated network.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func newWorld(t *testing.T) *world {
	return &world{t: t, fabric: simnet.New(simnet.Options{Seed: 1}), network: id.Of("discovery test")}
}

// newKey returns a key that this world has not given out before.
func (w *world) newKey() ed25519.PrivateKey {
	w.keys++
	return keyOf(w.keys)
}

func keyOf(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// numberedKey returns a key that no node of a world has.
func numberedKey(n int) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, uint64(n))
	seed[len(seed)-1] = 1
	return ed25519.NewKeyFromSeed(seed)
}

// hasAll reports whether a text has all parts.
func hasAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// nodeOptions says how a test node differs from an ordinary one.
type nodeOptions struct {
	Config
	key       ed25519.PrivateKey
	network   id.ID
	bootstrap []*testNode
	tags      []string
	registry  bool
	metrics   prometheus.Registerer
	wrap      func(transport.Host) transport.Host
}

func (w *world) start(o nodeOptions) *testNode {
	w.t.Helper()
	if o.key == nil {
		o.key = w.newKey()
	}
	if o.network.IsZero() {
		o.network = w.network
	}
	host, err := w.fabric.NewHost(transport.Config{Network: o.network, Key: o.key})
	if err != nil {
		w.t.Fatal(err)
	}
	if o.wrap != nil {
		host = o.wrap(host)
	}
	var peers []PeerAddr
	for _, b := range o.bootstrap {
		peers = append(peers, b.host.Addr())
	}
	log := new(logBuffer)
	d, err := Start(Env{
		Host: host, Key: o.key, Network: o.network, Bootstrap: peers, Tags: o.tags, Registry: o.registry, Metrics: o.metrics,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, o.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	n := &testNode{d, host, o.key, log}
	w.t.Cleanup(n.stop)
	return n
}

// node starts an ordinary node.
func (w *world) node(bootstrap ...*testNode) *testNode {
	w.t.Helper()
	return w.start(nodeOptions{bootstrap: bootstrap})
}

// nodes starts n nodes of which all but the first have the first as bootstrap peer, and waits until all see all.
func (w *world) nodes(n int, o nodeOptions) []*testNode {
	w.t.Helper()
	out := []*testNode{w.start(o)}
	o.bootstrap = append(o.bootstrap, out[0])
	for len(out) < n {
		out = append(out, w.start(o))
	}
	meet(w.t, 10*time.Second, out...)
	return out
}

// raw opens a host without discovery on it, for a test that speaks the protocols itself.
func (w *world) raw(key ed25519.PrivateKey) transport.Host {
	w.t.Helper()
	h, err := w.fabric.NewHost(transport.Config{Network: w.network, Key: key})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { h.Close() })
	return h
}

// stop closes the node in order.
func (n *testNode) stop() {
	n.Close(context.Background())
	n.host.Close()
}

// kill ends the node like a crash: peers see their connections break.
func (n *testNode) kill() {
	n.host.Kill()
	n.Kill()
}

// sees reports whether a node has a signed entry of another in its catalog.
func (n *testNode) sees(o *testNode) bool {
	p, ok := n.Catalog().Get(o.self)
	return ok && p.Signed()
}

// eventually waits until the condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// meet waits until all nodes see all.
func meet(t *testing.T, within time.Duration, nodes ...*testNode) {
	t.Helper()
	eventually(t, within, "all see all", func() bool {
		for _, n := range nodes {
			for _, o := range nodes {
				if !n.sees(o) {
					return false
				}
			}
		}
		return true
	})
}

// listener collects the events of a node.
type listener struct {
	mu     sync.Mutex
	events []Event
	times  []time.Time
}

// listen subscribes to a node's events until the test ends.
func (n *testNode) listen(t *testing.T) *listener {
	l := new(listener)
	ctx, cancel := context.WithCancel(context.Background())
	seq := n.Events(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range seq {
			l.mu.Lock()
			l.events = append(l.events, e)
			l.times = append(l.times, time.Now())
			l.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// count returns how many events there were that match.
func (l *listener) count(match func(Event) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if match(e) {
			n++
		}
	}
	return n
}

// got waits until there was an event of the kind about the node.
func (l *listener) got(t *testing.T, within time.Duration, kind EventKind, about *testNode) Event {
	t.Helper()
	var out Event
	eventually(t, within, fmt.Sprintf("%v %v", kind, about.self.Short()), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e := range l.events {
			if e.Kind == kind && e.Peer == about.self {
				out = e
				return true
			}
		}
		return false
	})
	return out
}

// clear forgets the events so far.
func (l *listener) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.times = nil, nil
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.events)
}

// logBuffer is a log that a test can look into.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) has(text string) bool { return l.count(text) > 0 }

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}
