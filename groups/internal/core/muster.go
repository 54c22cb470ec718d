package core

import (
	"maps"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

const (
	sealFor        = 5 * time.Second // members stand still after a muster, unless the fork comes
	musterPatience = 2 * time.Second
	standEvery     = time.Second // between musters
)

// muster is a muster that this member called.
type muster struct {
	round    uint64
	reason   wire.Reason
	peek     bool
	began    time.Duration
	asked    []id.PeerID
	got      map[id.PeerID]*wire.Standing
	question *Question // of an operator, nil if it came about by itself
}

// newRound returns what a recovery is known by, which is never zero.
func (r *Replica) newRound() uint64 { return max(1, r.rng.Uint64()) }

// callMuster asks all survivors to stand still and report.
func (r *Replica) callMuster(reason wire.Reason, there []id.PeerID, q *Question) {
	m := &muster{
		round: r.newRound(), reason: reason, began: r.now, asked: there, got: make(map[id.PeerID]*wire.Standing), question: q,
	}
	m.peek = q != nil && q.Kind == AskPlan
	r.recovery.muster = m
	r.recovery.next = r.now + standEvery
	for _, who := range there {
		r.send(who, &wire.Muster{
			Genesis: r.genesis, Round: m.round, Reason: reason, Peek: m.peek, Known: r.handed, Ended: slices.Sorted(maps.Keys(r.tombs)),
		})
	}
	if !m.peek {
		r.seal(m.round)
	}
	r.finishMuster()
}

// seal makes this member stand still because of a muster.
func (r *Replica) seal(round uint64) {
	v := &r.recovery
	v.other = v.sealed(r.now) && (v.other || v.round != round)
	v.until, v.round = r.now+sealFor, round
	r.dirty = true
}

// unseal ends that when the muster is over without a fork, unless another one may still count on this member.
func (r *Replica) unseal(round uint64) {
	if v := &r.recovery; v.round == round && !v.other {
		v.until, v.round = 0, 0
		r.dirty = true
	}
}

func (r *Replica) onMuster(from id.PeerID, m *wire.Muster) {
	if r.rn == nil || m.Genesis != r.genesis || r.leaving.asked && m.Peek {
		return
	}
	for _, id := range m.Ended {
		if r.table.Get(id) != nil && id != r.self {
			r.tombs[id] = "said farewell to another member"
			r.leader.plan = true
		}
	}
	s := r.standing(m.Round)
	switch lost := r.provenLost(); {
	case r.leaving.asked:
		s.Refused = true
	case !m.Peek && (r.follows() || r.ahead(from, m)):
		s.Refused = true
	case m.Peek, r.table.Get(r.self) == nil: // one that is only about to join has no say
	case m.Reason == wire.Proven:
		// Proof holds for all. But it may be about voters of the past, which one that knows later ones sees. One that knows no
		// more than the other must not stand in its way: it may never get the proof itself. Nor must one according to whom
		// nothing can go on without the other, who may not know that its log is committed as far as that.
		now := !r.replaying() // knows who the voters are
		s.Refused = !(now && lost) && (r.lead != 0 || r.commits > m.Known && !(now && r.indispensable(from)))
	case m.Reason == wire.Availability:
		s.Refused = r.cfg.AvailabilityFirst == 0 || r.lead != 0
	default:
		s.Refused = r.online()
	}
	if !s.Refused && !m.Peek {
		if x := r.recovery.muster; x != nil && !x.peek {
			r.endMuster("another member recovers the group")
		}
		r.seal(m.Round)
	}
	r.send(from, s)
}

// indispensable reports whether the voters that this member knows have no majority without a peer, as the member that it is
// now, so that it holds whatever they may have acknowledged.
func (r *Replica) indispensable(who id.PeerID) bool {
	h := r.peers[who].hello
	if h == nil || h.Genesis != r.genesis {
		return false
	}
	row, voters := r.table.Get(h.Member), r.table.Voters()
	return row != nil && row.Voter && row.Peer == who && voters-1 < voters/2+1
}

// ahead reports whether a muster of this member goes before that of another one, so that not both lead to a fork: the one
// who knows more of the log goes first, then the one with the lower id.
func (r *Replica) ahead(from id.PeerID, m *wire.Muster) bool {
	x := r.recovery.muster
	if x == nil || x.peek || !slices.Contains(x.asked, from) {
		return false
	}
	return r.handed > m.Known || r.handed == m.Known && r.cfg.Self.Compare(from) < 0
}

// standing describes this member's log.
func (r *Replica) standing(round uint64) *wire.Standing {
	s := &wire.Standing{Genesis: r.genesis, Round: round, Member: r.self, Commands: r.index}
	if last, err := r.log.LastIndex(); err == nil {
		s.Last = last
		s.Term, _ = r.log.Term(last)
	}
	return s
}

func (r *Replica) onDismiss(m *wire.Dismiss) {
	if r.rn != nil && m.Genesis == r.genesis {
		r.unseal(m.Round)
	}
}

func (r *Replica) onStanding(from id.PeerID, m *wire.Standing) {
	x := r.recovery.muster
	if x == nil || r.rn == nil || m.Genesis != r.genesis || m.Round != x.round || !slices.Contains(x.asked, from) {
		return
	}
	x.got[from] = m
	if m.Refused && !x.peek {
		// At once: as long as this member stands still it hears no leader, who may be what the other knows of.
		r.endMuster("member " + from.Short() + " does not see the majority as lost, or recovers the group itself")
		return
	}
	r.finishMuster()
}

// tickMuster gives up a muster that not all have answered.
func (r *Replica) tickMuster() {
	m := r.recovery.muster
	if m == nil || r.now-m.began < musterPatience {
		return
	}
	if m.peek {
		r.endMuster("")
		return
	}
	r.endMuster("not every survivor answered")
}

// endMuster ends a muster without a fork. Those that were asked need not stand still any longer: the vote of one of them may
// be what a leader lacks.
func (r *Replica) endMuster(failure string) {
	m := r.recovery.muster
	r.recovery.muster = nil
	if !m.peek {
		r.unseal(m.round)
		for _, who := range m.asked {
			r.send(who, &wire.Dismiss{Genesis: r.genesis, Round: m.round})
		}
	}
	if m.question != nil {
		a := Answer{Question: m.question, Failure: failure}
		if m.peek {
			a.Plan = r.planOf(m)
		}
		r.answer(a)
	}
}

// finishMuster forks, or has somebody fork, once all have answered.
func (r *Replica) finishMuster() {
	m := r.recovery.muster
	if len(m.got) < len(m.asked) {
		return
	}
	if m.peek {
		r.endMuster("")
		return
	}
	best, at := r.standing(m.round), r.cfg.Self
	for _, who := range m.asked {
		s := m.got[who]
		if s.Term > best.Term || s.Term == best.Term && (s.Last > best.Last || s.Last == best.Last && s.Member < best.Member) {
			best, at = s, who
		}
	}
	lossy := m.reason != wire.Proven || r.outvoted(func(id uint64) bool { return !r.alive(id) })
	r.recovery.muster = nil
	if m.question != nil {
		r.answer(Answer{Question: m.question})
	}
	if at == r.cfg.Self {
		r.fork(m.reason, m.round, lossy)
		return
	}
	r.send(at, &wire.Fork{Genesis: r.genesis, Round: m.round, Reason: m.reason, Lossy: lossy})
}
