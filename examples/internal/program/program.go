// Package program runs an example as a process of its own, for tests.
package program

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// patience is how long a line of output is waited for, on a busy machine.
const patience = time.Minute

// T is the test, a *testing.T.
type T interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Program is one running process. It is killed at the end of the test, if it still runs.
type Program struct {
	t     T
	cmd   *exec.Cmd
	keys  io.WriteCloser
	lines chan string // closed at the end of its output
}

// Start starts cmd.
func Start(t T, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{t: t, cmd: cmd, lines: make(chan string, 1000)}
	cmd.Stderr = os.Stderr
	var err error
	if p.keys, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() // unless it has ended
		for range p.lines {
		}
		cmd.Wait()
	})
	return p
}

// Enter types a line.
func (p *Program) Enter(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.keys, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// Shows waits for a line of output that matches the pattern.
func (p *Program) Shows(pattern string) {
	p.t.Helper()
	want := regexp.MustCompile(pattern)
	limit := time.After(patience)
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

// EndOfInput ends what is typed, as Ctrl-D does, and waits for the program to end well.
func (p *Program) EndOfInput() {
	p.t.Helper()
	p.keys.Close()
	p.ends()
}

// Interrupt is Ctrl-C: it waits for the program to end well.
func (p *Program) Interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	p.ends()
}

func (p *Program) ends() {
	p.t.Helper()
	limit := time.After(patience)
	for more := true; more; {
		select {
		case _, more = <-p.lines:
		case <-limit:
			p.t.Fatal("the program does not end")
		}
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the program ended with: %v", err)
	}
}
