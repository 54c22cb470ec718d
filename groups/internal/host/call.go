package host

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// ErrUnconfirmed reports that no leader confirmed a strong read in time.
var ErrUnconfirmed = errors.New("no leader confirmed the read")

// Call is one Execute or Feed under way. Its owner fills in Count, Payload and Feed of the embedded core.Call, runs it
// with [Group.Do] and reads the outcome fields afterwards.
//
// Two sides hold a Call: the caller that waits for it and the engine that works on it. Whichever ends first claims it;
// the caller may use the Call again only if Do returned reusable.
type Call struct {
	core.Call

	// Results is the owner's place for what the machine answers, and Rejected for its refusal to apply the call; only
	// the applier and the owner touch them.
	Results  any
	Rejected error

	// The outcome, valid after Do.
	First   core.Index   // user index of the first command, if Failure is zero
	Failure core.Failure // zero: applied here, or appended for a Feed
	Cause   error        // more about Failure, may be nil

	done    chan struct{} // capacity one: a token once the outcome is set
	settled atomic.Bool   // whoever sets it may set the outcome

	// given is why the driver gave the call up, nil if it did not. The group's mutex guards it until the call has left
	// the window.
	given error

	// Guarded by the group's mutex.
	queued     time.Duration // clock when it was submitted
	held       bool          // counted in the window
	inLine     bool          // waits to be let into the window
	weight     int           // bytes counted in the window
	prev, next *Call         // in the window's list
}

// NewCall returns a Call that can be run once, and again whenever Do says so.
func NewCall() *Call {
	c := &Call{done: make(chan struct{}, 1)}
	c.Host = c
	return c
}

// reset makes the call ready for another run.
func (c *Call) reset() {
	c.Call = core.Call{Count: c.Count, Payload: c.Payload, Feed: c.Feed, Host: c}
	c.First, c.Failure, c.Cause, c.Rejected, c.given = 0, 0, nil, nil, nil
	c.settled.Store(false)
}

// settle claims the call and hands its outcome to the caller. It reports false when somebody else was first.
func (c *Call) settle(first core.Index, failure core.Failure, cause error) bool {
	if !c.settled.CompareAndSwap(false, true) {
		return false
	}
	c.First, c.Failure, c.Cause = first, failure, cause
	c.done <- struct{}{}
	return true
}

// Do submits the call and waits for its outcome. On a member that is stuck it waits no longer than the group's patience. If
// ctx ends first the call is withdrawn when it was not sent yet, and left to itself otherwise; Failure tells which. Do
// returns whether the Call may be used again: the engine may still hold one whose wait was given up.
func (g *Group) Do(ctx context.Context, c *Call) (reusable bool) {
	c.reset()
	g.submit(c)
	if ctx.Done() == nil {
		<-c.done
	} else {
		select {
		case <-c.done:
		case <-ctx.Done():
			g.cancel(c)
			// The group loop answers at once, whatever the state of the group.
			<-c.done
			if c.Failure != 0 && c.Cause == nil {
				c.Cause = context.Cause(ctx)
			}
			// The loop, or another copy of the cancellation, may still point to the call.
			return false
		}
	}
	// A Feed is answered before it is committed: until then the engine may have to send it again.
	return c.Failure == 0 && !c.Feed && c.given == nil
}

// Read is one strong read under way.
type Read struct {
	core.Read

	ok        bool
	cause     error // why not, if that is known
	began     time.Duration
	raftIndex uint64
	done      chan struct{} // capacity one
	settled   atomic.Bool
}

// NewRead returns a Read that can be run once, and again whenever Await says so.
func NewRead() *Read {
	r := &Read{done: make(chan struct{}, 1)}
	r.Host = r
	return r
}

// settle claims the read and hands its outcome to the caller, if the caller still waits.
func (r *Read) settle(ok bool, cause error) {
	if r.settled.CompareAndSwap(false, true) {
		r.ok, r.cause = ok, cause
		r.done <- struct{}{}
	}
}

// unconfirmed returns why a read was not confirmed.
func (g *Group) unconfirmed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leaving || g.dead {
		return g.endLocked()
	}
	return ErrUnconfirmed
}

// Await waits until the local state is recent enough for a linearizable read that starts now. It fails with
// [ErrUnconfirmed] when no leader confirmed that within the patience of the group, with [ErrStuck] when this member cannot
// get so far, with the cause of the end when the group ended, and with the cause of ctx. The Read may be used again if
// reusable.
func (g *Group) Await(ctx context.Context, r *Read) (reusable bool, err error) {
	r.ok, r.cause, r.raftIndex, r.began = false, nil, 0, g.svc.now()
	r.settled.Store(false)
	g.read(r)
	select {
	case <-r.done:
		if !r.ok && r.cause != nil {
			return true, r.cause
		}
		if !r.ok {
			return true, g.unconfirmed()
		}
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-g.over:
		return false, g.End()
	}
}
