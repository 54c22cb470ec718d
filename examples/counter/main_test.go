package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/id"
)

// TestMain makes the test binary the program itself when it is started with a name.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], "counter-test-") {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// terminal is one running program.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	keys  io.WriteCloser
	lines chan string // closed at the end of its output
}

func open(t *testing.T, name string) *terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &terminal{t: t, cmd: exec.Command(self, name), lines: make(chan string, 1000)}
	c.cmd.Stderr = os.Stderr
	if c.keys, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			c.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		c.cmd.Process.Kill() // unless it has ended
		for range c.lines {
		}
		c.cmd.Wait()
	})
	return c
}

func (c *terminal) enter(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.keys, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// shows waits for a line of output.
func (c *terminal) shows(pattern string) {
	c.t.Helper()
	want := regexp.MustCompile(pattern)
	limit := time.After(time.Minute)
	var seen []string
	for {
		select {
		case line, more := <-c.lines:
			if !more {
				c.t.Fatalf("ended without %q, after\n%s", pattern, strings.Join(seen, "\n"))
			}
			if seen = append(seen, line); want.MatchString(line) {
				return
			}
		case <-limit:
			c.t.Fatalf("does not show %q, but\n%s", pattern, strings.Join(seen, "\n"))
		}
	}
}

// What is typed in one terminal shows in all, and goes on when one of them ends.
func TestTerminals(t *testing.T) {
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	name := "counter-test-" + id.Random().Short()
	a, b, c := open(t, name), open(t, name), open(t, name)
	for _, x := range []*terminal{a, b, c} {
		x.shows(`^online with`)
	}
	a.enter("+3")
	for _, x := range []*terminal{a, b, c} {
		x.shows(`^= 3 `)
	}
	b.enter("-1")
	b.enter("twelve")
	b.shows(`error: "twelve" is not a number`)
	for _, x := range []*terminal{a, c} {
		x.shows(`^= 2 `)
	}
	b.keys.Close() // the end of its input, as by Ctrl-D
	if err := b.cmd.Wait(); err != nil {
		t.Errorf("the terminal that was closed: %v", err)
	}
	c.enter("+40")
	a.shows(`^= 42 `)
	a.enter("")
	a.shows(`^= 42 .*strong read`)
}
