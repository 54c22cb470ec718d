package host

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// State is what is known of a group at one moment. It is immutable.
type State struct {
	core.Status
	LedSince time.Duration // clock when the present leader was first known
	Bonds    []BondInfo    // by peer id
	Ended    error         // why the group is over on this node, nil while it is not

	Refused   string     // why the group's validators refuse this node's own entry, empty while they do not
	Stuck     *Stuck     // nil unless the member cannot get the state of the group
	Unwritten *Unwritten // nil unless it cannot write out its own
	Differs   string     // how what it wrote out differs from what the group agreed on, empty if it does not
	Slow      []Slow     // calls of the machine that have lasted for long

	next chan struct{} // closed when another state replaces this one
}

// BondInfo describes a bond that is up.
type BondInfo struct {
	Peer  id.PeerID
	Since time.Time
}

// stateBoard shows the present state and wakes those who wait for another one.
type stateBoard struct {
	now atomic.Pointer[State]
	mu  sync.Mutex // serialises changes
}

func (b *stateBoard) init() {
	b.now.Store(&State{
		Status: core.Status{Reason: "the group has just been joined"},
		next:   make(chan struct{}),
	})
}

// change replaces the state by a copy that edit has changed, and returns both. It does nothing once the group is over.
func (b *stateBoard) change(edit func(*State)) (before, after *State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before = b.now.Load()
	if before.Ended != nil {
		return before, before
	}
	s := *before
	s.next = make(chan struct{})
	edit(&s)
	b.now.Store(&s)
	close(before.next)
	return before, &s
}

// end is the last change. It returns the state before it. done runs before any other change can be tried.
func (b *stateBoard) end(now time.Duration, cause error, done func()) (before *State) {
	before, _ = b.change(func(s *State) {
		if s.Online {
			s.Since = now
		}
		s.Online = false
		s.Role = core.RoleBlank
		s.Leader = id.PeerID{}
		s.Reason = cause.Error()
		s.Bonds = nil
		s.Ended = cause
		s.Stuck, s.Unwritten, s.Slow = nil, nil, nil
		done()
	})
	return before
}

// State returns the present state.
func (g *Group) State() *State { return g.state.now.Load() }

// Over returns a channel that is closed when the group is over.
func (g *Group) Over() <-chan struct{} { return g.over }

// WaitState returns the first state, starting with the present one, for which ok returns true. It fails when ctx ends,
// when done is closed, and when the group is over.
func (g *Group) WaitState(ctx context.Context, done <-chan struct{}, ok func(*State) bool) (*State, error) {
	for {
		s := g.state.now.Load()
		if s.Ended != nil {
			return s, s.Ended
		}
		if ok(s) {
			return s, nil
		}
		select {
		case <-s.next:
		case <-done:
			return s, ErrClosed
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

// Applied returns the user index up to which the machine has applied.
func (g *Group) Applied() core.Index { return g.progress.user.Load() }

// WaitApplied returns when the machine has applied up to the user index. It fails like WaitState.
func (g *Group) WaitApplied(ctx context.Context, done <-chan struct{}, index core.Index) error {
	w := g.progress.await(index)
	if w == nil {
		return nil
	}
	defer g.progress.forget(w)
	select {
	case <-w.reached:
		return nil
	case <-done:
		return ErrClosed
	case <-g.over:
		return g.End()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Position returns the user index applied and a channel that is closed when it goes back.
func (g *Group) Position() (core.Index, <-chan struct{}) { return g.progress.position() }

// WaitMoved returns when the user index applied has gone back since the Position that from and falls are of, or, if
// forward, when it is higher than from. It fails like WaitState.
func (g *Group) WaitMoved(ctx context.Context, done <-chan struct{}, from core.Index, falls <-chan struct{}, forward bool) error {
	var higher <-chan struct{}
	if forward {
		w := g.progress.await(from + 1)
		if w == nil {
			return nil
		}
		defer g.progress.forget(w)
		higher = w.reached
	}
	select {
	case <-higher:
		return nil
	case <-falls:
		return nil
	case <-done:
		return ErrClosed
	case <-g.over:
		return g.End()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Time turns a reading of the driver's clock, as it occurs in a State, into a time. Zero stays zero.
func (g *Group) Time(at time.Duration) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return g.svc.start.Add(at)
}

// publish shows a new status of the engine, and tells events and metrics what changed.
func (g *Group) publish(status *core.Status) {
	now := g.svc.now()
	before, after := g.state.change(func(s *State) {
		before := s.Status
		if s.Leader != status.Leader {
			s.LedSince = now
		}
		s.Status = *status
		g.meter.status(&before, status) // here, so that it cannot come after the last change
	})
	if before == after {
		return
	}
	g.mu.Lock()
	g.eager = !status.Online || g.leaving
	g.mu.Unlock()
	g.report(before, after)
}

// bondsChanged shows the bonds that are up.
func (g *Group) bondsChanged() {
	infos := make([]BondInfo, 0, len(g.bonds))
	for peer, b := range g.bonds {
		infos = append(infos, BondInfo{Peer: peer, Since: b.Since()})
	}
	sortBonds(infos)
	g.state.change(func(s *State) {
		s.Bonds = infos
		g.meter.bonds.Set(float64(len(infos)))
	})
}
