package groups

import (
	"context"
	"errors"
)

// RemoveMember takes a member out of the group that will not come back, without waiting for RemoveAfter or
// RemoveDurableAfter: a voter that is gone for good makes the next failure count double until then. It may be called on
// any member, and returns when this member sees the removal committed, after about a second.
//
// It refuses to remove a member that is connected to this one, and the leader one that is connected to it: a live member
// leaves by itself, and would only join again. It also fails, after ten seconds, if there is no leader or no majority of the
// voters is healthy without the member; if most voters are lost, see [Group.Recover]. Should the member come back after
// all, on the same disk even, it learns that it was removed and joins again as a new one, with a fresh machine, as after
// RemoveDurableAfter.
//
// An error wraps [ErrNotApplied], or [ErrOutcomeUnknown] if the leader was asked: it takes that back within a second, so
// Members tells soon after. Calling it again does no harm.
func (g *Group[C, Q, R]) RemoveMember(ctx context.Context, peer PeerID) error {
	op := "groups: remove member " + peer.Short()
	if err := g.usable(ctx); err != nil {
		return notApplied(op, err)
	}
	if peer == g.self {
		return notApplied(op, errors.New("this is the node itself, which can Leave"))
	}
	switch sent, err := g.host.Remove(ctx, g.done, peer); {
	case err == nil:
		return nil
	case sent:
		return &callError{op: op, outcome: ErrOutcomeUnknown, cause: err}
	default:
		return notApplied(op, err)
	}
}
