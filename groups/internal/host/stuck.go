package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A member that lacks what the others have cut from their logs needs the state. If that cannot be had, because no other
// member can write it out or because its own machine cannot read it, it is stuck: the group has a leader and goes on, and
// this member waits until somebody mends a machine. Calls that are made here from then on are not sent, so that it is known
// that they had no effect, and none waits for longer than the patience of the group. It comes loose as soon as
// anything new can be applied.

// ErrStuck is wrapped by the errors of calls and strong reads on a member that is stuck.
var ErrStuck = errors.New("groups: this member cannot get the state of the group")

// StuckCall is the failure of a call that was not sent, since the member is stuck.
const StuckCall core.Failure = 101

// stuckAfter is how long a member that has a leader gets neither log nor state, nor hears of any failure, until it counts
// as stuck. It is longer than a fetch of the state waits for its sources.
const stuckAfter = 45 * time.Second

// Stuck says what keeps a member from the state of the group. It is immutable.
type Stuck struct {
	Since time.Duration // clock of the first failure since it last got on, or when that was
	Own   error         // why the latest fetch failed, nil if none has
	Peers []Complaint   // who cannot write out its state, in the order in which that was heard of

	upTo uint64 // raft index of the state that the latest fetch was for
	now  func() time.Duration
}

// Complaint is what a member says that is wrong with it.
type Complaint struct {
	Peer id.PeerID
	Text string
}

// complaintsTold bounds the complaints that are told in one line.
const complaintsTold = 3

// String says in words what is the matter, and for how long.
func (s *Stuck) String() string { return s.text("") }

// text is String for those who have been told something already.
func (s *Stuck) text(told string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "has got no further for %v", (s.now() - s.Since).Round(time.Second))
	if s.Own != nil && !strings.Contains(told, s.Own.Error()) {
		fmt.Fprintf(&b, "; the last fetch failed: %s", strings.TrimPrefix(s.Own.Error(), "groups: "))
	}
	for i, c := range s.Peers {
		if i == complaintsTold {
			fmt.Fprintf(&b, "; nor can %d more", len(s.Peers)-i)
			break
		}
		fmt.Fprintf(&b, "; %s cannot write out its state: %s", c.Peer.Short(), c.Text)
	}
	return b.String()
}

// stuckError is why a call on a member that is stuck fails.
type stuckError struct {
	text string
	own  error // nil if others are to blame
}

func (s *Stuck) err() error { return &stuckError{s.String(), s.Own} }

func (e *stuckError) Error() string { return ErrStuck.Error() + ": it " + e.text }

func (e *stuckError) Unwrap() []error {
	if e.own == nil {
		return []error{ErrStuck}
	}
	return []error{ErrStuck, e.own}
}

// lack is what the group loop, which owns it, knows of how the member gets what it lacks.
type lack struct {
	moved time.Duration // clock when anything was last applied or fetched, or when there was nothing to wait for
	done  int64         // bytes of the present fetch
	stuck *Stuck        // nil while the member is not
}

// advanced notes that the member gets on with the log.
func (g *Group) advanced() {
	g.lack.moved = g.svc.now()
	if g.lack.stuck != nil {
		g.setStuck(nil)
	}
}

// unserved is why a fetch failed that nobody served: nothing is wrong with this member, so the next one may well succeed.
type unserved struct{ error }

func (e *unserved) Unwrap() error { return e.error }

// fetchProgressed notes that there is more of the state here than before.
func (g *Group) fetchProgressed() {
	old := g.lack.stuck
	if old == nil {
		return
	}
	if _, is := errors.AsType[*unserved](old.Own); is && len(old.Peers) == 0 {
		g.setStuck(nil)
	}
}

// fetchFailed notes that a fetch of the state at a raft index has.
func (g *Group) fetchFailed(err error, index uint64) {
	s := Stuck{Since: g.svc.now(), now: g.svc.now}
	if g.lack.stuck != nil {
		s = *g.lack.stuck
	}
	s.Own, s.upTo = err, index
	g.setStuck(&s)
}

// fetchBegins notes that somebody has written out its state.
func (g *Group) fetchBegins() {
	g.lack.moved, g.lack.done = g.svc.now(), 0
	switch old := g.lack.stuck; {
	case old == nil:
	case old.Own == nil:
		g.setStuck(nil)
	case len(old.Peers) > 0:
		s := *old
		s.Peers = nil
		g.setStuck(&s)
	}
}

// complained takes note that a peer cannot write out its state. It is of interest only to a member that waits for one.
func (g *Group) complained(peer id.PeerID, text string) {
	st := g.State()
	waits := !st.Online && st.Role != core.RoleBlank && st.Role != core.RoleLeader && !st.Leader.IsZero() && st.Fetch == nil && !g.applies()
	if old := g.lack.stuck; old == nil && !waits {
		return
	}
	s := Stuck{Since: g.svc.now(), now: g.svc.now}
	if g.lack.stuck != nil {
		s = *g.lack.stuck
	}
	c := Complaint{peer, printable(text)}
	if i := slices.IndexFunc(s.Peers, func(c Complaint) bool { return c.Peer == peer }); i < 0 {
		s.Peers = append(slices.Clip(s.Peers), c)
	} else if s.Peers[i] != c {
		s.Peers = slices.Clone(s.Peers)
		s.Peers[i] = c
	} else {
		return
	}
	g.setStuck(&s)
}

// forgetComplaint forgets what a peer said that is gone.
func (g *Group) forgetComplaint(peer id.PeerID) {
	old := g.lack.stuck
	if old == nil || !slices.ContainsFunc(old.Peers, func(c Complaint) bool { return c.Peer == peer }) {
		return
	}
	s := *old
	s.Peers = slices.DeleteFunc(slices.Clone(s.Peers), func(c Complaint) bool { return c.Peer == peer })
	if len(s.Peers) == 0 && s.Own == nil {
		g.setStuck(nil)
		return
	}
	g.setStuck(&s)
}

// printable is a text of another member that may be shown.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// applies reports whether something that is decided is not applied yet.
func (g *Group) applies() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applying || len(g.queue) > 0
}

// watchLack is called with each tick: it notices when the member does not get on, though nobody says why, and lets nobody
// wait for longer than the patience of the group when it is stuck.
func (g *Group) watchLack(now time.Duration) {
	l, st := &g.lack, g.State()
	if st.Fetch != nil && st.Fetch.Done != l.done {
		l.moved, l.done = now, st.Fetch.Done
		g.fetchProgressed()
	}
	if st.Online || st.Leader.IsZero() || st.Role == core.RoleLeader || l.moved == 0 {
		l.moved = now
	}
	if s := l.stuck; s != nil && st.Online && (s.Own == nil || st.RaftIndex >= s.upTo) {
		g.setStuck(nil) // what it could not fetch it has got from the log
	}
	patience := g.cfg.Engine.Patience
	if l.stuck == nil {
		if now-l.moved < max(stuckAfter, patience) || g.applies() {
			return
		}
		g.setStuck(&Stuck{Since: l.moved, now: g.svc.now})
	}
	if now-l.stuck.Since < patience {
		return
	}
	before, cause := now-patience, l.stuck.err()
	g.progress.expire(before, cause)
	g.mu.Lock()
	old := g.window.since(before)
	for _, c := range old {
		c.given = cause
	}
	g.mu.Unlock()
	for _, c := range old {
		g.engine.Cancel(now, &c.Call)
	}
}

// setStuck makes it known that the member is stuck, or, with nil, that it is not.
func (g *Group) setStuck(s *Stuck) {
	before := g.lack.stuck
	g.lack.stuck = s
	g.state.change(func(st *State) {
		st.Stuck = s
		g.meter.stuck.Set(oneIf(s != nil))
	})
	g.mu.Lock()
	g.window.shut = s != nil
	if s == nil {
		g.letInLocked()
	}
	g.mu.Unlock()
	switch {
	case s == nil:
		g.log.Info("this member gets on with the state of the group again")
	case before == nil:
		g.log.Warn("this member cannot get the state of the group", "why", s.String())
	}
}

// expiredLocked returns the calls in line that have waited for too long, and what they fail with.
func (g *Group) expiredLocked(now time.Duration) (late []*Call, failure core.Failure, cause error) {
	before := now - g.cfg.Engine.Patience
	if !g.window.shut {
		return g.window.expire(before, nil), overloaded, nil
	}
	s := g.State().Stuck
	if s == nil || s.Since > before {
		return nil, 0, nil
	}
	if late = g.window.expire(before, nil); len(late) == 0 {
		return nil, 0, nil
	}
	return late, StuckCall, s.err()
}

// Unwritten says that this member could not write out its state when others needed it. It is immutable.
type Unwritten struct {
	Since time.Duration // clock of the first failure in a row
	Err   error         // of the latest
}

// imageEnded takes note of how the writing of an image ended. Those who may wait for it are told of a failure.
func (g *Group) imageEnded(err error) {
	old := g.State().Unwritten
	if err == nil {
		if old != nil {
			g.state.change(func(s *State) { s.Unwritten = nil })
		}
		return
	}
	u := &Unwritten{Since: g.svc.now(), Err: err}
	if old != nil {
		u.Since = old.Since
	}
	g.state.change(func(s *State) { s.Unwritten = u })
	text := strings.TrimPrefix(err.Error(), "groups: ")
	m := &wire.Trouble{Text: text[:min(len(text), wire.TroubleMost)]}
	for _, b := range g.bonds {
		b.Send(m)
	}
}
