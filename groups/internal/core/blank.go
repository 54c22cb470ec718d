package core

import (
	"bytes"
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
	p.up, p.since, p.seen, p.hello, p.rival = true, r.now, r.now, nil, false
	if r.ended {
		return
	}
	r.send(who, r.hello())
	if r.leaderPeer() == who {
		r.client.retry, r.reads.retry = true, true
	}
	r.dirty = true
}

func (r *Replica) PeerDown(now time.Duration, who id.PeerID, closed bool) {
	r.at(now)
	p := r.peers[who]
	if p == nil || !p.up {
		return
	}
	p.up, p.seen, p.hello = false, r.now, nil
	r.dirty = true
	if r.ended || r.rn == nil || r.fatal != nil {
		return
	}
	if closed && r.lead != 0 && r.lead != r.self && r.leaderPeer() == who {
		r.guard(r.leaderGone)
	}
	if !r.known(who) {
		delete(r.peers, who)
	}
}

// leaderGone reacts to the leader's connection closing: that is no proof, but there is no point in waiting. Whoever
// campaigns first wins unless the others still hear the leader, in which case they refuse, and nothing has changed.
func (r *Replica) leaderGone() {
	r.rn.ForgetLeader()
	delay := time.Duration(r.rng.Int64N(int64(campaignSpread))) + 1
	switch r.cfg.Preference {
	case Observer:
		return
	case Reluctant:
		delay += reluctantFactor * campaignSpread
	}
	r.campaignAt = r.now + delay
}

// known reports whether a peer has a place in the group.
func (r *Replica) known(who id.PeerID) bool {
	return r.table != nil && len(r.table.ByPeer(who)) > 0
}

func (r *Replica) Listed(now time.Duration, peers []id.PeerID) {
	r.at(now)
	r.listed = append(r.listed[:0], peers...)
}

// hello describes this member.
func (r *Replica) hello() *wire.Hello {
	return &wire.Hello{
		Genesis: r.genesis, Nonce: r.cfg.BootNonce, Member: r.self, Preference: uint8(r.cfg.Preference),
		Empty: r.dissolvable(), Leader: r.leaderPeer(), Commands: r.index,
	}
}

// tellAll says hello to everyone, since something changed that others act on.
func (r *Replica) tellAll() {
	h := r.hello()
	for _, p := range r.bonded() {
		r.send(p, h)
	}
}

// tickHello repeats the hello to peers that are not part of this history, since the first may have been lost.
func (r *Replica) tickHello() {
	for _, who := range r.bonded() {
		p := r.peers[who]
		if p.hello == nil || p.hello.Genesis != r.genesis || r.genesis.IsZero() {
			r.send(who, r.hello())
		}
	}
}

func (r *Replica) onHello(from id.PeerID, m *wire.Hello) {
	p := r.peers[from]
	first := p.hello == nil
	p.hello = m
	r.dirty = true
	if first && !r.genesis.IsZero() {
		r.send(from, r.hello()) // the one at PeerUp may have come before the peer was ready
	}
	switch {
	case r.genesis.IsZero():
		if !m.Genesis.IsZero() {
			r.askToJoin()
		}
	case m.Genesis == r.genesis:
		r.onMemberHello(from, m)
	case !m.Genesis.IsZero():
		r.onRival(from, m)
	}
}

// onMemberHello notices members whose engine has begun a new life: their old ids will not come back.
func (r *Replica) onMemberHello(from id.PeerID, m *wire.Hello) {
	r.leader.plan = true
	if m.Member != 0 && r.table.WasRemoved(m.Member) {
		r.send(from, &wire.Removed{Genesis: r.genesis, Member: m.Member})
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
		r.due.peers = append(r.due.peers, PeerAdvice{Peer: from, Rival: true,
			Reason: "the peer belongs to another history of this group; the two formed apart and cannot be merged"})
	}
}

// dissolvable reports whether this history is this member's alone and holds no command, nor will before it can decide
// again.
func (r *Replica) dissolvable() bool {
	return r.isLeader() && r.table.Len() == 1 && r.index == 0 && r.leader.tail == 0 && !r.leader.changing &&
		len(r.leader.queue) == 0 && r.client.unsettled == 0
}

// dissolve gives up a history in which nothing has happened.
func (r *Replica) dissolve() {
	r.becomeBlank()
	r.tellAll()
	r.askToJoin()
}

// becomeBlank forgets the history. Calls that were never sent wait for the next one.
func (r *Replica) becomeBlank() {
	r.offset += r.handed
	r.genesis, r.founder, r.self, r.table, r.rn, r.conf = wire.Genesis{}, wire.Member{}, 0, nil, nil, nil
	r.lead, r.term, r.role, r.index, r.handed, r.applied, r.target = 0, 0, 0, 0, 0, 0, 0
	r.applying, r.campaignAt, r.foundAt = nil, 0, 0
	clear(r.routes)
	r.blankSince = r.now
	r.leader = leading{}
	r.reads.restart()
	r.client.restart()
	r.dirty = true
}

// askToJoin asks the leader of a history that a bonded peer belongs to. A request is repeated until it is granted.
func (r *Replica) askToJoin() {
	if r.leaving.asked {
		return
	}
	if r.self == 0 {
		r.self = r.newID()
	}
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h == nil || h.Genesis.IsZero() || h.Leader.IsZero() {
			continue
		}
		if l := r.peers[h.Leader]; l != nil && l.up {
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
		if h.Preference == member.Observer {
			continue
		}
		if hesitant, hash := r.rank(who, h.Preference); compareRank(hesitant, hash, meHesitant, me) < 0 {
			rank++
		}
	}
	if r.cfg.Preference == Observer || blank < r.cfg.Expect {
		return
	}
	wait := r.cfg.BootstrapDelay
	if r.cfg.Preference == Reluctant {
		wait *= reluctantFactor
	}
	if r.missing() && r.now < r.blankSince+2*wait {
		return // somebody who is listed may have a history; wait for the bond, but not for ever
	}
	if r.now >= r.blankSince+wait+time.Duration(rank)*foundStep {
		r.found()
	}
}

// missing reports whether the catalog lists somebody there is no bond to.
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
	if r.self == 0 {
		r.self = r.newID()
	}
	r.start(r.newGenesis(), wire.Member{
		ID: r.self, Peer: r.cfg.Self, Nonce: r.cfg.BootNonce, Preference: uint8(r.cfg.Preference),
	})
	if r.rn != nil {
		r.rn.Campaign()
	}
	r.tellAll()
}

// onAccept begins as a member of an existing history, with an empty log that the leader will fill.
func (r *Replica) onAccept(from id.PeerID, m *wire.Accept) {
	if !r.genesis.IsZero() || m.Member != r.self || m.Genesis.IsZero() || m.Founder.ID == 0 {
		return
	}
	if h := r.peers[from].hello; h == nil || h.Genesis != m.Genesis {
		return // not something this peer said it was part of
	}
	r.start(m.Genesis, m.Founder)
	r.tellAll()
}

// onRemoved learns that the group has taken this member out, most likely because it was silent for too long. It joins
// again as a new member, with a state machine that starts anew.
func (r *Replica) onRemoved(from id.PeerID, m *wire.Removed) {
	if r.genesis.IsZero() || m.Genesis != r.genesis || m.Member != r.self || !r.known(from) {
		return
	}
	if r.leaving.asked {
		r.leaving.done = true
		return
	}
	r.failSent()
	r.becomeBlank()
	r.due.reset = true
	r.tellAll()
	r.askToJoin()
}
