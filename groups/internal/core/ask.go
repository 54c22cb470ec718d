package core

import (
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// QuestionKind tells questions apart.
type QuestionKind uint8

const (
	AskTransfer QuestionKind = iota + 1 // make Peer the leader
	AskPlan                             // say what a recovery would do
	AskRecover                          // recover, with exactly the survivors of Plan
	AskRemove                           // take Peer for dead for a moment if it is not connected; answered once the leader is told
)

// Question is something that a user asks about leadership or recovery. The driver must not change it before its answer.
type Question struct {
	Kind QuestionKind
	Peer id.PeerID
	Plan *Plan
	Host any // the driver's own data, returned with the answer

	since time.Duration
	last  time.Duration
}

// Answer ends a Question. Failure says in words why it failed; empty if it did not.
type Answer struct {
	Question *Question
	Failure  string
	Plan     *Plan
}

// Plan is what a recovery would do.
type Plan struct {
	Genesis   GenesisID
	Survivors []Survivor // members that are there, this one too
	Missing   []Missing  // voters that are not
	Founder   id.PeerID  // who would fork
	Lossless  bool       // nothing that was acknowledged can be missing afterwards
	Needed    bool       // there is no majority, and this member is offline
}

// Survivor is a member that answers.
type Survivor struct {
	Peer     id.PeerID
	Voter    bool
	Term     uint64 // of the last entry of its log
	Last     uint64 // raft index of that entry
	Commands Index  // applied
}

// Missing is a voter that is not there.
type Missing struct {
	Peer id.PeerID
	Why  string
	Dead bool          // it will not come back as the member it was
	Seen time.Duration // last contact, zero if never
}

const (
	transferPatience = 3 * time.Second
	transferEvery    = 300 * time.Millisecond
)

// Ask implements Engine.
func (r *Replica) Ask(now time.Duration, q *Question) {
	r.at(now)
	fail := func(why string) { r.due.answer = append(r.due.answer, Answer{Question: q, Failure: why}) }
	switch {
	case r.ended || r.fatal != nil:
		fail("the group is over on this node")
		return
	case r.rn == nil:
		fail("this member has no history yet: " + r.why())
		return
	}
	q.since, q.last = r.now, r.now-transferEvery
	r.guard(func() {
		switch q.Kind {
		case AskTransfer:
			r.asked = append(r.asked, q)
			r.tickAsked()
		case AskPlan, AskRecover:
			r.askRecovery(q, fail)
		case AskRemove:
			m := &wire.Expel{Genesis: r.genesis, Peer: q.Peer}
			to, ok := r.reachableLeader()
			switch {
			case !ok:
				fail(r.why())
				return
			case r.isLeader():
				r.onExpel(m)
			default:
				r.send(to, m)
			}
			r.answer(Answer{Question: q})
		}
	})
}

func (r *Replica) askRecovery(q *Question, fail func(string)) {
	if r.recovery.muster != nil {
		fail("a recovery is under way")
		return
	}
	there, _ := r.survivors()
	if q.Kind == AskRecover {
		switch ok, _ := r.majority(); {
		case q.Plan == nil || q.Plan.Genesis != r.genesis:
			fail("the plan is for another history")
			return
		case ok || r.online():
			fail("the group has a majority")
			return
		case !samePeers(q.Plan.Survivors, there, r.cfg.Self):
			fail("the survivors are not those of the plan any more")
			return
		}
	}
	r.callMuster(wire.Ordered, there, q)
}

// samePeers reports whether the survivors of a plan are the given peers and this one.
func samePeers(plan []Survivor, there []id.PeerID, self id.PeerID) bool {
	if len(plan) != len(there)+1 {
		return false
	}
	want := map[id.PeerID]bool{self: true}
	for _, p := range there {
		want[p] = true
	}
	for _, s := range plan {
		if !want[s.Peer] {
			return false
		}
		delete(want, s.Peer)
	}
	return len(want) == 0
}

// planOf turns what a muster brought into a plan.
func (r *Replica) planOf(m *muster) *Plan {
	ok, missing := r.majority()
	p := &Plan{Genesis: r.genesis, Missing: missing, Needed: !ok && !r.online(), Founder: r.cfg.Self}
	best := r.standing(m.round)
	add := func(who id.PeerID, s *wire.Standing) {
		row := r.table.Get(s.Member)
		p.Survivors = append(p.Survivors, Survivor{
			Peer: who, Voter: row != nil && row.Voter, Term: s.Term, Last: s.Last, Commands: s.Commands,
		})
	}
	add(r.cfg.Self, best)
	for _, who := range m.asked {
		s := m.got[who]
		if s == nil {
			continue
		}
		add(who, s)
		if s.Term > best.Term || s.Term == best.Term && (s.Last > best.Last || s.Last == best.Last && s.Member < best.Member) {
			best, p.Founder = s, who
		}
	}
	// Voters that are missing have something of their own only if they are a majority by themselves.
	here := map[uint64]bool{r.self: true}
	for _, s := range m.got {
		here[s.Member] = true
	}
	p.Lossless = len(p.Survivors) == len(m.asked)+1 && !r.outvoted(func(id uint64) bool { return !here[id] })
	return p
}

func (r *Replica) answer(a Answer) { r.due.answer = append(r.due.answer, a) }

// tickAsked pursues transfers of leadership.
func (r *Replica) tickAsked() {
	kept := r.asked[:0]
	for _, q := range r.asked {
		done, failure := r.pursue(q)
		if done {
			r.answer(Answer{Question: q, Failure: failure})
		} else {
			kept = append(kept, q)
		}
	}
	clear(r.asked[len(kept):])
	r.asked = kept
}

// pursue takes the next step of a transfer.
func (r *Replica) pursue(q *Question) (done bool, failure string) {
	if r.rn == nil {
		return true, "the history is over"
	}
	var to *member.Row
	for _, row := range r.table.ByPeer(q.Peer) {
		if r.provenDead(row) == "" {
			to = row
		}
	}
	switch {
	case to == nil:
		return true, "the peer is no member"
	case r.lead == to.ID:
		return true, ""
	case !to.Voter:
		return true, "the peer does not vote, so it cannot lead"
	case r.now-q.since >= transferPatience:
		if why := r.why(); r.lead == 0 {
			return true, why
		}
		return true, "the peer did not take over in time: it is not reachable from the leader, or lags"
	case r.now-q.last < transferEvery:
		return false, ""
	}
	q.last = r.now
	if r.isLeader() {
		r.transferTo(to.ID)
	} else if leader, ok := r.reachableLeader(); ok {
		r.send(leader, &wire.Transfer{Genesis: r.genesis, Member: to.ID})
	}
	return false, ""
}

func (r *Replica) onTransfer(_ id.PeerID, m *wire.Transfer) {
	if r.isLeader() && m.Genesis == r.genesis {
		r.transferTo(m.Member)
	}
}

// transferTo makes a voter the leader if it is there. The library ends the try after an election timeout.
func (r *Replica) transferTo(who uint64) {
	row := r.table.Get(who)
	if row == nil || !row.Voter || who == r.self || r.recovery.sealed(r.now) {
		return
	}
	if healthy, _ := r.health(row); healthy {
		r.leader.handedAt = r.now
		r.rn.TransferLeader(who)
		r.stirred = true
	}
}

// failAsked ends all questions.
func (r *Replica) failAsked() {
	const over = "the group is over on this node"
	for _, q := range r.asked {
		r.answer(Answer{Question: q, Failure: over})
	}
	r.asked = nil
	if m := r.recovery.muster; m != nil && m.question != nil {
		r.answer(Answer{Question: m.question, Failure: over})
		r.recovery.muster = nil
	}
}
