package bond

import (
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
)

// The handshake of a bond. Both sides do the same: say hello with a fresh nonce, and when the other's hello is there prove
// to know the key by a MAC over both nonces and both identities, which the transport has proven. A side takes the bond to
// be up when the other's proof is right; its own is on the way by then, ahead of all data.
//
//	A                                    B
//	hello(group, channel, nonceA)   ->
//	                                <-   hello(group, channel, nonceB), proof(mac(B, A, nonceB, nonceA))
//	proof(mac(A, B, nonceA, nonceB)) ->
//
// Either may begin; both may. A nonce stays the same until the bond is up or given up, so hellos that cross need no
// further round. A proof names the nonce it answers, and is ignored when that is not the present one.

// greetLocked says hello for each group whose other member the trunk leads to, if nothing speaks against it.
func (m *Mesh) greetLocked(t *trunk, now time.Time) {
	for _, l := range m.locals {
		if _, listed := l.listed[t.peer]; listed && m.wantsLocked(l, t.peer, now) {
			m.helloLocked(l, t)
		}
	}
}

// helloLocked begins a bond from this side.
func (m *Mesh) helloLocked(l *local, t *trunk) *Bond {
	b := &Bond{
		mesh:  m,
		local: l,
		trunk: t,
		nonce: handshake.NewNonce(),
		in:    t.channelLocked(l.Group),
		since: time.Now(),
	}
	t.setLocked(l.Group, b)
	t.control(&helloFrame{group: l.Group, channel: b.in, nonce: b.nonce})
	return b
}

// onHello handles a peer's hello.
func (m *Mesh) onHello(t *trunk, f helloFrame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.gone {
		return
	}
	l := m.locals[f.group]
	if l == nil {
		t.control(&closeFrame{group: f.group, code: link.CodeGroupNotFound})
		return
	}
	if l.Authorize != nil && !l.allows(t.peer) {
		m.hesitateLocked(l, t, f)
		return
	}
	m.answerLocked(l, t, f)
}

// answerLocked goes on with a hello of a peer that may be in the group, as far as tickets are concerned.
func (m *Mesh) answerLocked(l *local, t *trunk, f helloFrame) {
	b := t.bonds[l.Group]
	if b != nil && b.isUp.Load() {
		// In the order of the stream a new hello comes after all of the old bond: the peer has begun again.
		m.downLocked(b, true, "the peer began again")
		b = nil
	}
	if b == nil {
		b = m.helloLocked(l, t)
	}
	b.greeted = true
	b.peerNonce = f.nonce
	b.out = f.channel
	t.control(&proofFrame{
		channel:     f.channel,
		answers:     b.peerNonce,
		mac:         prove(m.env.Network, l, m.self, t.peer, b.nonce, b.peerNonce),
		fingerprint: l.Fingerprint,
		codec:       l.Codec,
	})
}

// onProof handles a peer's proof.
func (m *Mesh) onProof(t *trunk, f proofFrame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := t.bondAt(f.channel)
	if t.gone || b == nil || !b.greeted || b.isUp.Load() || f.answers != b.nonce {
		return // late
	}
	l := b.local
	if !verify(f.mac, m.env.Network, l, t.peer, m.self, b.peerNonce, b.nonce) {
		m.refuseLocked(l, t, link.CodeGroupInvalidProof, "the peer does not know the key of the group")
		return
	}
	if f.codec != l.Codec || f.fingerprint != l.Fingerprint {
		m.refuseLocked(l, t, link.CodeGroupSchemaMismatch, fmt.Sprintf("commands are %s here and %s at %s",
			schema(l.Codec, l.Fingerprint), schema(f.codec, f.fingerprint), t.peer.Short()))
		return
	}
	delete(l.refused, t.peer)
	b.since = time.Now()
	b.isUp.Store(true)
	l.Sink.Up(b)
}

func schema(codec string, fingerprint id.ID) string {
	return fmt.Sprintf("%q with schema %s", codec, fingerprint.Short())
}

// refuseLocked ends whatever there is of a bond, tells the peer, and remembers.
func (m *Mesh) refuseLocked(l *local, t *trunk, code link.Code, reason string) {
	reason = describe(reason)
	t.control(&closeFrame{group: l.Group, code: code, reason: reason})
	if b := t.bonds[l.Group]; b != nil {
		m.downLocked(b, true, reason)
	}
	m.holdAgainstLocked(l, t.peer, Refusal{Code: code, Reason: reason})
}

// onClose handles a peer's refusal, or its end of a bond.
func (m *Mesh) onClose(t *trunk, f closeFrame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locals[f.group]
	if t.gone || l == nil {
		return
	}
	delete(t.waiting, f.group)
	r := Refusal{Code: f.code, Reason: f.reason, Remote: true}
	if b := t.bonds[f.group]; b != nil {
		m.downLocked(b, true, r.String())
	}
	m.holdAgainstLocked(l, t.peer, r)
}

// holdAgainstLocked remembers a refusal, and reports it if it is news.
func (m *Mesh) holdAgainstLocked(l *local, who id.PeerID, r Refusal) {
	m.quiet = false
	now := time.Now()
	if old := l.refused[who]; old != nil && old.Code == link.CodeGroupFailed && r.Code == link.CodeGroupNotFound {
		r = old.Refusal // which says why
	}
	held := remember(l.refused[who], who, r, now)
	l.refused[who] = held
	if held.report(now) {
		l.Sink.Refused(who, r)
	}
}

// timeoutsLocked gives up handshakes that the peer does not go on with.
func (m *Mesh) timeoutsLocked(t *trunk, now time.Time) {
	for _, b := range t.bonds {
		if !b.isUp.Load() && now.Sub(b.since) > handshakeTimeout {
			m.refuseLocked(b.local, t, link.CodeGroupTimeout, "the handshake was not finished in time")
		}
	}
}
