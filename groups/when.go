package groups

import (
	"context"
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
	"github.com/mosaik-go/mosaik/id"
)

// PeerID is the identity of a node, see [id.PeerID].
type PeerID = id.PeerID

// When waits for what may become of a group. Each method returns nil once its condition holds, which may be at once, the
// error of ctx when that ends first, and [ErrClosed] or the reason of a failure when the handle or the group ends first.
// A When may be used any number of times and concurrently.
type When struct {
	host *host.Group
	self id.PeerID
	done <-chan struct{}
}

// When returns what the handle can wait for.
func (g *Group[C, Q, R]) When() *When { return &When{host: g.host, self: g.self, done: g.done} }

// wait waits until ok holds for a state.
func (w *When) wait(ctx context.Context, what string, ok func(*host.State) bool) (*host.State, error) {
	s, err := w.host.WaitState(ctx, w.done, ok)
	if err != nil {
		return nil, w.failed(what, err, s)
	}
	return s, nil
}

// failed is the error of a wait that ended in a state.
func (w *When) failed(what string, err error, s *host.State) error {
	if s != nil && s.Online && len(s.Slow) > 0 {
		return fmt.Errorf("groups: wait until %s: %w (%s)", what, err, w.host.Slow(s))
	}
	if errors.Is(err, ErrClosed) || s == nil || s.Ended != nil || s.Online {
		return fmt.Errorf("groups: wait until %s: %w", what, err)
	}
	return fmt.Errorf("groups: wait until %s: %w (%s)", what, err, w.host.Why(s))
}

// Online waits until the group takes commands here: there is a leader, and this member has what that leader had committed
// when they met. It has applied that if it is new in the group's history or was given its state, and is about to if it was
// merely without a leader for a while; Committed().Reaches waits for what must be visible.
func (w *When) Online(ctx context.Context) error {
	_, err := w.wait(ctx, "online", func(s *host.State) bool { return s.Online })
	return err
}

// Offline waits until the group does not take commands here.
func (w *When) Offline(ctx context.Context) error {
	_, err := w.wait(ctx, "offline", func(s *host.State) bool { return !s.Online })
	return err
}

// IsLeader waits until this member leads.
func (w *When) IsLeader(ctx context.Context) error {
	_, err := w.wait(ctx, "this member leads", leading)
	return err
}

// IsFollower waits until another member leads.
func (w *When) IsFollower(ctx context.Context) error {
	_, err := w.wait(ctx, "another member leads", func(s *host.State) bool {
		return !s.Leader.IsZero() && s.Leader != w.self
	})
	return err
}

// LeaderElected waits until there is a leader and returns it.
func (w *When) LeaderElected(ctx context.Context) (PeerID, error) {
	return w.leader(ctx, "there is a leader", func(id.PeerID) bool { return true })
}

// LeaderChanged waits until there is a leader other than the present one and returns it. The present one is the leader
// known when LeaderChanged is called; if none is known, any leader will do.
func (w *When) LeaderChanged(ctx context.Context) (PeerID, error) {
	present := w.host.State().Leader
	return w.leader(ctx, "the leader changes", func(l id.PeerID) bool { return l != present })
}

// LeaderIs waits until the given member leads.
func (w *When) LeaderIs(ctx context.Context, peer PeerID) error {
	_, err := w.leader(ctx, peer.Short()+" leads", func(l id.PeerID) bool { return l == peer })
	return err
}

func (w *When) leader(ctx context.Context, what string, ok func(id.PeerID) bool) (PeerID, error) {
	s, err := w.wait(ctx, what, func(s *host.State) bool { return !s.Leader.IsZero() && ok(s.Leader) })
	if err != nil {
		return PeerID{}, err
	}
	return s.Leader, nil
}

func leading(s *host.State) bool { return s.Role == core.RoleLeader }

// Committed returns a watch on the index of the last command applied here.
func (w *When) Committed() Watch {
	from, falls := w.host.Position()
	return Watch{when: w, from: from, falls: falls}
}

// Watch waits for the index of the last command applied on this member. It remembers where the index stood when the
// Watch was made, so what happens between that and a wait is not missed.
type Watch struct {
	when  *When
	from  core.Index
	falls <-chan struct{} // closed when the index goes back
}

// Reaches waits until the index is at least i. A weak query then sees the command i.
func (w Watch) Reaches(ctx context.Context, i Index) error {
	err := w.when.host.WaitApplied(ctx, w.when.done, core.Index(i))
	if err != nil {
		return w.when.failed(fmt.Sprintf("index %d is committed", i), err, w.when.host.State())
	}
	return nil
}

// Advanced waits until the index is higher than when the Watch was made, and returns it.
func (w Watch) Advanced(ctx context.Context) (Index, error) {
	if err := w.Reaches(ctx, Index(w.from)+1); err != nil {
		return 0, err
	}
	return Index(w.when.host.Applied()), nil
}

// Changed waits until the index is other than when the Watch was made, and returns it.
func (w Watch) Changed(ctx context.Context) (Index, error) {
	return w.moves(ctx, "the index changes", true)
}

// Reverted waits until the index has gone back since the Watch was made, and returns it. That happens when this member was
// removed, as unreachable, and joins again with a fresh machine: it starts from nothing and catches up. The group's
// history itself never goes back.
func (w Watch) Reverted(ctx context.Context) (Index, error) {
	return w.moves(ctx, "the index goes back", false)
}

func (w Watch) moves(ctx context.Context, what string, forward bool) (Index, error) {
	err := w.when.host.WaitMoved(ctx, w.when.done, w.from, w.falls, forward)
	if err != nil {
		return 0, w.when.failed(what, err, w.when.host.State())
	}
	return Index(w.when.host.Applied()), nil
}
