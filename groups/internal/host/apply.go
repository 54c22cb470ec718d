package host

import (
	"fmt"
	"runtime/debug"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// PanicError says that the state machine panicked. Package groups documents it.
type PanicError struct {
	Value any
	Stack []byte

	Index   core.Index // zero: not in a command
	Count   int
	Command any
}

func (e *PanicError) Error() string {
	at := ""
	switch {
	case e.Index == 0:
	case e.Count == 1:
		at = fmt.Sprintf(" at command %d", e.Index)
	default:
		at = fmt.Sprintf(" at one of commands %d to %d", e.Index, e.Index+core.Index(e.Count)-1)
	}
	return fmt.Sprintf("groups: the state machine panicked%s: %v", at, e.Value)
}

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// apply is the applier: it applies all that waits. It returns true if the caller is to be the group loop.
func (g *Group) apply() (again bool) {
	for {
		g.mu.Lock()
		if len(g.queue) == 0 || g.dead {
			g.applying = false
			again = g.reportLocked()
			g.mu.Unlock()
			return again
		}
		orders := g.queue
		g.queue = g.spares
		g.mu.Unlock()
		for i := range orders {
			if !g.carryOut(&orders[i]) {
				break
			}
		}
		clear(orders)
		g.spares = orders[:0]
	}
}

// reportLocked decides whether the engine must hear of what was applied at once. Otherwise it hears of it with whatever
// comes next, at the latest with the next tick. It returns true if the caller is to be the loop that tells it.
func (g *Group) reportLocked() bool {
	if g.dead || g.halted || g.running || (!g.eager && g.backlog < backlogMax) || g.applied == g.reported {
		return false
	}
	g.box.wake = true
	g.running = true
	return true
}

// carryOut does one order. It returns false if the group failed.
func (g *Group) carryOut(o *order) bool {
	if !o.reset {
		if o.run.Install != nil && !g.install(o) {
			return false
		}
		return g.applyRun(&o.run, o.epoch)
	}
	if o.keep != nil {
		o.keep.take(g.machine)
	}
	if err := contain(g.machine.Reset); err != nil {
		g.fail(err)
		return false
	}
	g.progress.restart()
	return true
}

// applyRun applies one run in pieces, so that queries get their turn, and settles the calls in it. It returns false if
// the group failed.
func (g *Group) applyRun(run *core.Apply, epoch uint64) bool {
	items := run.Items
	for len(items) > 0 {
		n, commands, bytes := 0, 0, 0
		for n < len(items) && (n == 0 || commands+items[n].Count <= applyChunk) {
			commands += items[n].Count
			bytes += len(items[n].Payload)
			n++
		}
		piece := items[:n]
		items = items[n:]
		user := piece[n-1].First + core.Index(piece[n-1].Count) - 1
		failure := contain(func() { g.machine.Apply(piece, run.Term) })
		if failure != nil {
			piece, commands, user = g.blame(failure, piece)
		}
		local := false
		for i := range piece {
			local = local || piece[i].Call != nil
		}
		g.mu.Lock()
		if g.dead {
			g.mu.Unlock()
			return false // it took so long that nobody waits any more
		}
		g.backlog += bytes
		if local {
			for i := range piece {
				if c := piece[i].Call; c != nil {
					g.window.release(c.Host.(*Call))
				}
			}
			g.letInLocked()
		}
		g.mu.Unlock()

		g.progress.advance(user, epoch, 0)
		g.meter.applied(commands, user)
		if local {
			g.settleApplied(piece)
		}
		if failure != nil {
			g.fail(failure)
			return false
		}
	}
	if run.Mark != nil {
		g.takeView(run.Mark)
	}
	g.progress.advance(g.progress.user.Load(), epoch, run.RaftIndex)
	g.mu.Lock()
	if epoch == g.epoch {
		g.applied = run.RaftIndex
	}
	g.mu.Unlock()
	return true
}

// settleApplied answers the calls among items that were applied.
func (g *Group) settleApplied(items []core.Item) {
	now := g.svc.now()
	for i := range items {
		if items[i].Call == nil {
			continue
		}
		c := items[i].Call.Host.(*Call)
		g.meter.done(now - c.queued)
		if c.Rejected != nil {
			c.settle(0, Rejected, c.Rejected)
		} else {
			c.settle(items[i].First, 0, nil)
		}
	}
}

// blame adds to the panic of the machine at which of the items' commands it was. It returns the items before that, which
// were applied, and how many commands were, up to which index: more than those of the items if one was applied in part.
func (g *Group) blame(failure error, items []core.Item) (before []core.Item, commands int, user core.Index) {
	p := failure.(*PanicError)
	p.Index, p.Count, p.Command = g.machine.Blame(items)
	n := 0
	for n < len(items) && items[n].First+core.Index(items[n].Count) <= p.Index {
		commands += items[n].Count
		n++
	}
	if n < len(items) && items[n].First < p.Index {
		commands += int(p.Index - items[n].First)
	}
	return items[:n], commands, p.Index - 1
}

// contain calls the machine and turns a panic into a *PanicError.
func contain(call func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	call()
	return nil
}
