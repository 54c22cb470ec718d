package discovery

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/overlay"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Times and limits of the neighbourhood.
const (
	beatPack     = 100 * time.Millisecond // signs of life travel together
	beatsInFrame = 256
	aliveEvery   = 20 * time.Second // a link says something at least so often
	linkIdle     = 60 * time.Second // and is given up after so long
	linkBuffer   = 1 << 20          // bytes that wait for a slow neighbour
	compareGap   = time.Second      // between comparisons with one neighbour
	maxCompares  = 4                // at a time
	maxContacts  = 8                // attempts at a time
	dialTimeout  = 5 * time.Second
	retireGrace  = 2 * time.Second // for the last frames of a link that is no longer needed
)

// neighbour is a link that is up.
type neighbour struct {
	peer    PeerID
	dialled bool
	stream  transport.Stream
	w       *link.Writer
	done    chan struct{} // closed when the link is gone

	// Guarded by the hood's mutex.
	compare   bool // digests should be compared
	comparing bool
	compared  time.Time // end of the last comparison
	said      time.Time // when something was last sent
	retired   bool      // ended by this side in order
}

// packed is a beat that waits to travel, and who need not be told.
type packed struct {
	beat *wire.Beat
	from PeerID
}

// hood is the neighbours of a node, and who else it tries to reach.
type hood struct {
	d    *Discovery
	kick chan struct{} // capacity one: something may be due

	mu          sync.Mutex // guards all following fields
	core        *overlay.Core
	contacts    *overlay.Contacts
	links       map[PeerID]*neighbour
	beats       map[PeerID]packed
	beatsDue    time.Time // zero: none waits
	nextCompare time.Time
	compares    int
	closing     bool
}

func newHood(d *Discovery, rng *rand.Rand) *hood {
	now := time.Now()
	return &hood{
		d:    d,
		kick: make(chan struct{}, 1),
		core: overlay.New(overlay.Config{
			Self:   d.self,
			Dial:   d.cfg.Neighbours / 2,
			Accept: d.cfg.Neighbours * 2,
			Swap:   d.cfg.SwapInterval,
		}, rng, now),
		contacts:    overlay.NewContacts(rng),
		links:       make(map[PeerID]*neighbour),
		beats:       make(map[PeerID]packed),
		nextCompare: now.Add(d.cfg.SyncInterval),
	}
}

func (h *hood) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// addContact remembers a peer to reach out to.
func (h *hood) addContact(a PeerAddr, from overlay.Origin) {
	if a.ID == h.d.self || a.ID.IsZero() {
		return
	}
	h.mu.Lock()
	h.contacts.Add(a, from)
	h.mu.Unlock()
	h.wake()
}

// claim remembers a peer that the caller reaches out to itself; it ends that with reached.
func (h *hood) claim(a PeerAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !a.ID.IsZero() {
		h.contacts.Add(a, overlay.Dialled)
		h.contacts.Claim(a.ID)
	}
}

// reached takes note of how an attempt to reach a contact ended.
func (h *hood) reached(p PeerID, err error) {
	h.mu.Lock()
	h.contacts.Done(p, err, time.Now())
	h.mu.Unlock()
	h.wake()
}

// hurry says that an address of the peer was learned, or that it is new: it may be wanted as a neighbour.
func (h *hood) hurry(p PeerID) {
	h.mu.Lock()
	h.contacts.Hurry(p)
	h.mu.Unlock()
	h.wake()
}

// runHood keeps the neighbourhood as it should be.
func (d *Discovery) runHood() {
	h := d.hood
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-d.loopCtx.Done():
			return
		case <-h.kick:
		case <-timer.C:
		}
		next := h.step(time.Now())
		timer.Reset(max(time.Millisecond, time.Until(next)))
	}
}

// step does what is due and returns when something is due again.
func (h *hood) step(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := now.Add(aliveEvery)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	_, alone := h.core.Alone()
	due, at := h.contacts.Due(now, h.d.store.known, alone, maxContacts)
	sooner(at)
	for _, a := range due {
		h.d.loops.Go(func() { h.d.reachOut(a) })
	}
	plan := h.core.Step(now, h.d.store.candidates)
	sooner(plan.Next)
	for _, p := range plan.Dial {
		h.d.loops.Go(func() { h.d.dialLink(p) })
	}
	for _, p := range plan.Drop {
		h.retire(h.links[p])
	}
	sooner(h.stepCompare(now))
	if !h.beatsDue.IsZero() && !now.Before(h.beatsDue) {
		h.sendBeats(now)
	}
	sooner(h.beatsDue)
	for _, n := range h.links {
		if now.Sub(n.said) >= aliveEvery {
			h.send(n, now, wire.Alive{}.Append(nil))
		}
	}
	return next
}

// stepCompare starts comparisons that are due.
func (h *hood) stepCompare(now time.Time) (next time.Time) {
	if !now.Before(h.nextCompare) {
		h.nextCompare = now.Add(h.d.cfg.SyncInterval)
		if p, ok := h.core.Random(); ok {
			h.links[p].compare = true
		}
	}
	next = h.nextCompare
	for _, n := range h.links {
		if !n.compare || n.comparing {
			continue
		}
		if at := n.compared.Add(compareGap); now.Before(at) {
			if at.Before(next) {
				next = at
			}
			continue
		}
		if h.compares >= maxCompares {
			continue // the end of one of them wakes the loop
		}
		h.compares++
		n.compare, n.comparing = false, true
		h.d.loops.Go(func() { h.compare(n) })
	}
	return next
}

func (h *hood) compare(n *neighbour) {
	err := h.d.compareWith(h.d.loopCtx, n.peer)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.compares--
	n.comparing = false
	n.compared = time.Now()
	if err != nil && h.links[n.peer] == n && h.d.loopCtx.Err() == nil {
		n.compare = true
		n.compared = n.compared.Add(4 * compareGap)
	}
	h.wake()
}

// compareAll has digests compared with all neighbours but one.
func (h *hood) compareAll(except PeerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	woken := false
	for p, n := range h.links {
		if p != except && !n.compare {
			n.compare = true
			woken = true
		}
	}
	if woken {
		h.wake()
	}
}

// tell passes an update on to all neighbours but the one it came from and the one it is about.
func (h *hood) tell(u wire.Update, from PeerID) {
	body := wire.Updates{u}.Append(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for p, n := range h.links {
		if p != from && p != u.Peer() {
			h.send(n, now, body)
		}
	}
}

// send queues a frame. If the neighbour is so slow that there is no room, the frame is dropped, and digests are compared
// later instead.
func (h *hood) send(n *neighbour, now time.Time, body []byte) {
	if n.retired {
		return
	}
	if !n.w.TryAppend(func(dst []byte) []byte { return append(dst, body...) }) {
		h.d.count.dropped.Inc()
		n.compare = true
		h.wake()
		return
	}
	n.said = now
}

// tellBeat passes on a sign of life, together with others that come within a moment. A newer one replaces an older one.
func (h *hood) tellBeat(b *wire.Beat, from PeerID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beats[b.Peer] = packed{b, from}
	if h.beatsDue.IsZero() {
		h.beatsDue = time.Now().Add(beatPack)
		h.wake()
	}
}

func (h *hood) sendBeats(now time.Time) {
	h.beatsDue = time.Time{}
	for p, n := range h.links {
		frame := make(wire.Updates, 0, min(len(h.beats), beatsInFrame))
		for _, k := range h.beats {
			if k.from == p || k.beat.Peer == p {
				continue
			}
			frame = append(frame, wire.Update{Beat: k.beat})
			if len(frame) == beatsInFrame {
				h.send(n, now, frame.Append(nil))
				frame = frame[:0]
			}
		}
		if len(frame) > 0 {
			h.send(n, now, frame.Append(nil))
		}
	}
	clear(h.beats)
}

// retire ends a link in order. The other side, when it has read everything, ends its own part.
func (h *hood) retire(n *neighbour) {
	if n == nil || n.retired {
		return
	}
	n.retired = true
	if h.links[n.peer] == n {
		h.core.Leave(n.peer)
	}
	h.d.background(n.stream, func() {
		ctx, cancel := context.WithTimeout(context.Background(), retireGrace)
		defer cancel()
		n.w.Close(ctx)
		select {
		case <-n.done:
		case <-ctx.Done():
			n.stream.Abort(link.CodeSuccess)
		}
	})
}
