package pebble_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
	"github.com/mosaik-go/mosaik/id"
)

// The tests in this file run every node as a process of its own, this test binary again, so that it can be killed. Each
// process runs calls all the time and writes down what comes of them, line by line: what it has written is known even if
// it is killed in the next moment.

// tally is the machine: how often each id was applied.
type tally struct{ count map[uint64]uint32 }

func newTally() *tally { return &tally{make(map[uint64]uint32)} }

func (*tally) Signature() id.ID { return id.Of("tally v1") }

func (m *tally) Apply(_ groups.ApplyContext, what uint64) []byte {
	m.count[what]++
	return nil
}

// Query returns all ids and their counts, 12 bytes each.
func (m *tally) Query(struct{}) []byte {
	b := make([]byte, 0, 12*len(m.count))
	for what, n := range m.count {
		b = binary.BigEndian.AppendUint64(b, what)
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// nodeSpec says to a process which node it is.
type nodeSpec struct {
	Network string
	Index   int
	Life    int
	Dir     string
	Members int
	Workers int
}

const nodeEnv = "MOSAIK_TEST_NODE"

// Lines that a process writes: a letter, and an id for those that are about a call.
const (
	lineOnline  = 'O' // the group is online here
	lineQuiet   = 'Q' // no call is under way, nor will be
	lineClosed  = 'C' // closed in order
	lineStarted = 'S' // a call begins
	lineApplied = 'A' // it was acknowledged
	lineNever   = 'N' // it had and will have no effect
	lineUnknown = 'U'
)

// nodeMain is the process of one node. It ends on SIGTERM, in order.
func nodeMain(text string) error {
	var spec nodeSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	store, err := pebble.Open(filepath.Join(spec.Dir, "store"))
	if err != nil {
		return err
	}
	net, err := mosaik.New(context.Background(), spec.Network,
		mosaik.WithSeed(fmt.Sprint(spec.Network, spec.Index)), mosaik.WithStorage(store), mosaik.WithListen("127.0.0.1:0"))
	if err != nil {
		return err
	}
	g, err := groups.Join(net, groups.KeyFrom("the key of "+spec.Network), newTally, groups.ExpectMembers(spec.Members),
		groups.WithConsensus(groups.Consensus{BootstrapDelay: 500 * time.Millisecond, RemoveAfter: 20 * time.Second, Patience: 30 * time.Second}))
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(letter byte, what uint64) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf("%c %d\n", letter, what)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		for g.When().Online(ctx) == nil {
			say(lineOnline, uint64(g.Committed()))
			if g.When().Offline(ctx) != nil {
				return
			}
		}
	})
	for w := range spec.Workers {
		wg.Go(func() {
			first := uint64(spec.Index)<<56 | uint64(spec.Life)<<40 | uint64(w)<<32
			for n := uint64(1); ctx.Err() == nil; n++ {
				what := first | n
				say(lineStarted, what)
				_, err := g.Execute(context.Background(), what)
				switch {
				case err == nil:
					say(lineApplied, what)
				case errors.Is(err, groups.ErrNotApplied):
					fmt.Fprintf(os.Stderr, "node %d: %d: %v\n", spec.Index, what, err)
					say(lineNever, what)
				default:
					fmt.Fprintf(os.Stderr, "node %d: %d: %v\n", spec.Index, what, err)
					say(lineUnknown, what)
				}
				if errors.Is(err, groups.ErrClosed) {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	for s := range signals {
		if s == syscall.SIGTERM {
			break
		}
		if s == syscall.SIGUSR1 {
			stop()
			wg.Wait()
			say(lineQuiet, 0)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		res, err := g.Query(ctx, struct{}{}, groups.Strong)
		cancel()
		if err != nil {
			return err
		}
		path := filepath.Join(spec.Dir, "state")
		if err := errors.Join(os.WriteFile(path+".new", res.Value, 0o600), os.Rename(path+".new", path)); err != nil {
			return err
		}
	}
	err = errors.Join(net.Close(), store.Close()) // with calls under way
	stop()
	wg.Wait()
	say(lineClosed, 0)
	return err
}

// fleet is nodes, each a process.
type fleet struct {
	t     *testing.T
	spec  nodeSpec
	dirs  []string
	nodes []*nodeProcess

	registry string // directory in which the nodes find each other

	mu    sync.Mutex // guards all following fields
	state map[uint64]byte
	calls map[byte]int
	bad   []string // calls that failed on a node that nobody had stopped
}

type nodeProcess struct {
	cmd     *exec.Cmd
	life    int
	online  chan struct{} // closed with the first line of the kind
	quiet   chan struct{} // likewise
	read    chan struct{} // closed when all it wrote is read
	closing bool
	closed  bool
	once    sync.Once
}

func newFleet(t *testing.T, n, workers int) *fleet {
	t.Helper()
	f := &fleet{
		t:     t,
		spec:  nodeSpec{Network: fmt.Sprintf("%s %x", t.Name(), rand.Uint64()), Members: n, Workers: workers},
		nodes: make([]*nodeProcess, n),
		state: make(map[uint64]byte),
		calls: make(map[byte]int),

		registry: filepath.Join(t.TempDir(), "registry"),
	}
	for range n {
		f.dirs = append(f.dirs, t.TempDir())
	}
	t.Cleanup(func() {
		for i := range f.nodes {
			f.kill(i)
		}
	})
	return f
}

// start runs a node, again if it ran before.
func (f *fleet) start(i int) {
	f.t.Helper()
	p := &nodeProcess{online: make(chan struct{}), quiet: make(chan struct{}), read: make(chan struct{}), life: 1}
	if old := f.nodes[i]; old != nil {
		p.life = old.life + 1
	}
	spec := f.spec
	spec.Index, spec.Life, spec.Dir = i, p.life, f.dirs[i]
	text, _ := json.Marshal(spec)
	me, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	p.cmd = exec.Command(me)
	p.cmd.Env = append(os.Environ(), nodeEnv+"="+string(text), registry.Env+"="+f.registry)
	p.cmd.Stderr = f.t.Output()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.nodes[i] = p
	go f.listen(p, stdout)
}

// listen takes down what a process writes.
func (f *fleet) listen(p *nodeProcess, r io.Reader) {
	defer close(p.read)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var letter byte
		var what uint64
		if _, err := fmt.Sscanf(lines.Text(), "%c %d", &letter, &what); err != nil {
			continue
		}
		f.mu.Lock()
		switch letter {
		case lineOnline:
			p.once.Do(func() { close(p.online) })
		case lineQuiet:
			close(p.quiet)
		case lineClosed:
			p.closed = true
		default:
			f.state[what] = letter
			f.calls[letter]++
			if (letter == lineNever || letter == lineUnknown) && !p.closing {
				f.bad = append(f.bad, lines.Text())
			}
		}
		f.mu.Unlock()
	}
}

// kill ends a node with SIGKILL, if it runs, and takes down all it wrote before.
func (f *fleet) kill(i int) {
	p := f.nodes[i]
	if p == nil || p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Kill()
	<-p.read
	p.cmd.Wait()
}

// stop ends a node in order.
func (f *fleet) stop(i int) {
	f.t.Helper()
	p := f.nodes[i]
	f.mu.Lock()
	p.closing = true
	f.mu.Unlock()
	p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(time.Minute, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.read
	if err := p.cmd.Wait(); err != nil || !p.closed {
		f.t.Errorf("node %d did not close: %v", i, err)
	}
}

func (f *fleet) waitOnline(i int) {
	f.t.Helper()
	f.wait(i, "online", f.nodes[i].online)
}

func (f *fleet) wait(i int, what string, line <-chan struct{}) {
	f.t.Helper()
	select {
	case <-line:
	case <-time.After(time.Minute):
		f.t.Fatalf("node %d is not %s", i, what)
	case <-f.nodes[i].read:
		f.t.Fatalf("node %d has ended", i)
	}
}

func (f *fleet) counts() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d calls begun, %d acknowledged, %d without effect, %d unknown",
		f.calls[lineStarted], f.calls[lineApplied], f.calls[lineNever], f.calls[lineUnknown])
}

// check compares what the nodes have with what the callers were told.
func (f *fleet) check() {
	f.t.Helper()
	var all []map[uint64]uint32
	for i := range f.nodes {
		f.nodes[i].cmd.Process.Signal(syscall.SIGUSR1)
	}
	for i := range f.nodes {
		f.wait(i, "quiet", f.nodes[i].quiet)
	}
	for i := range f.nodes {
		f.nodes[i].cmd.Process.Signal(syscall.SIGUSR2)
	}
	for i := range f.nodes {
		path := filepath.Join(f.dirs[i], "state")
		deadline := time.Now().Add(time.Minute)
		b, err := os.ReadFile(path)
		for ; err != nil; b, err = os.ReadFile(path) {
			if time.Now().After(deadline) {
				f.t.Fatalf("node %d does not answer: %v", i, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		have := make(map[uint64]uint32)
		for ; len(b) > 0; b = b[12:] {
			have[binary.BigEndian.Uint64(b)] = binary.BigEndian.Uint32(b[8:])
		}
		all = append(all, have)
	}
	for i := range f.nodes {
		f.stop(i)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, have := range all {
		lost, doubled, risen, invented := 0, 0, 0, 0
		for what, letter := range f.state {
			n := have[what]
			switch {
			case n > 1:
				doubled++
			case n == 0 && letter == lineApplied:
				lost++
			case n == 1 && letter == lineNever:
				risen++
			}
		}
		for what := range have {
			if _, ok := f.state[what]; !ok {
				invented++
			}
		}
		if lost+doubled+risen+invented > 0 {
			f.t.Errorf("node %d: %d acknowledged and lost, %d applied twice, %d applied though they were said not to be, %d never sent",
				i, lost, doubled, risen, invented)
		}
	}
}

func length(short, long time.Duration) time.Duration {
	if testing.Short() {
		return short
	}
	return long
}

// TestKilledProcesses kills one node, or all at once, at random moments under load: everything acknowledged is there
// afterwards, once.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 8)
	for i := range f.nodes {
		f.start(i)
	}
	for i := range f.nodes {
		f.waitOnline(i)
	}
	kills, blackouts := 0, 0
	for end := time.Now().Add(length(6*time.Second, 25*time.Second)); time.Now().Before(end); {
		time.Sleep(rand.N(1500 * time.Millisecond))
		if rand.N(3) == 0 {
			for i := range f.nodes {
				f.nodes[i].cmd.Process.Kill()
			}
			for i := range f.nodes {
				f.kill(i)
			}
			for i := range f.nodes {
				f.start(i)
			}
			for i := range f.nodes {
				f.waitOnline(i)
			}
			blackouts++
			continue
		}
		i := rand.N(3)
		f.kill(i)
		time.Sleep(rand.N(500 * time.Millisecond))
		f.start(i)
		if rand.N(2) == 0 {
			f.waitOnline(i)
		}
		kills++
	}
	for i := range f.nodes {
		f.waitOnline(i)
	}
	f.check()
	t.Logf("%d nodes killed, %d times all at once; %s", kills, blackouts, f.counts())
}

// TestRollingRestart restarts five nodes one after the other, in order, under load: no call fails on a node that was not
// being stopped, and none is left in doubt on one that was.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 5, 4)
	for i := range f.nodes {
		f.start(i)
	}
	for i := range f.nodes {
		f.waitOnline(i)
	}
	time.Sleep(3 * time.Second) // until all vote
	for i := range f.nodes {
		f.stop(i)
		f.start(i)
		f.waitOnline(i)
		time.Sleep(200 * time.Millisecond)
	}
	f.mu.Lock()
	if len(f.bad) > 0 || f.calls[lineUnknown] > 0 {
		t.Errorf("%d calls failed on nodes that ran: %.20q; %d in doubt", len(f.bad), f.bad, f.calls[lineUnknown])
	}
	f.mu.Unlock()
	f.check()
	t.Logf("%s", f.counts())
}
