// Package bond connects the members of groups. Two nodes that share groups keep one stream between them, the trunk; each
// group has a numbered channel in it, the bond, that comes up when both sides have proven that they know the group's key.
//
// The mesh of a node decides which trunks to open. It reads from the catalog who says to be in which group; of two nodes
// the one with the smaller identity dials, the other only when nothing came for a second. If both opened trunks at once, that
// of the smaller identity stays; a dial that ends when the peer's trunk is there already is given up. Whoever was refused is
// remembered and tried again with growing pauses.
package bond

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Env is what a mesh works with.
type Env struct {
	Host      transport.Host
	Network   id.ID
	Directory Directory
	Logger    *slog.Logger
	Pulses    Pulses
}

// Times and limits of a mesh.
const (
	lookInterval     = 250 * time.Millisecond // between looks at what is due
	yieldTime        = time.Second            // the larger identity leaves dialling to the smaller one for so long
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	checkTimeout     = 10 * time.Second // of one ticket check
	maxDials         = 16               // at a time
	steadyAfter      = 10 * time.Second // a trunk that lived so long was no failure
	sendBuffer       = 24 << 20         // bytes that wait for a slow peer before messages are dropped
	flushGrace       = time.Second      // for the last frames of a trunk that is closed in order
)

var dialPatience = patience{500 * time.Millisecond, 30 * time.Second}

// Mesh is all trunks and bonds of a node.
type Mesh struct {
	env  Env
	self id.PeerID
	log  *slog.Logger

	kick   chan struct{} // capacity one: something may be due
	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup // the loop, dials, dialled trunks, ticket checks

	freshMu sync.Mutex
	fresh   map[id.PeerID]bool // peers to which a connection has come up since the last look; guarded by freshMu

	mu     sync.Mutex // guards all following fields, and those of local, peer, trunk and Bond where they say so
	locals map[id.ID]*local
	peers  map[id.PeerID]*peer
	dials  int
	quiet  bool // no bond is missing, nor was one refused, so there is nothing to try
	closed bool
}

// local is a group of this node.
type local struct {
	Local
	listed   map[id.PeerID]*Listing
	self     *Listing    // this node's own entry, nil if it does not list the group
	order    []id.PeerID // keys of listed, sorted; nil before the first look
	refused  map[id.PeerID]*PeerRefusal
	verdicts map[id.PeerID]*verdict // when there is something to authorize; of the own entry too
	judged   string                 // what the sink knows of the own entry
}

// peer is another node that shares a group, or that opened a trunk.
type peer struct {
	id      id.PeerID
	trunk   *trunk
	dialing bool
	fails   int       // dials and short-lived trunks in a row
	retry   time.Time // no dial before
	missed  time.Time // since when a trunk is due and absent, zero when not
}

// Start starts a mesh. It handles the protocol of trunks on the host until it is closed.
func Start(env Env) *Mesh {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mesh{
		env:    env,
		self:   env.Host.ID(),
		log:    env.Logger,
		kick:   make(chan struct{}, 1),
		ctx:    ctx,
		cancel: cancel,
		fresh:  make(map[id.PeerID]bool),
		locals: make(map[id.ID]*local),
		peers:  make(map[id.PeerID]*peer),
	}
	env.Host.Handle(Protocol, m.accept)
	m.wg.Go(m.loop)
	return m
}

// Add makes the node a member of a group. The group must not be there already.
func (m *Mesh) Add(l Local) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.locals[l.Group] = &local{
		Local:    l,
		refused:  make(map[id.PeerID]*PeerRefusal),
		verdicts: make(map[id.PeerID]*verdict),
	}
	m.nudge()
}

// Remove ends the bonds of a group and forgets it. Its sink is told nothing of that.
func (m *Mesh) Remove(group id.ID) { m.remove(group, link.CodeShutdown, "the group was left") }

// Fail is Remove for a group that has failed on this node, and tells the peers so.
func (m *Mesh) Fail(group id.ID) { m.remove(group, link.CodeGroupFailed, "the group failed") }

func (m *Mesh) remove(group id.ID, code link.Code, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locals[group] == nil {
		return
	}
	delete(m.locals, group)
	for _, p := range m.peers {
		if t := p.trunk; t != nil {
			delete(t.waiting, group)
			if b := t.bonds[group]; b != nil {
				b.isUp.Store(false)
				b.reason = reason
				t.setLocked(group, nil)
				t.control(&closeFrame{group: group, code: code})
			}
		}
	}
}

// Refusals returns which peers have no bond for the group, and why, by peer id.
func (m *Mesh) Refusals(group id.ID) []PeerRefusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locals[group]
	if l == nil {
		return nil
	}
	var out []PeerRefusal
	for _, r := range l.refused {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b PeerRefusal) int { return a.Peer.Compare(b.Peer) })
	return out
}

// Close ends all trunks in order, after sending what waits, and waits for everything the mesh started.
func (m *Mesh) Close() { m.shut(true) }

// Kill ends all trunks at once and waits too.
func (m *Mesh) Kill() { m.shut(false) }

func (m *Mesh) shut(flush bool) {
	m.mu.Lock()
	m.closed = true
	var trunks []*trunk
	for _, p := range m.peers {
		if p.trunk != nil {
			trunks = append(trunks, p.trunk)
		}
	}
	m.mu.Unlock()
	m.cancel()
	m.env.Host.Handle(Protocol, transport.Refuse)
	var wg sync.WaitGroup
	for _, t := range trunks {
		wg.Go(func() { t.shut(flush) })
	}
	wg.Wait()
	m.wg.Wait()
}

// nudge has the loop look at once.
func (m *Mesh) nudge() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// loop looks at what is due whenever something has changed, and from time to time.
func (m *Mesh) loop() {
	changed, stop := m.env.Directory.Watch()
	defer stop()
	defer m.env.Host.Watch(m.connected)()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for list, try := true, true; ; {
		m.look(time.Now(), list, try)
		list, try = false, false
		select {
		case <-changed:
			list, try = true, true
		case <-m.kick:
			try = true
		case <-ticker.C:
		case <-m.ctx.Done():
			return
		}
	}
}

// connected takes note of a new connection.
func (m *Mesh) connected(ev transport.Event) {
	if ev.Kind != transport.Connected {
		return
	}
	m.freshMu.Lock()
	m.fresh[ev.Peer] = true
	m.freshMu.Unlock()
	m.nudge()
}

// forgiveLocked lets peers be dialled at once to which there is a connection again: that they were out of reach says nothing
// any more.
func (m *Mesh) forgiveLocked() {
	m.freshMu.Lock()
	defer m.freshMu.Unlock()
	for who := range m.fresh {
		if p := m.peers[who]; p != nil {
			p.fails, p.retry = 0, time.Time{}
		}
	}
	clear(m.fresh)
}

// look brings trunks and bonds nearer to what the catalog says. With list it reads the catalog anew; otherwise only for
// groups that were just added. Unless told to try it leaves out what has nothing to do as long as all is quiet.
func (m *Mesh) look(now time.Time, list, try bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.forgiveLocked()
	var due map[id.PeerID]bool
	if try || !m.quiet {
		due = m.dueLocked(now, list)
	}
	for who := range due {
		if m.peers[who] == nil {
			m.peers[who] = &peer{id: who}
		}
	}
	for _, p := range m.peers {
		switch {
		case p.trunk != nil:
			p.missed = time.Time{}
			p.trunk.superviseLocked(now)
			if len(due) > 0 {
				m.greetLocked(p.trunk, now)
			}
			m.timeoutsLocked(p.trunk, now)
		case p.dialing:
		case !due[p.id]:
			p.missed = time.Time{}
			if now.After(p.retry) {
				delete(m.peers, p.id)
			}
		default:
			m.pursueLocked(p, now)
		}
	}
}

// dueLocked returns the peers to which a bond is missing that should be tried for now.
func (m *Mesh) dueLocked(now time.Time, list bool) map[id.PeerID]bool {
	due := make(map[id.PeerID]bool)
	quiet := true
	for _, l := range m.locals {
		if list || l.order == nil {
			m.listLocked(l)
		}
		m.authorizeLocked(l)
		for _, who := range l.order {
			if m.wantsLocked(l, who, now) {
				due[who] = true
			}
		}
		quiet = quiet && !l.tries() && l.Authorize == nil // which judges anew as time passes
	}
	m.quiet = quiet && len(due) == 0
	return due
}

// tries reports whether a peer was refused with whom a bond may be tried again. Those where the group failed are not listed.
func (l *local) tries() bool {
	for who, r := range l.refused {
		if _, listed := l.listed[who]; listed || r.Code != link.CodeGroupFailed {
			return true
		}
	}
	return false
}

// listLocked takes over from the catalog who says to be in the group. A changed entry clears what was held against its
// peer.
func (m *Mesh) listLocked(l *local) {
	fresh := m.env.Directory.Members(l.Group)
	listed := make(map[id.PeerID]*Listing, len(fresh))
	order := make([]id.PeerID, 0, len(fresh))
	for i := range fresh {
		e := &fresh[i]
		listed[e.Peer] = e
		order = append(order, e.Peer)
		old, known := l.listed[e.Peer]
		if r := l.refused[e.Peer]; !known && r != nil && r.Code == link.CodeGroupFailed {
			delete(l.refused, e.Peer) // it is in the group again
		}
		if known && old.Revision != e.Revision {
			if r := l.refused[e.Peer]; r != nil {
				r.Retry = time.Time{}
			}
			if p := m.peers[e.Peer]; p != nil {
				p.fails, p.retry = 0, time.Time{}
			}
		}
	}
	l.self = nil
	if own, ok := m.env.Directory.Self(l.Group); ok && l.Authorize != nil {
		l.self = &own
	}
	slices.SortFunc(order, id.PeerID.Compare)
	l.listed = listed
	if l.order == nil || !slices.Equal(order, l.order) {
		l.order = order
		l.Sink.Listed(order)
		for who, r := range l.refused {
			// That the group failed there explains why the peer is not listed. A few such are enough.
			if _, still := listed[who]; !still && (r.Code != link.CodeGroupFailed || len(l.refused) > failedMost) {
				delete(l.refused, who)
			}
		}
	}
}

// wantsLocked reports whether a bond to the peer is missing and should be tried for now.
func (m *Mesh) wantsLocked(l *local, who id.PeerID, now time.Time) bool {
	if p := m.peers[who]; p != nil && p.trunk != nil && p.trunk.bonds[l.Group] != nil {
		return false
	}
	if r := l.refused[who]; r != nil && now.Before(r.Retry) {
		return false
	}
	return l.Authorize == nil || l.allows(who)
}

// pursueLocked dials a peer if it is time.
func (m *Mesh) pursueLocked(p *peer, now time.Time) {
	if p.missed.IsZero() {
		p.missed = now
	}
	if now.Before(p.retry) || m.dials >= maxDials {
		return
	}
	if m.self.Compare(p.id) > 0 && now.Sub(p.missed) < yieldTime {
		return
	}
	p.dialing = true
	m.dials++
	m.wg.Go(func() { m.dial(p) })
}

func (m *Mesh) dial(p *peer) {
	ctx, cancel := context.WithTimeout(m.ctx, dialTimeout)
	s, err := m.env.Host.Open(ctx, p.id, Protocol)
	cancel()

	m.mu.Lock()
	p.dialing = false
	m.dials--
	if err != nil {
		p.fails++
		p.retry = time.Now().Add(dialPatience.delay(p.fails))
	}
	m.mu.Unlock()
	if err != nil {
		if m.ctx.Err() == nil {
			m.log.Debug("cannot open a trunk", "peer", p.id.Short(), "err", err)
		}
		return
	}
	m.run(newTrunk(m, s, true))
}

// accept handles a trunk that a peer opened.
func (m *Mesh) accept(s transport.Stream) {
	m.run(newTrunk(m, s, false))
}

// run runs a trunk from its adoption to its end.
func (m *Mesh) run(t *trunk) {
	if code := m.adopt(t); code != 0 {
		t.stream.Abort(code)
		return
	}
	err := t.read()
	code := codeOf(err)
	if _, ok := errors.AsType[*violationError](err); ok {
		m.log.Warn("closed a trunk", "peer", t.peer.Short(), "err", err)
	}
	m.drop(t, err)
	if !t.orderly.Load() {
		t.out.Abort(code)
	}
}

// codeOf returns the close code of an error of a trunk.
func codeOf(err error) link.Code {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return link.CodeTimeout
	}
	return link.CodeOf(err)
}

// adopt makes t the trunk of its peer, or says why it cannot be.
func (m *Mesh) adopt(t *trunk) link.Code {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return link.CodeShutdown
	}
	p := m.peers[t.peer]
	if p == nil {
		p = &peer{id: t.peer}
		m.peers[t.peer] = p
	}
	if old := p.trunk; old != nil {
		// What this node dialled comes too late when the peer's trunk is there: the peer has heard nothing of it yet, so
		// nobody has to change.
		if t.dialed || old.preferred() && !t.preferred() {
			return link.CodeGroupAlreadyBonded
		}
		// Either t is the one to keep, or the peer dialled again because the old one is dead for it.
		m.dropLocked(old, false, "another trunk took over")
		old.stream.Abort(link.CodeGroupAlreadyBonded)
	}
	p.trunk = t
	t.open()
	m.env.Host.Protect(t.peer, Protocol)
	m.greetLocked(t, time.Now())
	return 0
}

// drop takes a trunk out of use that has ended.
func (m *Mesh) drop(t *trunk, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.gone {
		return
	}
	m.dropLocked(t, codeOf(err) != link.CodeTimeout, fmt.Sprintf("the link ended: %v", err))
	p := m.peers[t.peer]
	now := time.Now()
	if now.Sub(t.since) >= steadyAfter {
		p.fails, p.retry = 0, time.Time{}
	} else {
		p.fails++
		p.retry = now.Add(dialPatience.delay(p.fails))
	}
	m.env.Host.Unprotect(t.peer, Protocol)
	m.nudge()
}

func (m *Mesh) dropLocked(t *trunk, closed bool, reason string) {
	t.gone = true
	for _, b := range t.bonds {
		m.downLocked(b, closed, reason)
	}
	m.peers[t.peer].trunk = nil
}

// downLocked ends a bond, whatever state it is in.
func (m *Mesh) downLocked(b *Bond, closed bool, reason string) {
	m.quiet = false
	b.reason = reason
	b.trunk.setLocked(b.local.Group, nil)
	if b.isUp.CompareAndSwap(true, false) {
		b.local.Sink.Down(b, closed)
	}
}
