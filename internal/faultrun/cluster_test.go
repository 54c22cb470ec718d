//go:build linux

package faultrun

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// cluster is nodes, each a process in a namespace of its own.
type cluster struct {
	t        testing.TB
	name     string
	durable  bool
	settings settings
	net      *network // nil: all on loopback, in this process's namespace
	dir      string
	out      string // directory of what is to be kept
	began    time.Time
	nodes    []*node

	mu       sync.Mutex // guards all following fields
	timeline *os.File
	diverged [kinds]map[uint64]bool // commands that merges did not take over, as the nodes told
	events   map[string]int
}

// limit is for what should take a moment, and may take long on a machine that is slow and has other things to do.
const limit = 3 * time.Minute

// newCluster makes a cluster whose nodes are not started yet. The stores of durable nodes are on small disks, if the
// machine lets us have some.
func newCluster(t testing.TB, n int, durable bool, set settings) *cluster {
	t.Helper()
	c := &cluster{
		t: t, name: fmt.Sprintf("%s %x", t.Name(), rand.Uint64()), durable: durable, settings: set,
		dir: t.TempDir(), out: t.ArtifactDir(), began: time.Now(), events: make(map[string]int),
	}
	for k := range c.diverged {
		c.diverged[k] = make(map[uint64]bool)
	}
	var err error
	if c.timeline, err = os.Create(filepath.Join(c.out, "timeline.txt")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.timeline.Close() })
	if wrapped {
		c.net = newNetwork(t, n)
	} else {
		t.Log("this machine gives no namespaces: all nodes are on loopback, and networks and disks do not fail")
	}
	for i := range n {
		c.nodes = append(c.nodes, &node{c: c, index: i})
		if !durable {
			continue
		}
		if err := os.Mkdir(c.disk(i), 0o700); err != nil {
			t.Fatal(err)
		}
		if wrapped {
			if err := syscall.Mount("tmpfs", c.disk(i), "tmpfs", 0, roomy); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(c.disk(i), syscall.MNT_DETACH) })
		}
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
	})
	return c
}

func (c *cluster) disk(i int) string  { return filepath.Join(c.dir, fmt.Sprint("disk", i)) }
func (c *cluster) store(i int) string { return filepath.Join(c.disk(i), "store") }

// note writes a line into the timeline.
func (c *cluster) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.timeline, "%8.3f %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// peer returns the identity of a node.
func (c *cluster) peer(i int) id.PeerID {
	s := spec{Network: c.name}
	digest := id.Of(s.seed(i))
	return id.PeerIDOf(ed25519.NewKeyFromSeed(digest[:]))
}

// startAll starts nodes and waits until their groups are whole.
func (c *cluster) startAll() {
	c.t.Helper()
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			c.t.Fatal(err)
		}
	}
	c.mustBeWhole()
}

// mustBeWhole waits until the cluster is whole.
func (c *cluster) mustBeWhole() {
	c.t.Helper()
	if err := c.awaitWhole(c.t.Context(), limit); err != nil {
		c.t.Fatal(err)
	}
}

// leader returns the node that leads a group, as one that leads says, or -1.
func (c *cluster) leader(group int) int {
	best, term := -1, uint64(0)
	for i, n := range c.nodes {
		if st := n.status(); st != nil && st[group].Leads && st[group].Term > term {
			best, term = i, st[group].Term
		}
	}
	return best
}

// awaitLeader returns the node that leads a group, as soon as there is one.
func (c *cluster) awaitLeader(group int) int {
	c.t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if i := c.leader(group); i >= 0 {
			return i
		}
	}
	c.t.Fatalf("no node leads the %s", kindNames[group])
	return -1
}

// whole says in what the cluster differs from one in which all members of all groups vote, in one history; nil: in nothing.
func (c *cluster) whole() error {
	var first []groupStatus
	for i, n := range c.nodes {
		st := n.status()
		if st == nil {
			return fmt.Errorf("node %d does not answer", i)
		}
		if first == nil {
			first = st
		}
		for k, g := range st {
			if !g.Online || g.Genesis != first[k].Genesis || g.Leader != first[k].Leader || g.Voters != len(c.nodes) || g.Members != len(c.nodes) {
				return fmt.Errorf("%s on node %d: %d of %d members vote\n%s\nthe same on node 0:\n%s", kindNames[k], i, g.Voters, g.Members, g.Text, first[k].Text)
			}
		}
	}
	return nil
}

// awaitWhole waits until the cluster is whole.
func (c *cluster) awaitWhole(ctx context.Context, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		err := c.whole()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not whole after %v: %w", within, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
