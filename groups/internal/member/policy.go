package member

// State is what a leader knows of one member when it decides.
type State struct {
	ID       uint64
	Voter    bool
	Observer bool
	Leader   bool // the one that decides
	Healthy  bool // reachable, and heard from lately
	CaughtUp bool // holds the log up to what was committed a moment ago, and may vote as far as its past goes
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

// Plan returns the next change to make, if one is due: one member at a time, and never one that would leave the voters
// without a healthy majority or that needs a majority which is not healthy now (the rules of Consul's autopilot).
//
// A dead voter goes before another takes its place: without it the others tolerate as many failures as with it, and a
// newcomer that fails at once does no harm. One that leaves while it is healthy goes after another has taken its place.
func Plan(all []State, maxVoters int) (Op, bool) {
	if !majority(all, 0, false) {
		return Op{}, false // nothing can be agreed on
	}
	for _, m := range all {
		if m.Dead && !m.Leader && (!m.Voter || majority(all, m.ID, false)) {
			return op(Remove, m), true
		}
	}
	target, standing := Target(staying(all), maxVoters), 0
	for _, m := range all {
		if m.Voter && !m.Observer && !m.Leaving && !m.Dead {
			standing++
		}
	}
	if standing < target && sparesCandidate(all) {
		if m := candidate(all); m != nil {
			return op(Promote, *m), true
		}
	}
	for _, m := range all {
		if m.Leaving && !m.Leader && (!m.Voter || majority(all, m.ID, false)) {
			return op(Remove, m), true
		}
	}
	// An observer votes only where it has saved a group that lost everybody else.
	for _, m := range all {
		if m.Voter && m.Observer && !m.Leader && standing > 0 && majority(all, m.ID, false) {
			return op(Demote, m), true
		}
	}
	if standing > target {
		if m := surplus(all); m != nil && majority(all, m.ID, false) {
			return op(Demote, *m), true
		}
	}
	return Op{}, false
}

// Calm reports whether the members are as they should be, so that nothing is to be done before something happens: all
// are healthy and stay, and as many vote as should.
func Calm(all []State, maxVoters int) bool {
	voters := 0
	for _, m := range all {
		if m.Dead || m.Leaving || !m.Healthy && !m.Leader || m.Voter && m.Observer {
			return false
		}
		if m.Voter {
			voters++
		}
	}
	return voters == Target(staying(all), maxVoters)
}

func op(k OpKind, m State) Op {
	o := Op{Kind: k}
	o.Member.ID = m.ID
	return o
}

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

// candidate returns a learner that can vote at once, nil if there is none.
func candidate(all []State) *State {
	for i := range all {
		if m := &all[i]; !m.Voter && !m.Observer && m.Healthy && m.CaughtUp && !m.Leaving && !m.Dead {
			return m
		}
	}
	return nil
}

// sparesCandidate reports whether one more voter does no harm even if it fails at once: the others are most of the voters
// without it. Where all are healthy one may be added in any case, or a group would never grow beyond its founder.
func sparesCandidate(all []State) bool {
	total, healthy := 0, 0
	for _, m := range all {
		if m.Voter {
			total++
			if m.Healthy || m.Leader {
				healthy++
			}
		}
	}
	return healthy == total || healthy > (total+1)/2
}

// surplus returns the voter to demote: one that is not healthy before one that is, never the leader.
func surplus(all []State) *State {
	var pick *State
	for i := range all {
		m := &all[i]
		if m.Voter && !m.Leader && !m.Leaving && !m.Dead && (pick == nil || pick.Healthy && !m.Healthy) {
			pick = m
		}
	}
	return pick
}

// majority reports whether most of the voters are healthy, when the changed member votes or not as given.
func majority(all []State, changed uint64, votes bool) bool {
	total, healthy := 0, 0
	for _, m := range all {
		voter := m.Voter
		if m.ID == changed {
			voter = votes
		}
		if voter {
			total++
			if m.Healthy || m.Leader {
				healthy++
			}
		}
	}
	return healthy > total/2
}
