package groups

import (
	"context"
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// StoredGroup is what the durable store of a stopped node holds of a group.
type StoredGroup struct {
	Group     id.ID
	Schema    string     // codec and type of the commands, as far as the store says
	Self      PeerID     // the node, zero if the log does not say
	History   string     // short name, as in Status; empty if the node is part of no history
	Lineage   []Ancestor // how that came about, the latest first
	Members   []Member   // as far as the log is known to be agreed on; Reachable and LastSeen say nothing
	Term      uint64     // of the last entry of the log
	Last      uint64     // position of that entry
	Committed Index      // commands that are known to be committed
	Commands  Index      // commands in all of the log
	Plan      Plan       // what RecoverStore would do, if Why is empty
	Why       string     // why there is nothing to recover
	Err       error      // why the log cannot be read, nil if it can
}

// InspectStore says what a durable store holds, by group. The store must not be in use by a node; open it with
// pebble.Open, which fails while it is. InspectStore changes nothing.
func InspectStore(ctx context.Context, store logstore.Store) ([]StoredGroup, error) {
	const op = "groups: inspect a store"
	l, ok := store.(logstore.Lister)
	if !ok {
		return nil, fmt.Errorf("%s: a %T cannot tell what it holds", op, store)
	}
	all, err := l.Groups()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	var out []StoredGroup
	for _, g := range all {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", op, context.Cause(ctx))
		}
		s := StoredGroup{Group: g}
		if err := offline(store, g, func(o *core.Offline, l logstore.Log) error { s.fill(o, l); return nil }); err != nil {
			s.Err = err
		}
		out = append(out, s)
	}
	return out, nil
}

// RecoverStore has the node of a stopped store go on without the other voters of a group, as [Group.Recover] does for one
// that runs. plan is one of [InspectStore]; RecoverStore refuses if the store holds something else by now.
//
// It is the last resort for a group whose other voters are lost for good. When the node starts again it is the only
// voter, with all that its log holds, committed or not, and others join it, those of the old history too if they find no
// majority and their logs hold nothing more. Do this on one node only: the one whose log has the highest term, and among
// those the one that reaches farthest. If several go on, or if the lost voters come back after all, there are several
// histories, which merge when they meet.
//
// It happens as a whole or not at all, whatever interrupts it. After an error it has not happened, unless the error came
// from the disk; then look at the store again.
func RecoverStore(ctx context.Context, store logstore.Store, plan StoredGroup) error {
	op := "groups: recover " + plan.Group.Short()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	case plan.Err != nil:
		return fmt.Errorf("%s: %w", op, plan.Err)
	case plan.Why != "" || !plan.Plan.Needed:
		return fmt.Errorf("%s: there is nothing to recover: %s", op, plan.Why)
	}
	err := offline(store, plan.Group, func(o *core.Offline, l logstore.Log) error {
		var now StoredGroup
		now.fill(o, l)
		if now.History != plan.History || now.Last != plan.Last || now.Term != plan.Term {
			return errors.New("the log is not the one of the plan any more")
		}
		return o.Fork()
	})
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// offline opens the log of a group for as long as use takes, and returns when what that changed is safe.
func offline(store logstore.Store, group id.ID, use func(*core.Offline, logstore.Log) error) error {
	failed := make(chan error, 1)
	log, err := store.Open(group, func(_ uint64, err error) {
		if err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	o, err := host.OpenOffline(log)
	if err == nil {
		err = use(o, log)
	}
	err = errors.Join(err, log.Close()) // which waits for what was submitted
	select {
	case why := <-failed:
		err = errors.Join(err, why)
	default:
	}
	return err
}

// fill describes what a log holds.
func (s *StoredGroup) fill(o *core.Offline, l logstore.Log) {
	x := o.Status()
	if was, err := decodeSchema(l.Schema()); err == nil {
		s.Schema = was.String()
	}
	s.Self, s.History, s.Lineage = x.Self, host.HistoryName(x.Genesis), lineage(x.Absorbed, &x.Origin)
	s.Term, s.Last, s.Committed, s.Commands, s.Why = x.Term, x.Last, Index(x.Committed), Index(x.Commands), x.Why
	for _, m := range x.Members {
		s.Members = append(s.Members, Member{Peer: m.Peer, Preference: Preference(m.Preference), Voter: m.Voter, Durable: m.Durable})
	}
	if p := x.Plan; p != nil {
		s.Plan = Plan{Needed: p.Needed, History: s.History, Founder: p.Founder, Lossless: p.Lossless}
		for _, v := range p.Survivors {
			s.Plan.Survivors = append(s.Plan.Survivors, survivor(v))
		}
		for _, m := range p.Missing {
			s.Plan.Missing = append(s.Plan.Missing, Missing{Peer: m.Peer, Why: m.Why, Dead: m.Dead})
		}
	}
}
