package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// HistoryName returns the short name of a history, as it is shown to people.
func HistoryName(g core.GenesisID) string {
	if g == (core.GenesisID{}) {
		return ""
	}
	return fmt.Sprintf("%x", g[:5])
}

// tell passes on news about the group's history. state is that of a history that has just given way.
func (g *Group) tell(n *core.News, state *KeptState) {
	ev := Event{
		From: HistoryName(n.From), Into: HistoryName(n.Into), Commands: int(n.Commands), Reason: n.Reason, Lost: n.Lost, Lossy: n.Lossy,
	}
	log := g.log.With("from", ev.From, "into", ev.Into)
	switch n.Kind {
	case core.NewsAbsorbed:
		ev.Kind = Merged
		g.meter.merges.Inc()
		log.Info("another history of the group was merged into this one", "commands", n.Commands)
	case core.NewsMerged:
		ev.Kind = Merged
		g.meter.merges.Inc()
		log.Info("this history of the group was merged into another one", "commands", n.Commands)
	case core.NewsDivergence:
		ev.Kind, ev.Commands = Divergence, 0
		for _, it := range n.Items {
			ev.Commands += it.Count
		}
		u := &Untaken{News: *n}
		if n.State {
			u.State, ev.Commands = state, int(n.Commands)
		}
		g.meter.untaken.Add(float64(ev.Commands))
		g.mu.Lock()
		dropped := g.keepLocked(u)
		if g.dead && u.State != nil {
			dropped = append(dropped, u.State)
		}
		g.mu.Unlock()
		for _, k := range dropped {
			k.drop()
		}
		log.Warn("commands of a merged history were not taken over as they are", "commands", ev.Commands)
	case core.NewsForked, core.NewsFollowed:
		ev.Kind = Forked
		g.meter.forks.Inc()
		log.Warn("the group goes on without its lost majority", "reason", n.Reason, "commands", n.Commands, "lossy", n.Lossy)
	case core.NewsQuorumLost:
		ev.Kind = QuorumLost
		g.state.change(func(*State) { g.meter.quorumLost.Set(1) })
		g.log.Warn("the group has no majority", "reason", n.Reason)
	case core.NewsQuorumBack:
		ev.Kind = QuorumRegained
		g.state.change(func(*State) { g.meter.quorumLost.Set(0) })
		g.log.Info("the group has a majority again")
	}
	g.events.emit(ev)
}

// Diverged returns the latest news of commands that were not taken over, oldest first.
func (g *Group) Diverged() []*Untaken {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.untaken)
}

// Ask puts a question to the engine and waits for the answer. It fails like WaitState; the engine may still act on the
// question then.
func (g *Group) Ask(ctx context.Context, done <-chan struct{}, q *core.Question) (*core.Plan, error) {
	answer := make(chan core.Answer, 1)
	q.Host = answer
	g.mu.Lock()
	if g.leaving || g.halted || g.dead {
		cause := g.endLocked()
		g.mu.Unlock()
		return nil, cause
	}
	g.box.asks = append(g.box.asks, q)
	g.kickLocked()
	g.mu.Unlock()
	select {
	case a := <-answer:
		if a.Failure != "" {
			return a.Plan, errors.New(a.Failure)
		}
		return a.Plan, nil
	case <-done:
		return nil, &Unanswered{ErrClosed}
	case <-g.over:
		return nil, &Unanswered{g.End()}
	case <-ctx.Done():
		return nil, &Unanswered{context.Cause(ctx)}
	}
}

// Unanswered is why the wait for an answer ended before there was one.
type Unanswered struct{ Cause error }

func (e *Unanswered) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *Unanswered) Unwrap() error { return e.Cause }
