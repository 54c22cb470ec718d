package bond

import (
	"encoding/binary"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Pulses counts the heartbeats of groups at rest and the answers to them, and the frames that carried them.
type Pulses struct{ Sent, Frames Counter }

func (p *Pulses) add(pulses int) {
	if p.Sent != nil {
		p.Sent.Add(float64(pulses))
		p.Frames.Inc()
	}
}

// Round collects pulses of many groups, and sends those for one peer in one frame. The zero value is ready for use. It is
// not safe for concurrent use.
type Round struct{ trunks map[*trunk]*burst }

// burst is pulses, or answers, for one peer.
type burst struct {
	body  []byte
	count int
}

// Pulse adds a pulse for the peer of a bond. It is lost if the bond is down.
func (r *Round) Pulse(b *Bond, m wire.Pulse) {
	if !b.isUp.Load() {
		return
	}
	if r.trunks == nil {
		r.trunks = make(map[*trunk]*burst)
	}
	x := r.trunks[b.trunk]
	if x == nil {
		x = new(burst)
		r.trunks[b.trunk] = x
	}
	x.body = binary.AppendUvarint(x.body, uint64(b.out))
	x.body = binary.AppendUvarint(x.body, m.Member)
	x.body = binary.AppendUvarint(x.body, m.Term)
	x.count++
}

// Send sends what was collected, without waiting. A trunk that has too much to send already loses it.
func (r *Round) Send() {
	for t, x := range r.trunks {
		if x.count == 0 {
			delete(r.trunks, t) // nothing came for a whole round: it may be gone
			continue
		}
		t.sendBurst(kindPulses, x)
		x.body, x.count = x.body[:0], 0
	}
}

func (t *trunk) sendBurst(k kind, x *burst) {
	t.sent.Add(1)
	if t.out.TryAppend(func(dst []byte) []byte { return append(append(dst, byte(k)), x.body...) }) {
		t.mesh.env.Pulses.add(x.count)
	}
}

// onPulses hands pulses to their groups, and sends what answers there are, in one frame.
func (t *trunk) onPulses(body []byte) error {
	var answers burst
	for len(body) > 0 {
		channel, n := pulseField(body)
		member, k := pulseField(body[n:])
		term, l := pulseField(body[n+k:])
		if n == 0 || k == 0 || l == 0 || channel > 1<<32-1 {
			return errMalformed
		}
		body = body[n+k+l:]
		b := t.bondAt(uint32(channel))
		if b == nil || !b.isUp.Load() {
			continue // sent before the peer saw our close
		}
		if b.local.Sink.Pulse(b, wire.Pulse{Member: member, Term: term}) {
			answers.body = binary.AppendUvarint(answers.body, uint64(b.out))
			answers.body = binary.AppendUvarint(answers.body, term)
			answers.count++
		}
	}
	if answers.count > 0 {
		t.sendBurst(kindPulsed, &answers)
	}
	return nil
}

// onPulsed hands answers to their groups.
func (t *trunk) onPulsed(body []byte) error {
	for len(body) > 0 {
		channel, n := pulseField(body)
		term, k := pulseField(body[n:])
		if n == 0 || k == 0 || channel > 1<<32-1 {
			return errMalformed
		}
		body = body[n+k:]
		if b := t.bondAt(uint32(channel)); b != nil && b.isUp.Load() {
			b.local.Sink.Pulsed(b, wire.Pulsed{Term: term})
		}
	}
	return nil
}

// pulseField reads a number, and returns how many bytes it takes, zero if it is none.
func pulseField(b []byte) (v uint64, n int) {
	v, n = binary.Uvarint(b)
	return v, max(n, 0)
}
