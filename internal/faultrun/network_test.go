//go:build linux

package faultrun

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// network is a namespace for each node, wired to this process's own, which routes between them and drops what it is told to.
// A network of nil is the loopback interface, where nothing can be cut.
type network struct {
	nodes []*os.File // namespaces
	first int        // number of the first node's subnet; all networks of the process have others

	mu    sync.Mutex
	rules map[[2]int]bool // what is dropped: from, to
	down  map[int]bool    // whose wire is unplugged
}

var subnets struct {
	sync.Mutex
	next int
}

// newNetwork makes a network for n nodes.
func newNetwork(t testing.TB, n int) *network {
	t.Helper()
	subnets.Lock()
	first := subnets.next + 1
	subnets.next += n
	subnets.Unlock()
	w := &network{first: first, rules: make(map[[2]int]bool), down: make(map[int]bool)}
	t.Cleanup(w.close)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		ns, err := newNamespace()
		if err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, ns)
		wire := w.wire(i)
		err = w.run(
			"link add "+wire+" type veth peer name eth0 netns /proc/"+strconv.Itoa(os.Getpid())+"/fd/"+strconv.Itoa(int(ns.Fd())),
			"addr add "+w.subnet(i)+".1/24 dev "+wire,
			"link set "+wire+" up",
		)
		if err != nil {
			t.Fatal(err)
		}
		err = w.inside(i, func() error {
			return w.run("link set lo up", "addr add "+w.addr(i)+"/24 dev eth0", "link set eth0 up", "route add default via "+w.subnet(i)+".1")
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *network) wire(i int) string { return "node" + strconv.Itoa(w.first+i) }
func (w *network) subnet(i int) string {
	return fmt.Sprintf("10.%d.%d", (w.first+i)>>8&0xff, (w.first+i)&0xff)
}
func (w *network) addr(i int) string { return w.subnet(i) + ".2" }

// newNamespace makes a network namespace, which lasts as long as the file is open.
func newNamespace() (*os.File, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // the thread must not run anything else in there
	}
	return ns, err
}

// inside calls do in the namespace of a node; processes that it starts are in there too.
func (w *network) inside(i int, do func() error) error {
	if w == nil {
		return do()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(w.nodes[i].Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the namespace of node %d: %w", i, err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
	}()
	return do()
}

func (*network) run(commands ...string) error {
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}

// cut drops all packets from one node to another, silently, until mend.
func (w *network) cut(from, to int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rules[[2]int{from, to}] {
		return nil
	}
	w.rules[[2]int{from, to}] = true
	return w.run(w.rule("add", from, to))
}

func (w *network) rule(verb string, from, to int) string {
	return fmt.Sprintf("rule %s prio 1000 from %s to %s blackhole", verb, w.addr(from), w.addr(to))
}

// unplug takes the wire of a node away, which the node does not notice: the other end goes down.
func (w *network) unplug(i int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[i] = true
	return w.run("link set " + w.wire(i) + " down")
}

// mend ends everything that cut and unplug did.
func (w *network) mend() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for r := range w.rules {
		if err := w.run(w.rule("del", r[0], r[1])); err != nil {
			return err
		}
	}
	clear(w.rules)
	for i := range w.down {
		if err := w.run("link set " + w.wire(i) + " up"); err != nil {
			return err
		}
	}
	clear(w.down)
	return nil
}

func (w *network) close() {
	w.mend()
	for i, ns := range w.nodes {
		w.run("link del " + w.wire(i))
		ns.Close()
	}
}
