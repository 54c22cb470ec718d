package simnet

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// Link is the quality of one direction between two hosts.
type Link struct {
	// Delay is the one-way delay.
	Delay time.Duration
	// Jitter is the upper end of a random addition to the delay. What is sent on one connection stays in order.
	Jitter time.Duration
	// Bandwidth in bytes per second, shared by all connections of the direction; zero means without limit.
	Bandwidth int
	// Loss is the probability, from 0 to 1, that a packet is lost. A lost packet is sent again after 200 ms, then 400 ms
	// and so on, as TCP does, and holds up what was sent after it.
	Loss float64
}

const (
	firstRetransmit = 200 * time.Millisecond
	maxRetransmits  = 8        // of one packet in a row
	controlSize     = 64       // bytes that a control message takes on the wire
	maxSegment      = 64 << 10 // bytes of data that travel as one
)

// direction is one way between two peers.
type direction struct{ from, to id.PeerID }

// linkState is what the fabric keeps for a direction. Each has its own random source, so that the draws on one do not
// depend on the traffic on others.
type linkState struct {
	link Link
	rng  *rand.Rand
	free time.Time // when the bandwidth is free again
}

func (f *Fabric) linkOf(d direction) *linkState {
	s := f.links[d]
	if s == nil {
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], f.opts.Seed)
		for i := range d.from {
			seed[i] ^= d.from[i]
			seed[i] ^= d.to[i]<<1 | d.to[i]>>7
		}
		s = &linkState{link: f.opts.Link, rng: rand.New(rand.NewChaCha8(seed))}
		f.links[d] = s
	}
	return s
}

// arrival draws when a packet that is sent now arrives.
func (s *linkState) arrival(now time.Time, size int) time.Time {
	leaves := now
	if s.link.Bandwidth > 0 {
		if s.free.After(leaves) {
			leaves = s.free
		}
		leaves = leaves.Add(time.Duration(size) * time.Second / time.Duration(s.link.Bandwidth))
		s.free = leaves
	}
	d := s.link.Delay
	if s.link.Jitter > 0 {
		d += time.Duration(s.rng.Int64N(int64(s.link.Jitter)))
	}
	if s.link.Loss > 0 {
		again := firstRetransmit
		for range maxRetransmits {
			if s.rng.Float64() >= s.link.Loss {
				break
			}
			d += again
			again *= 2
		}
	}
	return leaves.Add(d)
}

// lane carries what one end of a connection sends to the other, in order. What a lane holds is bounded by the windows of
// its connection's streams.
type lane struct {
	f     *Fabric
	dir   direction
	queue []flight
	armed bool // an event will look at the first flight
}

// flight is something under way. It arrives when it is due and all before it have arrived.
type flight struct {
	due    time.Time
	arrive func() // with the fabric locked
}

func (l *lane) send(size int, arrive func()) {
	due := l.f.linkOf(l.dir).arrival(time.Now(), size)
	l.queue = append(l.queue, flight{due, arrive})
	l.arm()
}

func (l *lane) arm() {
	if !l.armed && len(l.queue) > 0 && !l.f.isBlocked(l.dir) {
		l.armed = true
		l.f.at(l.queue[0].due, l.deliver)
	}
}

func (l *lane) deliver() {
	l.armed = false
	for len(l.queue) > 0 && !l.queue[0].due.After(time.Now()) && !l.f.isBlocked(l.dir) {
		arrive := l.queue[0].arrive
		l.queue[0] = flight{}
		l.queue = l.queue[1:]
		arrive()
	}
	l.arm()
}

// release sends again what was held back while the direction was blocked.
func (l *lane) release() {
	if len(l.queue) == 0 || l.armed || l.f.isBlocked(l.dir) {
		return
	}
	earliest := l.f.linkOf(l.dir).arrival(time.Now(), controlSize)
	for i := range l.queue {
		if l.queue[i].due.Before(earliest) {
			l.queue[i].due = earliest
		}
	}
	l.arm()
}

// drop forgets everything under way.
func (l *lane) drop() { l.queue = nil }
