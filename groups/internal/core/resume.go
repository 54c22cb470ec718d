package core

import (
	"cmp"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

// resume takes up the life of the member whose log this is, if there is one.
func (r *Replica) resume() error {
	saved := slices.Clone(r.cfg.Saved)
	for _, im := range saved {
		r.snaps.lastID = max(r.snaps.lastID, im.Mark)
	}
	b := r.log.Record()
	if len(b) == 0 {
		r.discard(saved)
		return nil
	}
	h, err := r.remember(b)
	if err != nil {
		return err
	}
	if r.genesis.IsZero() {
		r.discard(saved)
		return nil
	}
	origin := r.origin
	r.resumed = true
	from, state, err := r.whole(saved, h)
	if err != nil {
		return err
	}
	r.guard(func() {
		r.adopt(from)
		r.applied, r.commits, r.term = firstIndex, state.GetCommit(), state.GetTerm() // the driver has yet to read the image
		r.run(origin, from.Conf)
	})
	return r.fatal
}

// discard gives up images.
func (r *Replica) discard(saved []Saved) {
	for _, im := range saved {
		r.due.drop = append(r.due.drop, im.Mark)
	}
}

// whole returns the state to go on from, that of the newest image or that with which the history began, and the hard
// state. It fails if log and images together cannot be what this engine wrote.
func (r *Replica) whole(saved []Saved, h heirloom) (*State, *raftpb.HardState, error) {
	state, members, err := r.log.InitialState()
	if err != nil {
		return nil, nil, fmt.Errorf("core: resume: %w", err)
	}
	first, err := r.log.FirstIndex()
	if err != nil {
		return nil, nil, fmt.Errorf("core: resume: %w", err)
	}
	last, err := r.log.LastIndex()
	if err != nil {
		return nil, nil, fmt.Errorf("core: resume: %w", err)
	}
	term, err := r.log.Term(first - 1)
	if err != nil {
		return nil, nil, fmt.Errorf("core: resume: %w", err)
	}
	if first <= firstIndex || len(members.GetVoters()) == 0 || state.GetCommit() < first-1 || state.GetCommit() > last || state.GetTerm() < term {
		return nil, nil, fmt.Errorf("core: resume: entries %d to %d, of which %d are committed, in term %d: %w",
			first, last, state.GetCommit(), state.GetTerm(), logstore.ErrCorrupt)
	}
	usable := r.usable(saved, first-1, h)
	if len(usable) > 0 {
		return r.fromImage(usable, state, last)
	}
	if first-1 > firstIndex {
		return nil, nil, fmt.Errorf("core: resume: the log begins at %d, and there is no image of the state before: %w", first, logstore.ErrCorrupt)
	}
	index := uint64(firstIndex)
	return &State{
		Origin: r.origin, Index: index, Term: term, Conf: members, Table: member.NewTable(r.origin.Founders, member.NewSessions(0)),
	}, state, nil
}

// usable returns the images that the log can go on from, oldest first, and gives the others up.
func (r *Replica) usable(saved []Saved, begin uint64, h heirloom) (out []Saved) {
	slices.SortFunc(saved, func(a, b Saved) int { return cmp.Compare(a.State.Index, b.State.Index) })
	for _, im := range saved {
		s := im.State
		if g := s.Origin.Genesis; h.index != 0 && g == h.of && s.Index == h.index {
			s = s.inherited(r.origin)
			im.State, im.of = s, g
		}
		// One that does not know this member may be left from a membership before, or be of a mark that the log had when this
		// member joined; behind the latter the log may have been cut.
		mine := s.Table.Get(r.self) != nil || begin > firstIndex
		if r.cfg.Snapshots && s.Origin.Genesis == r.genesis && s.Index >= begin && mine {
			out = append(out, im)
		} else {
			r.discard([]Saved{im})
		}
	}
	if n := len(out) - imagesMost; n > 0 {
		r.discard(out[:n])
		out = out[n:]
	}
	return out
}

// fromImage has the driver begin with the newest image. What it contains was committed, whether the log still knows that
// or not; if the log does not reach it, as when the process ended between the two, it begins behind it.
func (r *Replica) fromImage(usable []Saved, state *raftpb.HardState, last uint64) (*State, *raftpb.HardState, error) {
	newest := usable[len(usable)-1]
	s := newest.State
	var b logstore.Batch
	index, term := s.Index, s.Term
	have, err := r.log.Term(index)
	if index > last || err == nil && have != term {
		b.Begin = &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: s.Conf}
	} else if err != nil {
		return nil, nil, fmt.Errorf("core: resume: %w", err)
	}
	if state.GetCommit() < index || b.Begin != nil {
		vote, current := state.GetVote(), state.GetTerm()
		if current < term {
			current, vote = term, 0
		}
		commit := max(index, min(state.GetCommit(), last))
		if b.Begin != nil {
			commit = index
		}
		b.State = &raftpb.HardState{Term: &current, Vote: &vote, Commit: &commit}
		state = b.State
		if _, _, ok := r.submit(b); !ok {
			return nil, nil, r.fatal
		}
	}
	for _, im := range usable {
		r.snaps.images = append(r.snaps.images, &image{
			id: im.Mark, index: im.State.Index, term: im.State.Term, user: im.State.User, conf: im.State.Conf, root: im.Root, written: true, of: im.of,
		})
	}
	r.due.apply = append(r.due.apply, Apply{
		Install: &Install{Saved: newest.Mark, User: s.User}, RaftIndex: r.offset + index, Term: term,
	})
	return s, state, nil
}
