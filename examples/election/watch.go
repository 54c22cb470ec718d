package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

const (
	processes = 5 // so that a majority survives two deaths
	deaths    = 2
	patience  = time.Minute // for each step
)

// candidate is one process as the one that watches sees it.
type candidate struct {
	cmd    *exec.Cmd
	input  interface{ Close() error }
	peer   string
	leader string // as it sees it
	voters int
	dead   bool
}

// report is a line that a process printed; what is empty at its end.
type report struct {
	from       *candidate
	what, peer string
	voters     int
}

// watch starts the processes, kills leaders and prints to out who leads.
func watch(ctx context.Context, out io.Writer) (err error) {
	name := "example election " + id.Random().Short()
	reports := make(chan report, 64)
	done := make(chan struct{})
	var all []*candidate
	defer func() {
		close(done)
		for _, c := range all {
			c.input.Close()
		}
		for _, c := range all {
			if e := c.cmd.Wait(); e != nil && !c.dead {
				err = errors.Join(err, fmt.Errorf("process %d: %w", c.cmd.Process.Pid, e))
			}
		}
	}()
	for range processes {
		c, err := start(name, reports, done)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	fmt.Fprintf(out, "%d processes that know nothing but the name %q\n", processes, name)

	// until takes reports in until the condition holds.
	until := func(what string, holds func() bool) error {
		limit := time.After(patience)
		for !holds() {
			select {
			case r := <-reports:
				if r.what == "" {
					if !r.from.dead {
						return fmt.Errorf("process %d ended by itself", r.from.cmd.Process.Pid)
					}
					continue
				}
				r.from.take(r)
			case <-limit:
				return fmt.Errorf("not within %v: %s", patience, what)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}

	if err := until("one leader, and five voters", func() bool { return leader(all) != nil && full(all) }); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s leads\n", leader(all).peer)
	for range deaths {
		old := leader(all)
		old.dead = true
		if err := old.cmd.Process.Kill(); err != nil {
			return err
		}
		begin := time.Now()
		if err := until("a new leader of all survivors", func() bool { return leader(all) != nil }); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s was killed; %s leads, all survivors agreed after %v\n", old.peer, leader(all).peer, time.Since(begin).Round(time.Millisecond))
	}
	return nil
}

// start runs this very program again as a process that takes part.
func start(name string, reports chan<- report, done <-chan struct{}) (*candidate, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &candidate{cmd: exec.Command(self, "-name", name)}
	c.cmd.Stderr = os.Stderr
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for lines := bufio.NewScanner(out); ; {
			r := report{from: c}
			if lines.Scan() {
				fmt.Sscan(lines.Text(), &r.what, &r.peer, &r.voters)
			}
			select {
			case reports <- r:
			case <-done:
				return
			}
			if r.what == "" {
				return
			}
		}
	}()
	return c, nil
}

func (c *candidate) take(r report) {
	switch r.what {
	case "here":
		c.peer, c.voters = r.peer, r.voters
	case "leader":
		c.leader = r.peer
	case "voters":
		c.voters = r.voters
	}
}

// leader returns the process that all living ones name as their leader and that lives; nil if they do not agree.
func leader(all []*candidate) *candidate {
	named := ""
	for _, c := range all {
		switch {
		case c.dead:
		case c.leader == "" || named != "" && named != c.leader:
			return nil
		default:
			named = c.leader
		}
	}
	for _, c := range all {
		if c.peer == named && !c.dead {
			return c
		}
	}
	return nil
}

// full reports whether all vote, as every process sees it. Before that, two deaths could be a majority of the voters.
func full(all []*candidate) bool {
	for _, c := range all {
		if c.voters != len(all) {
			return false
		}
	}
	return true
}
