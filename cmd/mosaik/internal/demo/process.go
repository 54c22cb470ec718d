package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// process is one worker as the demo sees it.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser

	reader sync.WaitGroup

	mu      sync.Mutex // guards all following fields
	last    report     // latest of any kind
	paused  bool
	audited *report
	killed  bool
	gone    bool
	stderr  bytes.Buffer
}

// start runs this very program again as a worker.
func start(network, name string, changed func()) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the own program: %w", err)
	}
	p := &process{name: name, cmd: exec.Command(self, WorkerCommand, "--network", network, "--name", name)}
	p.cmd.Stderr = lockedWriter{p}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker %s: %w", name, err)
	}
	p.reader.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var r report
			if json.Unmarshal(lines.Bytes(), &r) == nil { // a killed worker's last line may be cut off
				p.take(r)
				changed()
			}
		}
		p.mu.Lock()
		p.gone = true
		p.mu.Unlock()
		changed()
	})
	return p, nil
}

func (p *process) take(r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = r
	switch r.Kind {
	case "paused":
		p.paused = true
	case "audit":
		p.audited = &r
	}
}

func (p *process) order(words string) error {
	if _, err := io.WriteString(p.stdin, words+"\n"); err != nil {
		return fmt.Errorf("worker %s: %w", p.name, err)
	}
	return nil
}

// kill ends the process with SIGKILL: it has no chance to say goodbye.
func (p *process) kill() error {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	return p.cmd.Process.Kill()
}

// end closes the worker's standard input, which makes it leave in order, and waits for it.
func (p *process) end() error {
	p.stdin.Close()
	p.reader.Wait()
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && !p.killed {
		return fmt.Errorf("worker %s: %w: %s", p.name, err, bytes.TrimSpace(p.stderr.Bytes()))
	}
	return nil
}

// state is a copy of what is known of a process.
type state struct {
	name    string
	pid     int
	last    report
	paused  bool
	audited *report
	killed  bool
	gone    bool
	stderr  string
}

func (p *process) state() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return state{p.name, p.cmd.Process.Pid, p.last, p.paused, p.audited, p.killed, p.gone, p.stderr.String()}
}

// lockedWriter collects a worker's standard error, up to a bound.
type lockedWriter struct{ p *process }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if room := 16<<10 - w.p.stderr.Len(); room > 0 {
		w.p.stderr.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}
