package member

import "github.com/mosaik-go/mosaik/groups/internal/wire"

// State is what a leader knows of one member when it decides.
type State struct {
	ID       uint64
	Voter    bool
	Observer bool
	Leader   bool // the one that decides
	Healthy  bool // reachable, and heard from lately
	CaughtUp bool // holds the log up to what was committed a moment ago
	Leaving  bool // asked to be taken out
	Dead     bool // will not come back under this id, or was silent too long
}

// Target returns how many of n members should vote: one of one, two of two, so that what is acknowledged is on both, and
// otherwise the largest odd number, since an even one tolerates no more failures than the odd one below it.
func Target(n, most int) int {
	if n > most {
		n = most
	}
	if n > 2 && n%2 == 0 {
		n--
	}
	return n
}

// Plan returns the next change to make, nil if none. It makes one step at a time, and never one that would leave the
// voters without a healthy majority or needs a majority that is not healthy now.
func Plan(all []State, maxVoters int) []Op {
	// 1. Members that leave or are dead go; a voter is replaced in the same step if somebody can take its place.
	for _, m := range all {
		if m.Leader || !m.Leaving && !m.Dead {
			continue
		}
		if !m.Voter {
			if safe(all, nil) {
				return []Op{op(Remove, m)}
			}
			continue
		}
		remove := op(Remove, m)
		if sub := candidate(all); sub != nil && voters(all) <= Target(staying(all), maxVoters) {
			if swap := []Op{remove, op(Promote, *sub)}; safe(all, swap) {
				return swap
			}
		}
		if safe(all, []Op{remove}) {
			return []Op{remove}
		}
	}
	// 2. The number of voters follows the number of members.
	target := Target(staying(all), maxVoters)
	standing := 0 // voters that stay
	for _, m := range all {
		if m.Voter && !m.Leaving && !m.Dead {
			standing++
		}
	}
	switch {
	case standing < target:
		if m := candidate(all); m != nil {
			if promote := []Op{op(Promote, *m)}; safe(all, promote) {
				return promote
			}
		}
	case standing > target:
		if m := surplus(all); m != nil {
			if demote := []Op{op(Demote, *m)}; safe(all, demote) {
				return demote
			}
		}
	}
	return nil
}

func op(k OpKind, m State) Op { return Op{Kind: k, Member: wire.Member{ID: m.ID}} }

// staying counts the members that may vote and will be there.
func staying(all []State) int {
	n := 0
	for _, m := range all {
		if !m.Observer && !m.Leaving && !m.Dead {
			n++
		}
	}
	return n
}

func voters(all []State) int {
	n := 0
	for _, m := range all {
		if m.Voter {
			n++
		}
	}
	return n
}

// candidate returns a learner that can vote at once, nil if there is none.
func candidate(all []State) *State {
	for i := range all {
		if m := &all[i]; !m.Voter && !m.Observer && m.Healthy && m.CaughtUp && !m.Leaving && !m.Dead {
			return m
		}
	}
	return nil
}

// surplus returns the voter to demote: one that is not healthy before one that is, never the leader.
func surplus(all []State) *State {
	var pick *State
	for i := range all {
		m := &all[i]
		if m.Voter && !m.Leader && (pick == nil || pick.Healthy && !m.Healthy) {
			pick = m
		}
	}
	return pick
}

// safe reports whether a healthy majority votes now and after the operations.
func safe(all []State, ops []Op) bool {
	count := func(voter func(State) bool) bool {
		total, healthy := 0, 0
		for _, m := range all {
			if voter(m) {
				total++
				if m.Healthy || m.Leader {
					healthy++
				}
			}
		}
		return total > 0 && healthy > total/2
	}
	now := func(m State) bool { return m.Voter }
	after := func(m State) bool {
		for _, o := range ops {
			if o.Member.ID == m.ID {
				return o.Kind == Promote
			}
		}
		return m.Voter
	}
	return count(now) && count(after)
}
