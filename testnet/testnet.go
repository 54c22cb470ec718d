// Package testnet runs networks of nodes inside a test: real ones on loopback, and simulated ones under faults, in
// virtual time if the test asks for it. Use it to test your own state machines, streams and programs.
//
//	func TestCounterSurvivesPartition(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {      // virtual time: minutes pass in milliseconds
//			net := testnet.Simulated(t, 5)
//			net.DiscoverAll(t.Context())
//			...                                    // groups.Join(net.Node(i), key, NewCounter)
//			net.Partition([]int{0, 1})             // the other three are together
//			...
//			net.Heal()
//			net.WaitFor("all agree", func() bool { ... })
//		})
//	}
//
// The nodes are the same in both kinds of network; only the transport differs. A [Net] is closed when its test ends, and
// nothing of it is left then. Faults, the seed and the state of all nodes are logged when the test fails.
//
// # Determinism
//
// The seed of a simulated network fixes identities, delays, losses and fault schedules. It does not fix the order in
// which the Go scheduler runs goroutines that are ready at the same instant, nor what programs draw from other random
// sources. So a seed replays the same faults at the same virtual times, and usually but not always the same failure.
package testnet

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/node"
)

// defaultPatience bounds each WaitFor.
const defaultPatience = time.Minute

// pairPause is between the tries of one exchange of DiscoverAll.
const pairPause = 50 * time.Millisecond

// Option changes how a network is made.
type Option func(*settings)

type settings struct {
	nodes    []mosaik.Option
	patience time.Duration
	level    *slog.Level
	seed     uint64
	link     *Link
	simOnly  string // the last option that was given and needs a simulated network
}

// Nodes adds options to every node of the network, those that are added later included. Options that would let a node
// reach out of the test, such as another reach, do so.
func Nodes(opts ...mosaik.Option) Option {
	return func(s *settings) { s.nodes = append(s.nodes, opts...) }
}

// Patience bounds each [Net.WaitFor], and each exchange of [Net.DiscoverAll]. The default is a minute.
func Patience(d time.Duration) Option { return func(s *settings) { s.patience = d } }

// Verbose logs what the nodes log, from the level on, to the test's output. Each line says which node it comes from.
func Verbose(level slog.Level) Option { return func(s *settings) { s.level = &level } }

// Net is a network of nodes inside a test. Nodes have indices from zero in the order in which they were added. Methods
// that fail end the test with Fatal, so they must be called from its goroutine; others may be called from any.
type Net struct {
	t        testing.TB
	name     string
	settings settings
	rng      *rand.Rand      // of identities; guarded by mu
	under    []mosaik.Option // what makes a node live on this kind of network
	explain  func() string   // adds to the message of a failure
	restart  func(int, *mosaik.Network)

	mu        sync.Mutex
	nodes     []*member
	explained bool // the state was printed with a failure; used by the test goroutine
}

// member is what the network knows of one node.
type member struct {
	opts []mosaik.Option
	key  ed25519.PrivateKey // so that a restart has the same identity
	net  *mosaik.Network
	up   bool
}

// Loopback returns a network of n nodes that talk through the real transport over 127.0.0.1. They do not know each other
// yet, see [Net.DiscoverAll]. Besides being closed and killed, such nodes suffer no faults; for partitions use
// [Simulated].
func Loopback(t testing.TB, n int, opts ...Option) *Net {
	t.Helper()
	net := newNet(t, rand.Uint64(), opts)
	if o := net.settings.simOnly; o != "" {
		t.Fatalf("testnet: option %s needs a simulated network", o)
	}
	net.under = append(net.under, mosaik.WithListen("127.0.0.1:0"))
	net.grow(n)
	return net
}

// newNet returns a network without nodes that is closed with the test.
func newNet(t testing.TB, seed uint64, opts []Option) *Net {
	t.Helper()
	s := settings{patience: defaultPatience, seed: seed}
	for _, o := range opts {
		o(&s)
	}
	n := &Net{
		t:        t,
		settings: s,
		rng:      rand.New(rand.NewPCG(s.seed, 0x6d6f7361696b)),
		explain:  func() string { return "" },
		under:    []mosaik.Option{mosaik.WithReach(mosaik.Host), mosaik.WithoutRegistry()},
	}
	n.name = fmt.Sprintf("testnet %s %x", t.Name(), n.rng.Uint64())
	t.Cleanup(n.close)
	return n
}

func (n *Net) grow(count int) {
	n.t.Helper()
	for range count {
		n.Add()
	}
}

// Name returns the name that the nodes open.
func (n *Net) Name() string { return n.name }

// Add opens another node, with options of its own besides those of the network, and returns it. It knows nobody yet.
func (n *Net) Add(opts ...mosaik.Option) *mosaik.Network {
	n.t.Helper()
	n.mu.Lock()
	var seed [ed25519.SeedSize]byte
	for i := 0; i < len(seed); i += 8 {
		binary.LittleEndian.PutUint64(seed[i:], n.rng.Uint64())
	}
	m := &member{opts: opts, key: ed25519.NewKeyFromSeed(seed[:])}
	n.nodes = append(n.nodes, m)
	i := len(n.nodes) - 1
	n.mu.Unlock()
	return n.open(i)
}

// open starts the node of a member that is down.
func (n *Net) open(i int, more ...mosaik.Option) *mosaik.Network {
	n.t.Helper()
	n.mu.Lock()
	own, key := n.nodes[i].opts, n.nodes[i].key
	n.mu.Unlock()
	opts := slices.Clone(n.under)
	if n.settings.level != nil {
		h := slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: *n.settings.level})
		opts = append(opts, mosaik.WithLogger(slog.New(h).With("node", i)))
	}
	opts = slices.Concat(opts, n.settings.nodes, own, more)
	opts = append(opts, func(c *node.Config) error {
		if c.Key == nil { // unless an option has set it
			c.Key = key
		}
		return nil
	})
	net, err := mosaik.New(n.t.Context(), n.name, opts...)
	if err != nil {
		n.t.Fatalf("testnet: open node %d: %v", i, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[i].net = net
	n.nodes[i].up = true
	return net
}

// Len returns the number of nodes, those that are down included.
func (n *Net) Len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.nodes)
}

// Node returns the node with the index. If it is down, it is the one that was closed or killed.
func (n *Net) Node(i int) *mosaik.Network { return n.member(i).net }

func (n *Net) member(i int) member {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if i < 0 || i >= len(n.nodes) {
		n.t.Fatalf("testnet: there is no node %d, only 0 to %d", i, len(n.nodes)-1)
	}
	return *n.nodes[i]
}

// Nodes returns all nodes by index, those that are down included.
func (n *Net) Nodes() []*mosaik.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*mosaik.Network
	for _, m := range n.nodes {
		out = append(out, m.net)
	}
	return out
}

// Up returns the indices of the nodes that run.
func (n *Net) Up() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []int
	for i, m := range n.nodes {
		if m.up {
			out = append(out, i)
		}
	}
	return out
}

// IndexOf returns the index of the node with the identity, or -1.
func (n *Net) IndexOf(p mosaik.PeerID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.IndexFunc(n.nodes, func(m *member) bool { return m.net != nil && m.net.ID() == p })
}

// Close closes a node in order: the others learn that it has left. It does nothing to a node that is down.
func (n *Net) Close(i int) {
	n.t.Helper()
	if net := n.takeDown(i); net != nil {
		if err := net.Close(); err != nil {
			n.t.Errorf("testnet: close node %d: %v", i, err)
		}
	}
}

// Kill ends a node without a goodbye, as if its process had died. On a simulated network its peers see their connections
// break at once, as the operating system would break them; see [Sim.PowerOff] for silence. It does nothing to a node that
// is down.
func (n *Net) Kill(i int) {
	n.t.Helper()
	if net := n.takeDown(i); net != nil {
		net.Node().Kill()
	}
}

// takeDown marks a node as down and returns it, or nil if it was down.
func (n *Net) takeDown(i int) *mosaik.Network {
	n.t.Helper()
	n.member(i) // checks the index
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.nodes[i].up {
		return nil
	}
	n.nodes[i].up = false
	return n.nodes[i].net
}

// Restart opens a node again that is down, with the identity and options it had, at a new address. The nodes that run
// are its bootstrap peers, so it finds its way back by itself, in the background. What the program had opened on it is
// gone: join groups again.
func (n *Net) Restart(i int) *mosaik.Network {
	n.t.Helper()
	if n.member(i).up {
		n.t.Fatalf("testnet: restart node %d: it is up", i)
	}
	var peers []mosaik.PeerAddr
	for _, j := range n.Up() {
		peers = append(peers, n.Node(j).Addr())
	}
	net := n.open(i, mosaik.WithBootstrap(peers...))
	if n.restart != nil {
		n.restart(i, net)
	}
	return net
}

// OnRestart sets what is to be done after a node was restarted, by [Net.Restart] or a fault schedule: usually, to open
// on the new node what the program had open on the old one. Set it before the first restart.
func (n *Net) OnRestart(fn func(i int, node *mosaik.Network)) { n.restart = fn }

// DiscoverAll makes every running node know every other, by a catalog exchange of each pair, and returns when all
// catalogs list all. Each exchange may take as long as a [Net.WaitFor], and is tried again
// when it fails.
func (n *Net) DiscoverAll(ctx context.Context) {
	n.t.Helper()
	up := n.Up()
	errs := make([]error, len(up))
	var wg sync.WaitGroup
	for k, i := range up {
		wg.Go(func() {
			for _, j := range up[k+1:] {
				if err := n.introduce(ctx, i, j); err != nil {
					errs[k] = errors.Join(errs[k], fmt.Errorf("node %d with node %d: %w", i, j, err))
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		n.t.Fatalf("testnet: discover all: %v", err)
	}
	n.WaitFor("all nodes list all others", func() bool { return n.knowEachOther(up) })
}

// introduce has two nodes exchange their catalogs. A busy machine can be too slow for a dial, and a node that is asked too
// often refuses for a moment.
func (n *Net) introduce(ctx context.Context, i, j int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, n.settings.patience)
	defer cancel()
	for {
		last := n.Node(i).Discovery().SyncWith(ctx, n.Node(j).Addr())
		if last == nil {
			return nil
		}
		if err == nil || ctx.Err() == nil { // what failed before the time was over tells more
			err = last
		}
		select {
		case <-time.After(pairPause):
		case <-ctx.Done():
			return err
		}
	}
}

func (n *Net) knowEachOther(nodes []int) bool {
	for _, i := range nodes {
		catalog := n.Node(i).Discovery().Catalog()
		for _, j := range nodes {
			if _, ok := catalog.Get(n.Node(j).ID()); !ok && i != j {
				return false
			}
		}
	}
	return true
}

// close ends the nodes that run, all at once.
func (n *Net) close() {
	if n.t.Failed() && !n.explained {
		n.t.Logf("testnet: when the test failed:\n%s", n.state())
	}
	var wg sync.WaitGroup
	for _, i := range n.Up() {
		wg.Go(func() { n.Close(i) })
	}
	wg.Wait()
}

// peerID returns the identity of a node.
func (n *Net) peerID(i int) id.PeerID {
	n.t.Helper()
	return n.Node(i).ID()
}
