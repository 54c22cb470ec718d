package discovery

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testNode is a node on a simulated network.
type testNode struct {
	*Discovery
	host transport.Host
	key  ed25519.PrivateKey
}

// world is a simulated network and the id of the mosaik network on it.
type world struct {
	t       *testing.T
	fabric  *simnet.Fabric
	network id.ID
}

func newWorld(t *testing.T) *world {
	return &world{t, simnet.New(simnet.Options{Seed: 1}), id.Random()}
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// nodeOptions says how a test node differs from an ordinary one.
type nodeOptions struct {
	Config
	key       ed25519.PrivateKey
	network   id.ID
	bootstrap []PeerAddr
	tags      []string
	registry  bool
}

func (w *world) start(o nodeOptions) *testNode {
	w.t.Helper()
	if o.key == nil {
		o.key = newKey(w.t)
	}
	if o.network.IsZero() {
		o.network = w.network
	}
	host, err := w.fabric.NewHost(transport.Config{Network: o.network, Key: o.key})
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := Start(Env{Host: host, Key: o.key, Network: o.network, Bootstrap: o.bootstrap, Tags: o.tags, Registry: o.registry}, o.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	n := &testNode{d, host, o.key}
	w.t.Cleanup(n.stop)
	return n
}

// node starts an ordinary node.
func (w *world) node(bootstrap ...*testNode) *testNode {
	w.t.Helper()
	var o nodeOptions
	for _, b := range bootstrap {
		o.bootstrap = append(o.bootstrap, b.host.Addr())
	}
	return w.start(o)
}

// stop closes the node in order.
func (n *testNode) stop() {
	n.Close(context.Background())
	n.host.Close()
}

// kill ends the node like a crash.
func (n *testNode) kill() {
	n.host.Kill()
	n.Kill()
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

// meet waits until all nodes have all others in their catalogs.
func meet(t *testing.T, within time.Duration, nodes ...*testNode) {
	t.Helper()
	eventually(t, within, "all see all", func() bool {
		for _, n := range nodes {
			for _, o := range nodes {
				if p, ok := n.Catalog().Get(o.self); !ok || !p.Signed() {
					return false
				}
			}
		}
		return true
	})
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
