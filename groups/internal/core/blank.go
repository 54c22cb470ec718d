package core

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A member starts blank. If it has a bond to a peer with a history it asks to join that; otherwise, after a delay in
// which peers can show up, the blank peer with the lowest rank founds a history of its own and all others join it. Every
// further rank waits half a second longer, so that a founder that dies is replaced.
//
// Two peers that cannot see each other in time found two histories. With Expect above one nobody founds before that many
// blank peers see each other, which makes this as unlikely as a partition at that very moment; it does not exclude it.

func (r *Replica) PeerUp(now time.Duration, who id.PeerID) {
	r.at(now)
	p := r.peers[who]
	if p == nil {
		p = new(peer)
		r.peers[who] = p
	}
	*p = peer{up: true, since: r.now, seen: r.now}
	r.dirty = true
	if r.ended {
		return
	}
	r.sendHello(who, false)
	if r.rn != nil && r.leaderPeer() == who {
		r.client.retry, r.reads.retry = true, true
	}
}

func (r *Replica) PeerDown(now time.Duration, who id.PeerID, closed bool) {
	r.at(now)
	p := r.peers[who]
	if p == nil || !p.up {
		return
	}
	*p = peer{seen: r.now}
	r.dirty = true
	r.leader.plan = true
	if closed && !r.ended && r.rn != nil && r.fatal == nil && r.lead != r.self && r.leaderPeer() == who {
		r.guard(r.leaderGone)
	}
	if r.table == nil || !r.table.Has(who) {
		delete(r.peers, who)
	}
}

func (r *Replica) Listed(now time.Duration, peers []id.PeerID) {
	r.at(now)
	r.listed = append(r.listed[:0], peers...)
}

// sendHello tells a peer about this member, and which version of the peer's own hello came here. It asks for an answer
// if told to, or as long as the peer is not known to have heard.
func (r *Replica) sendHello(who id.PeerID, ask bool) {
	p := r.peers[who]
	m := &wire.Hello{
		Seq: r.version, Ask: ask || p.heard != r.version,
		Genesis: r.genesis, Nonce: r.cfg.BootNonce, Member: r.self, Preference: uint8(r.cfg.Preference),
		Empty: r.dissolvable(), Leaving: r.leaving.asked, Leader: r.leaderPeer(), Commands: r.index,
	}
	if p.hello != nil {
		m.Heard = p.hello.Seq
	}
	r.send(who, m)
}

// announce says hello to everyone, since something changed that others act on.
func (r *Replica) announce() {
	r.version++
	r.said = r.dissolvable()
	for _, who := range r.bonded() {
		r.sendHello(who, false)
	}
}

// outsider reports whether a peer is not part of this member's history, as far as is known.
func (r *Replica) outsider(p *peer) bool {
	return p.hello == nil || p.hello.Genesis != r.genesis
}

// tickHello repeats the hello to peers that may not have heard it, and asks those in other histories for news.
func (r *Replica) tickHello() {
	if r.said != r.dissolvable() {
		r.announce()
		return
	}
	due := r.bondedIf(func(p *peer) bool { return p.heard != r.version || r.outsider(p) })
	for _, who := range due {
		r.sendHello(who, r.outsider(r.peers[who]))
	}
}

func (r *Replica) onHello(from id.PeerID, m *wire.Hello) {
	p := r.peers[from]
	if p.hello != nil && m.Seq < p.hello.Seq {
		return // an earlier one that was overtaken
	}
	p.hello = m
	p.heard = max(p.heard, m.Heard)
	r.dirty = true
	r.leader.plan = true
	if m.Ask {
		r.sendHello(from, false)
	}
	switch {
	case r.genesis.IsZero():
		if !m.Genesis.IsZero() {
			r.askToJoin()
		}
	case m.Genesis == r.genesis:
		if r.table.WasRemoved(m.Member) {
			r.send(from, &wire.Removed{Genesis: r.genesis, Member: m.Member})
		}
	case !m.Genesis.IsZero():
		r.onRival(from, m)
	}
}

// onRival meets another history of the same group. Nothing of the two is mixed. Only a history that is one member's own
// and holds no command can give way, since nobody was ever told anything that it would take back; all others refuse
// each other until somebody merges them.
func (r *Replica) onRival(from id.PeerID, m *wire.Hello) {
	if r.dissolvable() && (!m.Empty || bytes.Compare(r.genesis[:], m.Genesis[:]) > 0) {
		r.dissolve()
		return
	}
	if m.Empty {
		return // it will give way, or has something now and says so
	}
	if p := r.peers[from]; !p.rival && !r.dissolvable() {
		p.rival = true
		r.due.peers = append(r.due.peers, PeerAdvice{Peer: from, Rival: true, Reason: fmt.Sprintf(
			"the peer belongs to another history of this group, %x with %d commands; this is %x with %d; the two formed apart and cannot be merged",
			m.Genesis[:5], m.Commands, r.genesis[:5], r.index)})
	}
}

// dissolvable reports whether this history is this member's alone and holds no command, nor will before it can decide
// again.
func (r *Replica) dissolvable() bool {
	l := &r.leader
	return r.isLeader() && !l.fresh && r.table.Len() == 1 && r.index == 0 && l.end == 0 && !l.changing &&
		len(l.queue) == 0 && len(r.client.calls) == 0
}

// dissolve gives up a history in which nothing has happened.
func (r *Replica) dissolve() {
	r.becomeBlank()
	r.announce()
	r.askToJoin()
}

// beginAnew gives up a history that has taken this member out, most likely because it was silent for too long. It joins
// again as a new member, with a state machine that starts anew.
func (r *Replica) beginAnew() {
	r.former = true
	r.failSent()
	// What was decided for the old state machine and not handed out must not reach the new one.
	for _, run := range r.due.apply {
		for _, it := range run.Items {
			if it.Call != nil {
				r.due.failed = append(r.due.failed, Failed{Call: it.Call, Reason: FailedUnknown})
			}
		}
	}
	r.due.apply = emptied(r.due.apply)
	for _, x := range r.due.reads {
		if x.OK {
			r.reads.waiting = append(r.reads.waiting, x.Read)
		}
	}
	r.due.reads = slices.DeleteFunc(r.due.reads, func(x ReadReady) bool { return x.OK })
	r.due.reset = true
	r.becomeBlank()
	r.announce()
	r.askToJoin()
}

// becomeBlank forgets the history. Calls that were never sent wait for the next one.
func (r *Replica) becomeBlank() {
	r.offset += r.handed
	r.genesis, r.founder, r.self, r.table, r.rn, r.conf = wire.Genesis{}, wire.Member{}, r.newID(), nil, nil, nil
	r.lead, r.term, r.role, r.index, r.handed, r.applied, r.commits, r.target = 0, 0, 0, 0, 0, 0, 0, 0
	r.applying, r.campaign, r.foundAt, r.soft, r.stirred, r.evicted = nil, campaigning{}, 0, false, false, false
	clear(r.gone)
	r.blankSince = r.now
	r.leader = leading{}
	r.dropImages()
	r.endFetch()
	r.snaps = snapshots{lastID: r.snaps.lastID}
	r.fetch = fetching{lastID: r.fetch.lastID}
	r.reads.restart()
	r.client.restart()
	r.dirty = true
}

// askToJoin asks the leader of a history that a bonded peer belongs to. A request is repeated until it is granted.
func (r *Replica) askToJoin() {
	if r.leaving.asked {
		return
	}
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h == nil || h.Genesis.IsZero() || h.Leader.IsZero() {
			continue
		}
		if r.bondedWith(h.Leader) {
			r.send(h.Leader, &wire.Join{Genesis: h.Genesis, Member: r.self, Nonce: r.cfg.BootNonce, Preference: uint8(r.cfg.Preference)})
			return
		}
	}
}

// tickBlank looks whether it is time to found a history.
func (r *Replica) tickBlank() {
	if r.leaving.asked {
		return
	}
	blank := 1 // that see each other here
	meHesitant, me := r.rank(r.cfg.Self, uint8(r.cfg.Preference))
	rank := 0
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h == nil {
			continue
		}
		if !h.Genesis.IsZero() {
			if r.now == r.helloAt {
				r.askToJoin()
			}
			return
		}
		blank++
		if h.Preference == member.Observer || h.Leaving {
			continue
		}
		if hesitant, hash := r.rank(who, h.Preference); compareRank(hesitant, hash, meHesitant, me) < 0 {
			rank++
		}
	}
	wait := r.cfg.BootstrapDelay
	if r.cfg.Preference == Reluctant {
		wait *= reluctantFactor
	}
	// Somebody who is listed and not bonded may have a history: that is waited for, but not for ever, unless this member
	// knows that there is one somewhere.
	missing := r.missing() && (r.former || r.now < r.blankSince+2*wait)
	if r.cfg.Preference == Observer || blank < r.cfg.Expect || missing || r.now < r.blankSince+wait {
		r.foundAt = 0
		return
	}
	if r.foundAt == 0 {
		r.foundAt = r.now // the turns begin when nothing stands in the way, which may come late, and for all at once
	}
	if r.now >= r.foundAt+time.Duration(rank)*foundStep {
		r.found()
	}
}

// missing reports whether the catalog lists somebody there is no bond to, who may have a history.
func (r *Replica) missing() bool {
	for _, who := range r.listed {
		if p := r.peers[who]; who != r.cfg.Self && (p == nil || !p.up || p.hello == nil) {
			return true
		}
	}
	return false
}

// found begins a history with this member as its only voter.
func (r *Replica) found() {
	r.start(r.newGenesis(), wire.Member{
		ID: r.self, Peer: r.cfg.Self, Nonce: r.cfg.BootNonce, Preference: uint8(r.cfg.Preference),
	})
	if r.rn != nil {
		_ = r.rn.Campaign()
		r.stirred = true
		r.work() // so that the hello can say whether there are commands already
	}
	r.announce()
}

// onAccept begins as a member of an existing history, with an empty log that the leader will fill.
func (r *Replica) onAccept(from id.PeerID, m *wire.Accept) {
	if !r.genesis.IsZero() || m.Member != r.self || m.Genesis.IsZero() ||
		!validMember(m.Founder.ID) || m.Founder.ID == r.self {
		return
	}
	if h := r.peers[from].hello; h == nil || h.Genesis != m.Genesis {
		return // not something this peer said it was part of
	}
	r.start(m.Genesis, m.Founder)
	r.announce()
}

// onRemoved learns that the group has taken this member out. Any member of the same history may say so: those that this
// one knows may all be gone.
func (r *Replica) onRemoved(from id.PeerID, m *wire.Removed) {
	if m.Member != r.self {
		return
	}
	h := r.peers[from].hello
	if h == nil || h.Genesis != m.Genesis || m.Genesis.IsZero() {
		return
	}
	switch {
	case r.genesis.IsZero():
		// Taken in, and out again before it heard of it: it has to ask under another id.
		r.self = r.newID()
		r.announce()
		r.askToJoin()
	case m.Genesis != r.genesis:
	case r.leaving.asked:
		r.leaving.done = true
	default:
		r.beginAnew()
	}
}
