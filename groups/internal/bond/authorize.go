package bond

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/tickets"
)

// verdict is what a group's ticket validators say about one version of a peer's entry.
type verdict struct {
	revision Revision
	pending  bool // the check runs
	allowed  bool
	reason   string // why not
	expires  tickets.Expiration
	checked  time.Time
}

// recheckAfter is when a refused entry is checked again though it has not changed: a validator may have been unable to
// reach what it needs.
const recheckAfter = 30 * time.Second

// allows reports whether the peer's tickets were accepted and have not expired.
func (l *local) allows(who id.PeerID) bool {
	v := l.verdicts[who]
	return v != nil && v.allowed && (v.expires.Never() || time.Now().Before(v.expires.At))
}

// authorizeLocked has the tickets of listed peers checked whose entry is new or whose verdict has expired, and ends the
// bonds to those that are not allowed any more. A bond lives on while a changed entry is checked, as long as the earlier
// verdict has not expired: a renewed ticket does not interrupt it.
func (m *Mesh) authorizeLocked(l *local) {
	if l.Authorize == nil {
		return
	}
	for who := range l.verdicts {
		if _, listed := l.listed[who]; !listed && (l.self == nil || who != m.self) {
			delete(l.verdicts, who)
			m.revokeLocked(l, who, "the peer is not listed in the group any more")
		}
	}
	for _, e := range l.listed {
		m.reviewLocked(l, e)
	}
	if l.self != nil {
		m.reviewLocked(l, l.self)
	}
}

// reviewLocked has the validators look at an entry if that is due.
func (m *Mesh) reviewLocked(l *local, e *Listing) {
	now, who := time.Now(), e.Peer
	v := l.verdicts[who]
	if v == nil {
		v = &verdict{}
		l.verdicts[who] = v
	}
	expired := v.allowed && !v.expires.Never() && !now.Before(v.expires.At)
	if expired {
		v.allowed = false
		v.reason = "the ticket has expired"
		m.revokeLocked(l, who, v.reason)
		m.judgedLocked(l, v, who)
	}
	again := !v.allowed && now.Sub(v.checked) > recheckAfter
	if !v.pending && (v.revision != e.Revision || expired || again) {
		v.pending = true
		m.wg.Go(func() { m.check(l, *e) })
	}
}

// judgedLocked tells the sink if the validators have changed their mind about this node itself.
func (m *Mesh) judgedLocked(l *local, v *verdict, who id.PeerID) {
	refusal := ""
	if !v.allowed {
		refusal = describe(v.reason)
	}
	if who == m.self && l.judged != refusal {
		l.judged = refusal
		l.Sink.Judged(refusal)
	}
}

// check runs the validators on an entry.
func (m *Mesh) check(l *local, e Listing) {
	ctx, cancel := context.WithTimeout(m.ctx, checkTimeout)
	defer cancel()
	expires, err := judge(ctx, l, e)
	now := time.Now()
	if err == nil && !expires.Never() && !now.Before(expires.At) {
		err = errors.New("the ticket has expired")
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	v := l.verdicts[e.Peer]
	if v == nil || m.locals[l.Group] != l {
		return
	}
	v.pending = false
	v.checked = now
	v.revision = e.Revision
	v.allowed = err == nil
	v.expires = expires
	if err != nil {
		v.reason = err.Error()
	}
	m.judgedLocked(l, v, e.Peer)
	m.nudge()
	p := m.peers[e.Peer]
	if err != nil {
		m.revokeLocked(l, e.Peer, v.reason)
		if p != nil && p.trunk != nil {
			if _, asked := p.trunk.waiting[l.Group]; asked {
				delete(p.trunk.waiting, l.Group)
				m.refuseLocked(l, p.trunk, link.CodeGroupNotAllowed, v.reason)
			}
		}
		return
	}
	if p != nil && p.trunk != nil {
		if f, asked := p.trunk.waiting[l.Group]; asked {
			delete(p.trunk.waiting, l.Group)
			m.answerLocked(l, p.trunk, f)
		}
	}
}

// judge calls the validators, which are not ours.
func judge(ctx context.Context, l *local, e Listing) (expires tickets.Expiration, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the validator panicked: %v", v)
		}
	}()
	return l.Authorize(ctx, e)
}

// revokeLocked ends the bond to a peer that lost its permission.
func (m *Mesh) revokeLocked(l *local, who id.PeerID, reason string) {
	p := m.peers[who]
	if p == nil || p.trunk == nil || p.trunk.bonds[l.Group] == nil {
		return
	}
	m.refuseLocked(l, p.trunk, link.CodeGroupNotAllowed, reason)
}

// hesitateLocked handles the hello of a peer that is not allowed, or not yet.
func (m *Mesh) hesitateLocked(l *local, t *trunk, f helloFrame) {
	v := l.verdicts[t.peer]
	switch {
	case v == nil:
		m.refuseLocked(l, t, link.CodeUnknownPeer, "no entry of the peer lists the group yet")
	case v.pending:
		t.waiting[l.Group] = f
	default:
		m.refuseLocked(l, t, link.CodeGroupNotAllowed, v.reason)
	}
}
