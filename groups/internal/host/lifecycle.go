package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Life of a group on this node: it runs from Join until the last handle is closed (depart, then stop), until it fails
// (fail), or until the node is killed (kill). bury ends it in each case.

// End returns why the group is over, nil while it is not.
func (g *Group) End() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.dead {
		return nil
	}
	return g.cause
}

// endLocked returns why no new call is taken.
func (g *Group) endLocked() error {
	if g.cause != nil {
		return g.cause
	}
	return ErrClosed
}

// depart takes no new calls, lets those under way end, gives up leadership and, unless keep says otherwise, membership,
// and returns when that is done or the group is over. It fails when ctx ends first.
func (g *Group) depart(ctx context.Context, keep bool) error {
	g.mu.Lock()
	g.leaving = true
	g.eager = true
	if keep {
		g.box.retire = true
	} else {
		g.box.leave = true
	}
	g.kickLocked()
	g.mu.Unlock()
	select {
	case <-g.left:
	case <-g.over:
		if !keep && !has(g.left) {
			return g.notLeft()
		}
	case <-ctx.Done():
		err := context.Cause(ctx)
		if keep {
			g.log.Warn("stopped without handing over", "err", err)
			return nil
		}
		g.log.Warn("left the group without an acknowledgement", "err", err)
		return fmt.Errorf("groups: leave %s: not acknowledged: %w", g.cfg.ID.Short(), err)
	}
	return nil
}

// errNotLeft is wrapped by the error of a Leave that came after the group had ended on this node.
var errNotLeft = errors.New("the group failed on this node, so that nobody could be told")

// notLeft says why a group that is over has not been left.
func (g *Group) notLeft() error {
	cause := g.End()
	if cause == ErrClosed {
		return nil
	}
	what := "not acknowledged"
	if g.cfg.Engine.Durable {
		what = "not left, the log is kept"
	}
	return fmt.Errorf("groups: leave %s: %s: %w: %w", g.cfg.ID.Short(), what, errNotLeft, cause)
}

// stopGrace is how long a group that is over waits for a command that is just being applied, and for whatever else of the
// program's code it runs.
const stopGrace = time.Second

// stop ends the group in order: the engine fails what it cannot finish, the applier finishes what is decided. It returns
// a channel that is closed once nothing of the group runs any more. It waits for that until ctx ends, and a moment
// longer.
func (g *Group) stop(ctx context.Context) (ended <-chan struct{}) {
	g.mu.Lock()
	g.leaving = true
	g.box.stop = true
	g.kickLocked() // from here to halted a loop runs, so no further one is started while we wait
	g.mu.Unlock()
	g.stopBulk()
	ended = g.await(ctx)
	g.bury(ErrClosed)
	return ended
}

// kill ends the group at once. It returns like stop, and waits for the moment only.
func (g *Group) kill() (ended <-chan struct{}) {
	g.bury(ErrClosed)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return g.await(ctx)
}

// await waits until nothing of the group runs any more, but for the program's own code no longer than until ctx ends and
// stopGrace has passed. The channel is closed when it is so.
func (g *Group) await(ctx context.Context) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return ended
	case <-ctx.Done():
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
	}
	return ended
}

// has reports whether a channel is closed.
func has(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// fail ends the group on this node because it cannot go on. It may be called from the loop and the applier.
func (g *Group) fail(cause error) {
	if !g.bury(cause) {
		return
	}
	attrs := []any{"err", cause}
	if p, ok := errors.AsType[*PanicError](cause); ok {
		if p.Index != 0 {
			attrs = append(attrs, "index", p.Index)
		}
		attrs = append(attrs, "stack", string(p.Stack))
	}
	g.log.Error("the group failed on this node", attrs...)
	g.svc.retire(g)
}

// bury marks the group as over and settles whoever still waits. It reports false if that had happened before.
func (g *Group) bury(cause error) bool {
	g.mu.Lock()
	if g.dead {
		g.mu.Unlock()
		return false
	}
	g.dead, g.leaving = true, true
	g.cause = cause
	g.wakeLocked()
	g.queue = nil
	unsent := g.box.calls
	g.box.calls = nil
	held, line := g.window.drain()
	untaken := g.untaken
	g.room.Broadcast()
	// Under the lock, so that nobody whose call fails for this end finds a state without it.
	before := g.state.end(g.svc.now(), cause, func() { g.meter.end(cause) })
	g.mu.Unlock()

	g.stopBulk()
	g.images.end()
	for _, u := range untaken {
		if u.State != nil {
			u.State.drop()
		}
	}
	for _, c := range unsent {
		c.settle(0, core.FailedClosed, cause)
	}
	for _, c := range line {
		c.settle(0, core.FailedClosed, cause)
	}
	for _, c := range held {
		c.settle(0, core.FailedUnknown, cause)
	}
	last := []Event{{Kind: GroupEnded, Reason: cause.Error()}}
	if before.Online {
		last = []Event{{Kind: WentOffline, Reason: cause.Error()}, last[0]}
		g.log.Info(WentOffline.String(), "index", before.Committed, "reason", cause)
	}
	g.events.end(last...)
	close(g.over)
	return true
}
