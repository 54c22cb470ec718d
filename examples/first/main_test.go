package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/discovery/registry"
)

const child = "MOSAIK_FIRST_TEST_CHILD"

// TestMain makes the test binary the program itself when the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// The README shows this program, from its package clause on.
func TestReadmeHasTheProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "\npackage main")
	if !strings.Contains(string(readme), "```go\npackage main"+code+"```\n") {
		t.Error("the README shows another program than examples/first/main.go")
	}
}

// process is one running program.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // closed at the end of its output
}

func start(t *testing.T) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(self), lines: make(chan string, 1000)}
	p.cmd.Env = append(os.Environ(), child+"=yes")
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill() // unless it has ended
		for range p.lines {
		}
		p.cmd.Wait()
	})
	return p
}

// shows waits for a line of output.
func (p *process) shows(pattern string) {
	p.t.Helper()
	want := regexp.MustCompile(pattern)
	limit := time.After(time.Minute)
	var seen []string
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				p.t.Fatalf("ended without %q, after\n%s", pattern, strings.Join(seen, "\n"))
			}
			if seen = append(seen, line); want.MatchString(line) {
				return
			}
		case <-limit:
			p.t.Fatalf("does not show %q, but\n%s", pattern, strings.Join(seen, "\n"))
		}
	}
}

// What one process adds all show; whoever comes later goes on from it, also when the first is gone.
func TestTheSumIsShared(t *testing.T) {
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	a, b := start(t), start(t)
	a.shows(`^sum 6 after 2 commands, `)
	b.shows(`^sum 6 after 2 commands, `)
	c := start(t)
	for _, p := range []*process{a, b, c} {
		p.shows(`^sum 9 after 3 commands, `)
	}
	if err := a.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range a.lines {
	}
	if err := a.cmd.Wait(); err != nil {
		t.Errorf("the process that was interrupted: %v", err)
	}
	d := start(t)
	for _, p := range []*process{b, c, d} {
		p.shows(`^sum 12 after 4 commands, `)
	}
}
