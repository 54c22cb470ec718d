package bond

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
	"github.com/mosaik-go/mosaik/tickets"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

var testNetwork = id.Of("bond test")

// world is a simulated network in virtual time with a directory that tests write.
type world struct {
	*testing.T
	*simnet.Fabric
	pulses Pulses
	wrap   func(transport.Host) transport.Host // of the nodes that follow; nil: as they are

	mu    sync.Mutex // guards all following fields
	who   map[id.ID][]Listing
	nodes []*testNode
}

func inWorld(t *testing.T, opts simnet.Options, fn func(*testing.T, *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fn(t, &world{T: t, Fabric: simnet.New(opts), who: make(map[id.ID][]Listing)})
	})
}

// testNode is a host with a mesh.
type testNode struct {
	world *world
	host  transport.Host
	mesh  *Mesh
	watch chan struct{}
	sinks map[id.ID]*testSink
	blind bool // sees nobody in the directory
}

// node opens a node. Nodes of one world are sorted by identity: each has a larger one than those before.
func (w *world) node() *testNode {
	w.Helper()
	for seed := 0; ; seed++ {
		digest := id.Of(fmt.Sprintf("%s %d %d", w.Name(), len(w.nodes), seed))
		key := ed25519.NewKeyFromSeed(digest[:])
		if n := len(w.nodes); n > 0 && id.PeerIDOf(key).Compare(w.nodes[n-1].host.ID()) < 0 {
			continue
		}
		h, err := w.NewHost(transport.Config{Network: testNetwork, Key: key})
		if err != nil {
			w.Fatal(err)
		}
		if w.wrap != nil {
			h = w.wrap(h)
		}
		n := &testNode{world: w, host: h, watch: make(chan struct{}, 1), sinks: make(map[id.ID]*testSink)}
		for _, other := range w.nodes {
			other.host.Learn(h.Addr())
			h.Learn(other.host.Addr())
		}
		n.mesh = Start(Env{Host: h, Network: testNetwork, Directory: n, Logger: slog.New(slog.DiscardHandler), Pulses: w.pulses})
		w.nodes = append(w.nodes, n)
		w.Cleanup(func() {
			n.mesh.Close()
			h.Close()
		})
		return n
	}
}

func (n *testNode) Members(group id.ID) []Listing {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if n.blind {
		return nil
	}
	var out []Listing
	for _, l := range n.world.who[group] {
		if l.Peer != n.host.ID() {
			out = append(out, l)
		}
	}
	return out
}

func (n *testNode) Self(group id.ID) (Listing, bool) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	for _, l := range n.world.who[group] {
		if l.Peer == n.host.ID() {
			return l, true
		}
	}
	return Listing{}, false
}

func (n *testNode) Watch() (<-chan struct{}, func()) { return n.watch, func() {} }

// list enters the node as a member of the group, or renews its entry.
func (n *testNode) list(group id.ID, entry tickets.Entry) {
	w := n.world
	w.mu.Lock()
	at := slices.IndexFunc(w.who[group], func(l Listing) bool { return l.Peer == n.host.ID() })
	if at < 0 {
		w.who[group] = append(w.who[group], Listing{Peer: n.host.ID(), Network: testNetwork})
		at = len(w.who[group]) - 1
	}
	l := &w.who[group][at]
	l.Revision.Update++
	l.Entry = entry
	w.mu.Unlock()
	w.changed()
}

func (w *world) changed() {
	for _, n := range w.nodes {
		select {
		case n.watch <- struct{}{}:
		default:
		}
	}
}

// join makes the node a member of the group with a secret and codec that edit may change.
func (n *testNode) join(group id.ID, edit func(*Local)) *testSink {
	s := &testSink{world: n.world, up: make(map[id.PeerID]*Bond)}
	s.cond.L = &s.mu
	l := Local{
		Group:       group,
		Secret:      id.Of("secret"),
		Sink:        s,
		Codec:       "test/1",
		Fingerprint: id.Of("schema"),
		Traffic: Traffic{
			Sent:          prometheus.NewCounter(prometheus.CounterOpts{Name: "a"}),
			SentBytes:     prometheus.NewCounter(prometheus.CounterOpts{Name: "b"}),
			Received:      prometheus.NewCounter(prometheus.CounterOpts{Name: "c"}),
			ReceivedBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "d"}),
		},
	}
	if edit != nil {
		edit(&l)
	}
	n.sinks[group] = s
	n.mesh.Add(l)
	n.list(group, nil)
	return s
}

// testSink records what a mesh reports.
type testSink struct {
	world *world

	mu      sync.Mutex // guards all following fields
	cond    sync.Cond
	up      map[id.PeerID]*Bond
	ups     int
	downs   []string
	refused []Refusal
	judged  string // the latest of the own entry
	got     []string
	stalled bool // Receive blocks
}

func (s *testSink) Up(b *Bond) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up[b.Peer()] != nil {
		s.world.Errorf("a second bond to %s came up before the first went down", b.Peer().Short())
	}
	s.up[b.Peer()] = b
	s.ups++
}

func (s *testSink) Down(b *Bond, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up[b.Peer()] != b {
		s.world.Errorf("a bond to %s went down that was not up", b.Peer().Short())
	}
	delete(s.up, b.Peer())
	s.downs = append(s.downs, fmt.Sprintf("closed=%v", closed))
}

func (s *testSink) Receive(b *Bond, messages []wire.Message, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.stalled {
		s.cond.Wait()
	}
	for _, m := range messages {
		s.got = append(s.got, noteOf(m))
	}
}

func (s *testSink) Pulse(b *Bond, m wire.Pulse) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, fmt.Sprintf("pulse of %d in %d", m.Member, m.Term))
	return m.Term%2 == 0
}

func (s *testSink) Pulsed(b *Bond, m wire.Pulsed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, fmt.Sprintf("answer in %d", m.Term))
}

func (s *testSink) Listed([]id.PeerID) {}

func (s *testSink) Refused(_ id.PeerID, r Refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, r)
}

func (s *testSink) Judged(refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judged = refusal
}

func (s *testSink) bond(to *testNode) *Bond {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up[to.host.ID()]
}

func (s *testSink) count() (up, ups, downs, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.up), s.ups, len(s.downs), len(s.refused)
}

func (s *testSink) notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// within waits, in virtual time, until ok holds.
func (w *world) within(d time.Duration, what string, ok func() bool) {
	w.Helper()
	deadline := time.Now().Add(d)
	for {
		synctest.Wait()
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func entryOf(ts ...tickets.Ticket) tickets.Entry { return testEntry{ts} }

type testEntry struct{ tickets []tickets.Ticket }

func (testEntry) ID() id.PeerID               { return id.PeerID{} }
func (testEntry) Tags() []id.ID               { return nil }
func (testEntry) HasTag(string) bool          { return false }
func (e testEntry) Tickets() []tickets.Ticket { return e.tickets }
func (testEntry) StartedAt() time.Time        { return time.Time{} }

var _ = context.Background
