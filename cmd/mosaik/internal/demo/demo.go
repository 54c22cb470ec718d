// Package demo is the demonstration behind "mosaik demo": real processes on this machine that find each other, form a
// group, lose their leader to SIGKILL and lose no acknowledged command.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

const (
	minNodes = 3 // the fewest that survive the loss of one
	maxNodes = 20

	stepTimeout = time.Minute            // for each step of the story; a busy machine can be slow
	appearEvery = 120 * time.Millisecond // between starts, so that one sees nodes appear
)

// Config says how a demo runs.
type Config struct {
	Nodes int           // processes
	Load  time.Duration // how long commands flow before and after the kill
	Plain bool          // no live table even on a terminal
	Out   io.Writer
}

// demo is one run.
type demo struct {
	Config
	view      *view
	processes []*process
	changed   chan struct{} // capacity one: some process reported
	result    summary
}

// Run runs the demo and returns an error unless every acknowledged command is in the final sum exactly once.
func Run(ctx context.Context, cfg Config) (err error) {
	if cfg.Nodes < minNodes || cfg.Nodes > maxNodes {
		return fmt.Errorf("demo: %d nodes: want %d to %d", cfg.Nodes, minNodes, maxNodes)
	}
	if cfg.Load <= 0 {
		return fmt.Errorf("demo: load of %v: want a positive duration", cfg.Load)
	}
	d := &demo{Config: cfg, changed: make(chan struct{}, 1)}
	d.view = newView(cfg.Out, cfg.Plain)
	defer func() {
		for _, p := range d.processes {
			if e := p.end(); e != nil {
				err = errors.Join(err, e)
			}
		}
		d.view.close()
		if err == nil {
			d.result.print(cfg.Out)
			err = d.result.verdict()
		}
	}()
	return d.play(ctx)
}

// play tells the story, step by step.
func (d *demo) play(ctx context.Context) error {
	network := "mosaik-demo-" + id.Random().Short()
	d.view.say("network %q: %d processes that know nothing but this name", network, d.Nodes)

	for i := range d.Nodes {
		p, err := start(network, workerName(i), d.notify)
		if err != nil {
			return err
		}
		d.processes = append(d.processes, p)
		if err := d.wait(ctx, "the process to start", appearEvery, func([]state) bool { return false }); err != nil && !errors.Is(err, errStep) {
			return err
		}
	}
	begin := time.Now()
	if err := d.wait(ctx, "all processes to see each other", stepTimeout, func(all []state) bool {
		return every(all, func(s state) bool { return s.last.Peers == d.Nodes-1 })
	}); err != nil {
		return err
	}
	d.view.say("all %d see each other, %v after the last one started", d.Nodes, time.Since(begin).Round(time.Millisecond))

	first, err := d.waitLeader(ctx, "the group to form", func(all []state, _ *state) bool {
		return every(all, func(s state) bool {
			return s.last.Online && s.last.Members == d.Nodes && s.last.Voters == voters(d.Nodes)
		})
	})
	if err != nil {
		return err
	}
	d.view.say("one group of %d, %d of them vote, led by %s; every process now sends commands", d.Nodes, voters(d.Nodes), first.name)

	if err := d.tell(orderGo); err != nil {
		return err
	}
	if err := d.idle(ctx, d.Load); err != nil {
		return err
	}
	if err := d.killLeader(ctx); err != nil {
		return err
	}
	if err := d.idle(ctx, d.Load); err != nil {
		return err
	}
	return d.check(ctx)
}

// killLeader ends the leading process with SIGKILL and waits until the others follow a new leader and commit again.
func (d *demo) killLeader(ctx context.Context) error {
	old, err := d.waitLeader(ctx, "a leader to kill", func([]state, *state) bool { return true })
	if err != nil {
		return err
	}
	for _, p := range d.processes {
		if p.name == old.name {
			if err := p.kill(); err != nil {
				return fmt.Errorf("demo: kill %s: %w", p.name, err)
			}
		}
	}
	killed := time.Now()
	d.view.say("kill -9 %d: %s, the leader, is gone", old.pid, old.name)
	next, err := d.waitLeader(ctx, "a new leader", func(all []state, l *state) bool {
		return every(all, func(s state) bool { return s.last.Leader == l.last.Peer && s.last.Online })
	})
	if err != nil {
		return err
	}
	d.result.takeover = time.Since(killed)
	d.view.say("%s leads now; everyone agreed after %v", next.name, d.result.takeover.Round(time.Millisecond))
	return nil
}

// check stops the load, compares what was acknowledged with what the group holds, and files it in the summary.
func (d *demo) check(ctx context.Context) error {
	if err := d.tell(orderPause); err != nil {
		return err
	}
	if err := d.wait(ctx, "commands under way to end", stepTimeout, func(all []state) bool {
		return every(all, func(s state) bool { return s.paused })
	}); err != nil {
		return err
	}
	names := make([]string, len(d.processes))
	for i, p := range d.processes {
		names[i] = p.name
	}
	if err := d.tell(orderAudit + " " + strings.Join(names, " ")); err != nil {
		return err
	}
	if err := d.wait(ctx, "the audit", stepTimeout, func(all []state) bool {
		return every(all, func(s state) bool { return s.audited != nil })
	}); err != nil {
		return err
	}
	d.result.states = d.states()
	d.view.say("commands stopped; every survivor was asked, by strong reads, what the group holds")
	return nil
}

// tell gives the order to all processes that live.
func (d *demo) tell(words string) error {
	for _, p := range d.processes {
		if s := p.state(); s.killed {
			continue
		}
		if err := p.order(words); err != nil {
			return err
		}
	}
	return nil
}

// errStep reports that a step of the story did not happen in time.
var errStep = errors.New("demo: timed out")

// wait redraws the view and returns once done holds of all processes' states, or with an error when the limit or ctx
// ends first or a process dies of itself.
func (d *demo) wait(ctx context.Context, what string, limit time.Duration, done func([]state) bool) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		all := d.states()
		d.view.draw(all)
		for _, s := range all {
			if s.gone && !s.killed {
				return fmt.Errorf("demo: process %s died: %s", s.name, strings.TrimSpace(s.stderr))
			}
		}
		if done(all) {
			return nil
		}
		select {
		case <-d.changed:
		case <-timer.C:
			return fmt.Errorf("%w waiting for %s after %v%s", errStep, what, limit, reasons(all))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waitLeader waits until one process leads of which done holds as well, and returns it. A moment later it may lead no more.
func (d *demo) waitLeader(ctx context.Context, what string, done func([]state, *state) bool) (leader *state, err error) {
	err = d.wait(ctx, what, stepTimeout, func(all []state) bool {
		leader = leaderOf(all)
		return leader != nil && done(all, leader)
	})
	return leader, err
}

// reasons says of each process that is not online why it is not.
func reasons(all []state) string {
	var b strings.Builder
	for _, s := range all {
		if !s.killed && s.last.Why != "" {
			fmt.Fprintf(&b, "; %s: %s", s.name, s.last.Why)
		}
	}
	return b.String()
}

// idle keeps the view alive for the duration.
func (d *demo) idle(ctx context.Context, length time.Duration) error {
	err := d.wait(ctx, "", length, func([]state) bool { return false })
	if errors.Is(err, errStep) {
		return nil
	}
	return err
}

func (d *demo) notify() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *demo) states() []state {
	all := make([]state, len(d.processes))
	for i, p := range d.processes {
		all[i] = p.state()
	}
	return all
}

// every reports whether f holds of all processes that were not killed, of which there must be one.
func every(all []state, f func(state) bool) bool {
	some := false
	for _, s := range all {
		if s.killed {
			continue
		}
		if !f(s) {
			return false
		}
		some = true
	}
	return some
}

// voters returns how many of n members come to vote: an odd number, five at most.
func voters(n int) int { return min(n-1+n%2, 5) }

// leaderOf returns the one living process that says it leads; nil when none or several do.
func leaderOf(all []state) *state {
	var leader *state
	for i := range all {
		if s := &all[i]; !s.killed && s.last.Leading {
			if leader != nil {
				return nil
			}
			leader = s
		}
	}
	return leader
}

// workerName gives processes names that are easy to tell apart: ada, bob, cem …
func workerName(i int) string {
	names := []string{
		"ada", "bob", "cem", "dot", "eva", "fay", "gil", "hal", "ida", "jon",
		"kay", "lea", "mia", "ned", "ora", "pat", "ray", "sue", "tom", "una",
	}
	return names[i]
}
