package core

import (
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A member starts blank. If it has a bond to a peer with a history it asks to join that; otherwise, after a delay in
// which peers can show up, the blank peer with the lowest rank tries to found a history, see found.go. Every further rank
// waits half a second longer, so that a founder that dies is replaced.
//
// With one member expected, two peers that cannot see each other in time found two histories, which merge when they meet,
// see merge.go.

func (r *Replica) PeerUp(now time.Duration, who id.PeerID) {
	r.at(now)
	p := r.peers[who]
	if p == nil {
		p = new(peer)
		r.peers[who] = p
	}
	*p = peer{up: true, since: r.now, seen: r.now}
	r.dirty, r.recovery.look = true, true
	if r.ended {
		return
	}
	r.sendHello(who, false)
	if r.rn == nil {
		return
	}
	if r.leaderPeer() == who {
		r.client.retry, r.reads.retry = true, true
	}
	// What was under way to the member is lost, and it may be in a new life that has to hear what is committed: an append tells
	// it, a heartbeat does not.
	r.probe(who)
	r.stirred = true
}

func (r *Replica) PeerDown(now time.Duration, who id.PeerID, closed bool) {
	r.at(now)
	p := r.peers[who]
	if p == nil || !p.up {
		return
	}
	*p = peer{seen: r.now}
	r.dirty, r.recovery.look = true, true
	r.leader.plan = true
	r.probe(who)
	if closed && !r.ended && r.rn != nil && r.fatal == nil && r.lead != r.self && r.leaderPeer() == who {
		r.guard(r.leaderGone)
	}
	if r.table == nil || !r.table.Has(who) {
		delete(r.peers, who)
	}
}

// probe has a leader send an append to a peer's members with the next beat, if only an empty one: a member that comes back
// soon, and lacks nothing, would not hear otherwise how far the group is.
func (r *Replica) probe(who id.PeerID) {
	if !r.isLeader() || r.fatal != nil || r.ended {
		return
	}
	for _, row := range r.table.ByPeer(who) {
		r.rn.ReportUnreachable(row.ID)
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
		Leaving: r.leaving.goes(), Joining: r.joining(), Leader: r.leaderPeer(), Commands: r.index, Forced: r.origin.Forced, Cut: r.cut(),
		Parents: r.origin.Parents, Frozen: r.line.Phase == genesis.Frozen, Gone: r.gone,
	}
	m.Committed, m.CommittedTerm = r.committed()
	if p.hello != nil {
		m.Heard = p.hello.Seq
	}
	r.send(who, m)
}

// announce says hello to everyone, since something changed that others act on.
func (r *Replica) announce() {
	r.version++
	for _, who := range r.bonded() {
		r.sendHello(who, false)
	}
}

// outsider reports whether a peer is not part of this member's history, as far as is known.
func (r *Replica) outsider(p *peer) bool {
	return p.hello == nil || p.hello.Genesis != r.genesis
}

// tickHello repeats the hello to peers that may not have heard it, and asks those in other histories for news. Without a
// leader for long it asks all.
func (r *Replica) tickHello() {
	lost := r.rn != nil && r.lead == 0 && r.now-r.leadAt >= r.cfg.ElectionTimeout
	due := r.bondedIf(func(p *peer) bool { return lost || p.heard != r.version || r.outsider(p) })
	for _, who := range due {
		r.sendHello(who, lost || r.outsider(r.peers[who]))
	}
}

func (r *Replica) onHello(from id.PeerID, m *wire.Hello) {
	p := r.peers[from]
	if p.hello != nil && m.Seq < p.hello.Seq {
		return // an earlier one that was overtaken
	}
	p.hello = m
	p.heard = max(p.heard, m.Heard)
	r.dirty, r.recovery.look = true, true
	r.leader.plan = true
	if m.Ask {
		r.sendHello(from, false)
	}
	if r.onGone(m) {
		return
	}
	switch {
	case r.genesis.IsZero():
		if !m.Genesis.IsZero() {
			r.askToJoin()
		}
	case m.Genesis.IsZero():
		if slices.ContainsFunc(r.origin.Founders, func(f wire.Member) bool { return f.ID == m.Member && f.Peer == from }) {
			r.send(from, &wire.Founded{Value: r.origin}) // the first may have been lost
		}
	case m.Genesis == r.genesis:
		if r.table.WasRemoved(m.Member) {
			r.sayRemoved(from, m.Member)
		}
		r.learnCommitted(m)
	case !m.Genesis.IsZero():
		r.met = true // another history of the same group
	}
}

// beginAnew gives up a history that has taken this member out, most likely because it was silent for too long. It joins
// again as a new member, with a state machine that starts anew.
func (r *Replica) beginAnew() {
	r.former = true
	r.startAnew()
	r.becomeBlank()
	r.forgetHistory()
	r.announce()
	r.askToJoin()
}

// startAnew sets the driver's state machine back to its beginning. What was decided before is applied before; reads that
// wait for it are asked again.
func (r *Replica) startAnew() {
	r.due.reset, r.due.before = true, len(r.due.apply)
	for _, x := range r.due.reads {
		if x.OK {
			r.reads.waiting = append(r.reads.waiting, x.Read)
		}
	}
	r.due.reads = slices.DeleteFunc(r.due.reads, func(x ReadReady) bool { return x.OK })
}

// becomeBlank forgets the history. Calls wait for the next one.
func (r *Replica) becomeBlank() {
	r.offset += r.handed
	r.genesis, r.origin, r.self, r.table, r.rn, r.conf = wire.Genesis{}, wire.Origin{}, r.newID(), nil, nil, nil
	r.lead, r.term, r.role, r.index, r.handed, r.applied, r.commits, r.target = 0, 0, 0, 0, 0, 0, 0, 0
	r.line, r.common = genesis.Line{}, 0
	r.applying, r.campaign, r.foundAt, r.soft, r.stirred, r.evicted = nil, campaigning{}, 0, false, false, false
	r.ballot, r.bound, r.try, r.nextTry = genesis.Ballot{}, binding{}, nil, 0
	r.recovery, r.tombs, r.leavers = recovery{}, nil, nil
	r.persisting, r.pledges, r.forked, r.resumed = nil, nil, nil, false
	r.blankSince = r.now
	r.leader = leading{}
	r.dropImages()
	r.endFetch()
	r.snaps = snapshots{lastID: r.snaps.lastID}
	r.fetch = fetching{lastID: r.fetch.lastID}
	r.reads.restart()
	r.client.next = 0
	r.dirty = true
}

// askToJoin asks the leader of the best of the histories that bonded peers belong to. A request is repeated until it is
// granted.
func (r *Replica) askToJoin() {
	if r.leaving.asked {
		return
	}
	var best *wire.Hello
	home := r.successor(r.home)
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h == nil || h.Genesis.IsZero() || h.Leader.IsZero() || r.isGone(h.Genesis) || !r.bondedWith(h.Leader) {
			continue
		}
		if h.Genesis == home { // which knows the session of the calls that it took over
			best = h
			break
		}
		if best == nil || best.Frozen && !h.Frozen || best.Frozen == h.Frozen && keyOf(h).Beats(keyOf(best)) {
			best = h
		}
	}
	if best != nil {
		me := r.voter()
		r.send(best.Leader, &wire.Join{
			Genesis: best.Genesis, Member: me.ID, Nonce: me.Nonce, Preference: me.Preference, Durable: me.Durable,
		})
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

// onAccept begins as a member of an existing history, with an empty log that the leader will fill.
func (r *Replica) onAccept(from id.PeerID, m *wire.Accept) {
	if !r.genesis.IsZero() || m.Member != r.self || !validOrigin(&m.Origin) || r.isGone(m.Origin.Genesis) {
		return
	}
	if slices.ContainsFunc(m.Origin.Founders, func(f wire.Member) bool { return f.ID == r.self }) {
		return // a founder hears of it in another way
	}
	if h := r.peers[from].hello; h == nil || h.Genesis != m.Origin.Genesis {
		return // not something this peer said it was part of
	}
	r.home = wire.Genesis{}
	r.start(m.Origin)
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
