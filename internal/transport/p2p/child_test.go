package p2p

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// childEnv makes the test program be a host in a process of its own, which can be killed and stopped for real.
const childEnv = "MOSAIK_P2P_TEST_HOST"

// childConfig is what a child is opened with.
type childConfig struct {
	Network id.ID
	Seed    string
	Listen  string
}

// runChild is the child's main, if this process is one. It obeys the lines that it reads, answers each with one line, and
// ends with its input, so that no child outlives its test.
func runChild() {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var cfg childConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		fail(err)
	}
	h, err := New(transport.Config{Network: cfg.Network, Key: keyOf(cfg.Seed), Reach: transport.ReachHost, Listen: []string{cfg.Listen}})
	if err != nil {
		fail(err)
	}
	h.Handle("echo", echoHandler)
	h.Handle("deaf", func(s transport.Stream) { // reads nothing
		<-time.After(time.Hour)
		s.Close()
	})
	var mu sync.Mutex
	var events []string
	h.Watch(func(e transport.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprintf("%d/%d", e.Kind, e.Code))
	})
	fmt.Println(h.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		order, argument, _ := strings.Cut(lines.Text(), " ")
		switch order {
		case "connect":
			addr, err := id.ParsePeerAddr(argument)
			if err == nil {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				err = h.Connect(ctx, addr)
				cancel()
			}
			fmt.Println(err)
		case "events":
			mu.Lock()
			fmt.Println(strings.Join(events, " "))
			mu.Unlock()
		case "memory":
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Println(m.HeapInuse+m.StackInuse, runtime.NumGoroutine())
		case "close":
			fmt.Println(h.Close())
			return
		}
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// child is a host in another process.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr id.PeerAddr
}

func startChild(t *testing.T, cfg childConfig) *child {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = os.Stderr
	in, err1 := c.cmd.StdinPipe()
	out, err2 := c.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, c.cmd.Start()); err != nil {
		t.Fatalf("start a child: %v", err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	t.Cleanup(c.kill)
	if c.addr, err = id.ParsePeerAddr(c.read()); err != nil {
		t.Fatalf("address of the child: %v", err)
	}
	return c
}

func (c *child) read() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read from the child: %v", err)
	}
	return strings.TrimSpace(line)
}

// order has the child do something and returns its answer.
func (c *child) order(format string, args ...any) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		c.t.Fatalf("write to the child: %v", err)
	}
	return c.read()
}

func (c *child) connect(to transport.Host) {
	c.t.Helper()
	c.connectTo(to.Addr())
}

func (c *child) connectTo(to id.PeerAddr) {
	c.t.Helper()
	var got string
	for start := time.Now(); time.Since(start) < patience; { // a busy machine can be too slow at first
		if got = c.order("connect %s", to); got == "<nil>" {
			return
		}
	}
	c.t.Fatalf("the child cannot connect: %s", got)
}

// memory returns what the child uses after a garbage collection.
func (c *child) memory() (bytes, goroutines int) {
	c.t.Helper()
	if _, err := fmt.Sscan(c.order("memory"), &bytes, &goroutines); err != nil {
		c.t.Fatalf("memory of the child: %v", err)
	}
	return bytes, goroutines
}

// calm waits until the child has few goroutines, and returns what it uses then.
func (c *child) calm() (bytes, goroutines int) {
	c.t.Helper()
	eventually(c.t, "few goroutines are left", func() bool {
		bytes, goroutines = c.memory()
		return goroutines <= 150
	})
	return bytes, goroutines
}

// signal sends a signal to the child. Repeated after its end it does nothing.
func (c *child) signal(s os.Signal) { c.cmd.Process.Signal(s) }

// kill ends the child without a chance to do anything, and waits for it.
func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	c.cmd.Wait()
}
