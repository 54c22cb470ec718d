package groups

import (
	"context"
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// Execute has the group apply a command and returns what this member's machine answered, once it has applied it: a weak
// query that follows sees the effect. By then a majority of the voting members has the command.
//
// Calls of one handle take effect in the order in which they were made. A call waits through changes of leadership and is
// applied exactly once. If it fails, the error wraps either [ErrNotApplied] or [ErrOutcomeUnknown]. When ctx ends, its
// error is wrapped too; a call that was sent by then may still be applied. On a member that cannot get the state of the
// group a call fails with [ErrStuck] after the group's patience.
func (g *Group[C, Q, R]) Execute(ctx context.Context, cmd C) (Result[R], error) {
	const op = "groups: execute"
	var res Result[R]
	c := g.pools.call()
	c.one[0] = cmd
	err := g.do(ctx, op, c, c.one[:], false, func(c *call[C, R]) {
		res = Result[R]{Value: c.value, Index: Index(c.First)}
	})
	return res, err
}

// ExecuteMany is Execute for several commands at once. They are atomic in the history: their indices are contiguous and
// either all are applied or none. Their encodings together must not exceed [MaxCallBytes].
func (g *Group[C, Q, R]) ExecuteMany(ctx context.Context, cmds ...C) (Batch[R], error) {
	var batch Batch[R]
	err := g.run(ctx, "groups: execute many", cmds, false, func(c *call[C, R]) {
		if len(cmds) == 1 {
			c.values = []R{c.value}
		}
		batch = Batch[R]{Values: c.values, Range: rangeOf(c)}
	})
	return batch, err
}

// Feed hands a command to the group without waiting for the result: it returns the index that the leader gave the
// command. The index is final unless the leader fails before the command is committed; even then the command is not lost
// but may get a later index. Wait with When().Committed().Reaches to see its effect here. Errors are as for Execute.
func (g *Group[C, Q, R]) Feed(ctx context.Context, cmd C) (Index, error) {
	const op = "groups: feed"
	var index Index
	c := g.pools.call()
	c.one[0] = cmd
	err := g.do(ctx, op, c, c.one[:], true, func(c *call[C, R]) { index = Index(c.First) })
	return index, err
}

// FeedMany is Feed for several commands, which are atomic as those of ExecuteMany.
func (g *Group[C, Q, R]) FeedMany(ctx context.Context, cmds ...C) (Range, error) {
	var r Range
	err := g.run(ctx, "groups: feed many", cmds, true, func(c *call[C, R]) { r = rangeOf(c) })
	return r, err
}

func rangeOf[C, R any](c *call[C, R]) Range {
	return Range{First: Index(c.First), Last: Index(c.First) + Index(c.Count) - 1}
}

// Query asks this member's machine. A [Weak] query answers from what has been applied here, also while offline: it waits for
// nobody but the machine. A [Strong] one is linearizable; it waits through changes of leadership and fails with [ErrOffline]
// when no leader confirmed it within the group's patience, or with [ErrStuck] when this member cannot get the state of the
// group. Both wait while the machine applies commands, up to 512 at a time, or makes a snapshot, which is over at once unless
// its methods are slow. When ctx ends meanwhile, they fail with its error.
//
// The machine's Query runs in the caller's goroutine, concurrently with other queries.
func (g *Group[C, Q, R]) Query(ctx context.Context, q Q, consistency Consistency) (Result[R], error) {
	const op = "groups: query"
	var none Result[R]
	if err := g.usable(ctx); err != nil {
		return none, notApplied(op, err)
	}
	switch consistency {
	case Weak:
		if err := g.host.End(); err != nil {
			return none, notApplied(op, err)
		}
		res, err := g.machine.query(ctx, g.host.Over(), q)
		if err != nil {
			return none, g.busy(op, err)
		}
		return res, nil
	case Strong:
		for {
			resets := g.machine.since()
			if err := g.confirm(ctx, op); err != nil {
				return none, err
			}
			// What was confirmed holds for the machine of that moment. If the member has begun anew meanwhile, in another history
			// or as a new member, it has to ask again.
			res, ok, err := g.machine.querySince(ctx, g.host.Over(), resets, q)
			if err != nil {
				return none, g.busy(op, err)
			}
			if ok {
				return res, nil
			}
		}
	default:
		return none, notApplied(op, fmt.Errorf("unknown %v", consistency))
	}
}

// busy is the error of a query whose wait for the machine ended with a cause.
func (g *Group[C, Q, R]) busy(op string, cause error) error {
	if end := g.host.End(); end != nil && errors.Is(cause, ErrClosed) {
		cause = end
	}
	return g.explain(notApplied(op, cause))
}

// confirm waits until the machine has all that was acknowledged to anyone before.
func (g *Group[C, Q, R]) confirm(ctx context.Context, op string) error {
	r := g.pools.read()
	reusable, err := g.host.Await(ctx, r)
	if reusable {
		g.pools.reads.Put(r)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, host.ErrUnconfirmed):
		return g.explain(&callError{op: op, outcome: ErrOffline})
	default:
		return g.explain(notApplied(op, err))
	}
}

// explain adds to an error why the group is offline, if it is, or that the machine is slow.
func (g *Group[C, Q, R]) explain(err error) error {
	e, ok := err.(*callError)
	if !ok {
		return err
	}
	if errors.Is(e.cause, ErrStuck) {
		return err // which says it
	}
	if s := g.host.State(); !s.Online && s.Ended == nil && s.Reason != "" {
		e.note = g.host.Why(s)
	} else {
		e.note = g.host.Slow(s)
	}
	return e
}
