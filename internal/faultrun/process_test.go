//go:build linux

package faultrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// node is one of them, in all its lives.
type node struct {
	c     *cluster
	index int
	busy  sync.Mutex // held by who does something to it

	mu      sync.Mutex // guards all following fields
	proc    *process   // nil while it is dead
	lives   int
	stopped bool
}

// process is one life of a node.
type process struct {
	n     *node
	life  int
	cmd   *exec.Cmd
	stdin interface{ Write([]byte) (int, error) }
	up    chan reply    // capacity one: the first news, which say that it is open or why not
	dead  chan struct{} // closed when all it wrote is read

	write sync.Mutex
	mu    sync.Mutex // guards all following fields
	last  uint64
	asked map[uint64]chan reply
}

var (
	errDead    = errors.New("the process has ended")
	errCorrupt = errors.New("the store says that it is damaged")
)

// start gives a node a new life and waits until it is open.
func (n *node) start() error {
	c := n.c
	s := spec{Network: c.name, Index: n.index, Members: len(c.nodes), Settings: c.settings}
	if c.durable {
		s.Store = c.store(n.index)
	}
	if c.net != nil {
		s.Listen = c.net.addr(n.index) + ":4001"
		for i := range c.nodes {
			if i != n.index {
				s.Bootstrap = append(s.Bootstrap, id.PeerAddr{ID: c.peer(i), Addrs: []string{"/ip4/" + c.net.addr(i) + "/tcp/4001", "/ip4/" + c.net.addr(i) + "/udp/4001/quic-v1"}}.String())
			}
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	me, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.out, fmt.Sprintf("node%d.log", n.index)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.mu.Lock()
	n.lives++
	p := &process{n: n, life: n.lives, cmd: exec.Command(me), up: make(chan reply, 1), dead: make(chan struct{}), asked: make(map[uint64]chan reply)}
	n.mu.Unlock()
	fmt.Fprintf(log, "--- life %d\n", p.life)
	p.cmd.Env = append(os.Environ(), nodeEnv+"="+string(text), "MOSAIK_REGISTRY="+filepath.Join(c.dir, "registry"),
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.net.inside(n.index, p.cmd.Start); err != nil {
		return err
	}
	go p.listen(json.NewDecoder(stdout))
	c.note("node %d starts, life %d", n.index, p.life)
	failed := func(err error) error {
		p.cmd.Process.Kill()
		<-p.dead
		p.cmd.Wait()
		c.note("node %d did not come up: %v", n.index, err)
		return fmt.Errorf("node %d: %w", n.index, err)
	}
	var first reply
	select {
	case first = <-p.up:
	case <-p.dead: // perhaps with last words
		select {
		case first = <-p.up:
		default:
			return failed(errDead)
		}
	case <-time.After(limit):
		return failed(fmt.Errorf("not open after %v", limit))
	}
	if first.Corrupt {
		return failed(fmt.Errorf("%w: %s", errCorrupt, first.Err))
	}
	if !first.Up {
		return failed(errors.New(first.Err))
	}
	n.mu.Lock()
	n.proc = p
	n.mu.Unlock()
	c.note("node %d is open", n.index)
	return nil
}

// listen hands out what a process says.
func (p *process) listen(in *json.Decoder) {
	defer close(p.dead)
	for {
		var r reply
		if err := in.Decode(&r); err != nil {
			p.n.c.note("node %d, life %d, says no more: %v", p.n.index, p.life, err)
			return
		}
		if r.N == 0 {
			p.news(r)
			continue
		}
		p.mu.Lock()
		ch := p.asked[r.N]
		delete(p.asked, r.N)
		p.mu.Unlock()
		if ch != nil {
			ch <- r
		}
	}
}

func (p *process) news(r reply) {
	c := p.n.c
	if r.Event == "" {
		select {
		case p.up <- r:
		default:
			c.note("node %d says: %s", p.n.index, r.Err)
		}
		return
	}
	c.note("node %d, %s: %s", p.n.index, kindNames[r.Group], r.Event)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, what := range r.Diverged {
		c.diverged[r.Group][what] = true
	}
	c.events[kind(r.Event)]++
}

// kind is the first words of an event.
func kind(event string) string {
	for i, x := range event {
		if x == ':' || x == '(' {
			return event[:i]
		}
	}
	return event
}

// ask sends a request and waits for the answer, or for the end of the process.
func (p *process) ask(ctx context.Context, q request) (reply, error) {
	ch := make(chan reply, 1)
	p.mu.Lock()
	p.last++
	q.N = p.last
	p.asked[q.N] = ch
	p.mu.Unlock()
	line, err := json.Marshal(q)
	if err != nil {
		return reply{}, err
	}
	p.write.Lock()
	_, err = p.stdin.Write(append(line, '\n'))
	p.write.Unlock()
	if err != nil {
		<-p.dead
		return reply{}, errDead
	}
	select {
	case r := <-ch:
		return r, nil
	case <-p.dead:
		select {
		case r := <-ch:
			return r, nil
		default:
			return reply{}, errDead
		}
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// living returns the present process, nil if there is none.
func (n *node) living() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// kill ends the process with SIGKILL and takes down what it had said.
func (n *node) kill() {
	n.mu.Lock()
	p := n.proc
	n.proc, n.stopped = nil, false
	n.mu.Unlock()
	if p == nil {
		return
	}
	n.c.note("node %d is killed", n.index)
	p.cmd.Process.Kill()
	<-p.dead
	p.cmd.Wait()
}

// shut closes a node in order.
func (n *node) shut() error {
	p := n.living()
	if p == nil {
		return nil
	}
	n.c.note("node %d is closed", n.index)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := p.ask(ctx, request{Ask: "close"})
	if err != nil {
		err = fmt.Errorf("close node %d: %w", n.index, err)
	}
	n.mu.Lock()
	n.proc = nil
	n.mu.Unlock()
	if err == nil {
		select {
		case <-p.dead:
		case <-ctx.Done():
			err = fmt.Errorf("node %d: closed, and does not end", n.index)
		}
	}
	p.cmd.Process.Kill()
	<-p.dead
	p.cmd.Wait()
	return err
}

// stop and resume send SIGSTOP and SIGCONT.
func (n *node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		n.c.note("node %d is stopped", n.index)
		n.stopped = true
		n.proc.cmd.Process.Signal(syscall.SIGSTOP)
	}
}

func (n *node) resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil && n.stopped {
		n.c.note("node %d goes on", n.index)
		n.stopped = false
		n.proc.cmd.Process.Signal(syscall.SIGCONT)
	}
}

// status returns what a node says of its groups, nil if it says nothing.
func (n *node) status() []groupStatus {
	n.mu.Lock()
	p, stopped := n.proc, n.stopped
	n.mu.Unlock()
	if p == nil || stopped {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	r, err := p.ask(ctx, request{Ask: "status"})
	if err != nil {
		return nil
	}
	return r.Status
}
