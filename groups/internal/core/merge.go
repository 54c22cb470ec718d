package core

import (
	"bytes"
	"maps"
	"math"
	"slices"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Two histories of one group that meet become one by the protocol of package genesis. Leaders act, over the bond between
// them; what they agree on is in their logs, and every member follows it there. This file connects the protocol with the
// log, the sessions and the messages.

// Bounds of one message of calls that are proposed again.
const (
	againBytes = 256 << 10
	againMost  = 512
)

// guest is calls of another history that were put in line here and are not committed yet.
type guest struct {
	peer    id.PeerID
	attempt uint64
	at      uint64            // to acknowledge
	need    map[uint64]uint64 // by session: the number of the last call
	ask     *wire.Absorb      // to answer once what it needs is committed
}

// replayed is the calls of a history that gives way, as another one is to take them in.
type replayed struct {
	attempt uint64
	ready   bool
	calls   []logged
}

// logged is a call in the log.
type logged struct {
	wire.Again
	index Index // of its first command
}

// cut returns the raft index up to which the log was given up.
func (r *Replica) cut() uint64 {
	if r.rn == nil {
		return 0
	}
	first, err := r.log.FirstIndex()
	if err != nil {
		return math.MaxUint64
	}
	return first - 1
}

// lacking reports whether a log that was cut up to an index lacks commands behind the one up to which it is another's too.
func lacking(cut, common uint64) bool { return cut > max(common, firstIndex) }

// key returns the history's key, as far as it does not depend on the other history.
func (r *Replica) key() genesis.Key {
	return genesis.Key{Forced: r.origin.Forced, Commands: r.index, ID: r.genesis}
}

// rivalOf describes the history of a peer.
func (r *Replica) rivalOf(h *wire.Hello) genesis.Rival {
	common := wire.Common(&r.origin, &wire.Origin{Genesis: h.Genesis, Parents: h.Parents})
	key := keyOf(h)
	key.Fixed = lacking(h.Cut, common)
	return genesis.Rival{Key: key, Frozen: h.Frozen, Fixed: lacking(r.cut(), common)}
}

// rivals returns the other histories whose leaders this member can talk to.
func (r *Replica) rivals() []genesis.Rival {
	var out []genesis.Rival
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h != nil && h.Leader == who && !h.Genesis.IsZero() && h.Genesis != r.genesis && !r.isGone(h.Genesis) {
			out = append(out, r.rivalOf(h))
		}
	}
	return out
}

// leaderOf returns the leader of another history, if there is a bond to it.
func (r *Replica) leaderOf(g wire.Genesis) (id.PeerID, bool) {
	for _, who := range r.bonded() {
		if h := r.peers[who].hello; h != nil && h.Genesis == g && h.Leader == who {
			return who, true
		}
	}
	return id.PeerID{}, false
}

// tickMerge forgets rivals that are gone, and keeps those that are there up to date.
func (r *Replica) tickMerge() {
	if !r.met || r.genesis.IsZero() {
		return
	}
	r.met = r.line.Phase != genesis.Active
	for _, who := range r.bonded() {
		if h := r.peers[who].hello; h != nil && !h.Genesis.IsZero() && h.Genesis != r.genesis {
			r.met = true
		}
	}
}

// workMerge takes the next step of giving way to another history, if one is due, and answers histories that give way to
// this one.
func (r *Replica) workMerge() {
	l := &r.leader
	if !r.isLeader() || l.fresh || !r.ownTermCommitted() || r.recovery.sealed(r.now) {
		return
	}
	r.answerGuests()
	if !r.met && r.line.Phase == genesis.Active || r.leaving.asked {
		return
	}
	view := genesis.View{
		Now: r.now, Line: &r.line, Busy: l.controlAt > r.handed, Own: r.key(), Random: r.rng.Int64N,
	}
	if r.line.Phase == genesis.Active {
		view.Rivals = r.rivals()
	}
	act := l.merger.Next(&view)
	switch act.Step {
	case genesis.DoFreeze:
		e := genesis.Entry{Attempt: act.Attempt, Other: act.Target, Key: r.key()}
		e.Key.Commands = l.end
		if to, ok := r.leaderOf(act.Target); ok && r.cfg.Merge != MergeSurface {
			e.Key.Fixed = r.rivalOf(r.peers[to].hello).Fixed
		}
		r.proposeControl(genesis.Freeze, e.Append(nil))
	case genesis.DoThaw, genesis.DoDissolve:
		kind := genesis.Thaw
		if act.Step == genesis.DoDissolve {
			kind = genesis.Dissolve
		}
		e := genesis.Entry{Attempt: act.Attempt, Commands: r.common}
		r.proposeControl(kind, e.Append(nil))
	case genesis.AskAbsorb, genesis.AskBook:
		if to, ok := r.leaderOf(act.Target); ok {
			r.send(to, &wire.Absorb{
				Genesis: act.Target, From: r.genesis, Attempt: act.Attempt, Forced: r.line.Key.Forced, Commands: r.index,
				Done: act.Step == genesis.AskBook, Lost: r.line.Key.Fixed,
			})
		}
	case genesis.SendPending:
		r.sendPending(act)
	}
}

// sendPending sends the next calls to the history that takes this one in.
func (r *Replica) sendPending(act genesis.Action) {
	b := &r.leader.backlog
	if !b.ready || b.attempt != act.Attempt {
		calls, err := r.toRepropose()
		if err != nil {
			r.leader.merger.GiveUp()
			return
		}
		*b = replayed{attempt: act.Attempt, ready: true, calls: calls}
	}
	at := min(act.At, uint64(len(b.calls)))
	if at == uint64(len(b.calls)) {
		// An earlier attempt may have brought more there than is left of the log now.
		r.leader.merger.Sent(r.now, &r.line, act.Target, act.Attempt, act.At, true)
		r.workMerge()
		return
	}
	to, ok := r.leaderOf(act.Target)
	if !ok {
		return
	}
	m := &wire.Repropose{Genesis: act.Target, From: r.genesis, Attempt: act.Attempt, At: at}
	size := 0
	for _, c := range b.calls[at:] {
		if len(m.Items) > 0 && (len(m.Items) >= againMost || size+len(c.Payload) > againBytes) {
			break
		}
		m.Items = append(m.Items, c.Again)
		size += len(c.Payload)
	}
	r.send(to, m)
}

// onAbsorb is asked to take another history in.
func (r *Replica) onAbsorb(from id.PeerID, m *wire.Absorb) {
	if m.Genesis != r.genesis || r.rn == nil {
		for _, x := range r.gone {
			if x.From == m.Genesis && x.Round == 0 {
				r.send(from, &wire.Verdict{Genesis: m.From, Of: m.Genesis, Attempt: m.Attempt, Verdict: wire.Moved, Into: x.Into, Lost: x.Lost})
			}
		}
		return
	}
	l := &r.leader
	if !r.isLeader() || l.fresh || !r.ownTermCommitted() || m.From == r.genesis || m.From.IsZero() {
		return
	}
	v, e := genesis.Answer(&r.line, r.genesis, m)
	switch {
	case v != nil:
		v.Parents = r.origin.Parents
		r.send(from, v)
	case e != nil && l.controlAt <= r.handed && l.line.Phase == genesis.Active:
		if r.proposeControl(genesis.Absorb, e.Append(nil)) {
			r.guestOf(m.From, from, m.Attempt).ask = m
		}
	}
}

func (r *Replica) guestOf(g wire.Genesis, peer id.PeerID, attempt uint64) *guest {
	l := &r.leader
	if l.guests == nil {
		l.guests = make(map[wire.Genesis]*guest)
	}
	x := l.guests[g]
	if x == nil || x.attempt != attempt {
		x = &guest{attempt: attempt}
		l.guests[g] = x
	}
	x.peer = peer
	return x
}

// onVerdict hears from the history that is to take this one in.
func (r *Replica) onVerdict(_ id.PeerID, m *wire.Verdict) {
	if m.Genesis != r.genesis || !r.isLeader() || r.leader.fresh {
		return
	}
	switch m.Verdict {
	case wire.Granted:
		r.common = wire.Common(&r.origin, &wire.Origin{Genesis: m.Of, Parents: m.Parents})
	case wire.Moved:
		r.noteGone(wire.Gone{From: m.Of, Into: m.Into, Lost: m.Lost})
	}
	r.leader.merger.Verdict(r.now, &r.line, r.genesis, m)
}

// onRepropose takes in calls of another history.
func (r *Replica) onRepropose(from id.PeerID, m *wire.Repropose) {
	l := &r.leader
	if m.Genesis != r.genesis || !r.isLeader() || l.fresh || l.line.Phase != genesis.Active ||
		r.line.Grant(m.From) != m.Attempt || len(m.Items) == 0 {
		return
	}
	g := r.guestOf(m.From, from, m.Attempt)
	g.at, g.need = m.At+uint64(len(m.Items)), make(map[uint64]uint64)
	var x waitingRun
	flush := func() bool {
		ok := len(x.items) == 0 || r.enqueue(x)
		x = waitingRun{}
		return ok
	}
	for i := range m.Items {
		c := &m.Items[i]
		g.need[c.Session] = c.Number
		if x.session == c.Session && x.last()+1 == c.Number && len(x.items) > 0 {
			x.items = append(x.items, c.Item)
			continue
		}
		if !flush() {
			break
		}
		if c.Number == l.callsNext(c.Session)+1 {
			x = waitingRun{run: run{session: c.Session, first: c.Number, items: []wire.Item{c.Item}}}
		}
	}
	flush()
}

// answerGuests acknowledges what is committed by now.
func (r *Replica) answerGuests() {
	if len(r.leader.guests) == 0 {
		return
	}
	for _, from := range slices.SortedFunc(maps.Keys(r.leader.guests), func(a, b wire.Genesis) int { return bytes.Compare(a[:], b[:]) }) {
		g := r.leader.guests[from]
		if m := g.ask; m != nil && r.leader.controlAt <= r.handed {
			g.ask = nil
			if v, _ := genesis.Answer(&r.line, r.genesis, m); v != nil {
				v.Parents = r.origin.Parents
				r.send(g.peer, v)
			}
		}
		if g.need == nil {
			continue
		}
		there := true
		for session, number := range g.need {
			there = there && r.table.Sessions.Calls(session) >= number
		}
		if there {
			g.need = nil
			r.send(g.peer, &wire.Reproposed{Genesis: from, Of: r.genesis, Attempt: g.attempt, At: g.at})
		}
	}
}

// onReproposed hears that calls of this history are committed in the other one.
func (r *Replica) onReproposed(_ id.PeerID, m *wire.Reproposed) {
	l := &r.leader
	if m.Genesis != r.genesis || !r.isLeader() || l.fresh || !l.backlog.ready || l.backlog.attempt != m.Attempt {
		return
	}
	last := m.At >= uint64(len(l.backlog.calls))
	l.merger.Sent(r.now, &r.line, m.Of, m.Attempt, min(m.At, uint64(len(l.backlog.calls))), last)
}

// commitMerge follows an entry about merging.
func (r *Replica) commitMerge(index uint64, kind byte, payload []byte) error {
	e, err := genesis.Decode(kind, payload)
	if err != nil {
		return err
	}
	if !r.line.Apply(&e) {
		return nil
	}
	r.dirty = true
	switch kind {
	case genesis.Freeze:
		r.met = true
		r.announce()
	case genesis.Thaw:
		r.leader.backlog = replayed{}
		r.client.retry = true
		r.announce()
	case genesis.Absorb:
		if e.Booked && r.online() { // those who join later need no news of it
			r.due.news = append(r.due.news, News{Kind: NewsAbsorbed, From: e.Other, Into: r.genesis, Commands: e.Commands, Lossy: e.Lost})
		}
	case genesis.Dissolve:
		r.handed, r.common = index, e.Commands
		r.moveTo(wire.Gone{From: r.genesis, Into: r.line.Into, Lost: r.line.Key.Fixed}, true)
	}
	return nil
}

// onOther takes in the messages about founding, merging and forking.
func (r *Replica) onOther(from id.PeerID, m wire.Message) {
	switch m := m.(type) {
	case *wire.Prepare:
		r.onPrepare(from, m)
	case *wire.Promise:
		r.onPromise(from, m)
	case *wire.Elect:
		r.onElect(from, m)
	case *wire.Elected:
		r.onElected(from, m)
	case *wire.Founded:
		r.onFounded(m)
	case *wire.Absorb:
		r.onAbsorb(from, m)
	case *wire.Verdict:
		r.onVerdict(from, m)
	case *wire.Repropose:
		r.onRepropose(from, m)
	case *wire.Reproposed:
		r.onReproposed(from, m)
	case *wire.Muster:
		r.onMuster(from, m)
	case *wire.Dismiss:
		r.onDismiss(m)
	case *wire.Standing:
		r.onStanding(from, m)
	case *wire.Fork:
		r.onFork(from, m)
	case *wire.Farewell:
		r.onFarewell(from, m)
	case *wire.Expel:
		r.onExpel(m)
	case *wire.Transfer:
		r.onTransfer(from, m)
	}
}
