package engine

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
)

// SourceConfig is what a consumer is made with.
type SourceConfig struct {
	Stream      id.ID
	Name        string // for people
	Codec       string
	Fingerprint id.ID
	Window      fan.Limits // what may wait here of each producer
	Keys        []string   // nil: everything
	Gate        Gate
	Online      Online
	Backoff     Backoff
	RemoteOnly  bool // not from producers on this node
}

// parcel is what waits in a source: items, or a gap, or a gap before items.
type parcel struct {
	in     *inlet
	items  []byte
	count  int
	gap    Gap     // Cause zero: none
	pooled *[]byte // what items is in, to be given back; nil when it is not
	weighs fan.Limits
}

// position is what was received last from a producer.
type position struct {
	epoch uint64
	last  uint64
}

// Source is one consumer handle's end: what has arrived and was not taken.
type Source struct {
	*roster
	svc     *Service
	cfg     SourceConfig
	keeper  *keeper
	metrics sourceMetrics
	wake    chan struct{} // capacity one
	waiting atomic.Int32  // goroutines in Wait
	ahead   atomic.Bool   // current has something

	mu     sync.Mutex // guards all following fields
	queue  []parcel
	head   int
	popped int // parcels that were ever taken
	closed bool
	ending bool // nothing more will come
	at     map[id.PeerID]position
	held   map[id.PeerID]fan.Limits // of what waits here, of each producer that has something; a gap counts as an item

	// Guarded by whoever calls Next, one at a time.
	current            parcel
	items, bytes, lost uint64 // taken by the program
	counted            uint64 // bytes that the metrics know of

	ties map[id.PeerID]*tie // the loop's
}

func newSource(svc *Service, cfg SourceConfig) *Source {
	s := &Source{
		svc:     svc,
		cfg:     cfg,
		metrics: svc.metrics.source(cfg.Stream),
		wake:    make(chan struct{}, 1),
		at:      make(map[id.PeerID]position),
		held:    make(map[id.PeerID]fan.Limits),
		ties:    make(map[id.PeerID]*tie),
	}
	s.roster = newRoster(cfg.Online, svc.nudge)
	s.keeper = newKeeper(cfg.Gate, svc.beside)
	return s
}

// Config returns what the source was made with.
func (s *Source) Config() SourceConfig { return s.cfg }

// Next takes the next item, or the next gap, if there is one. Calls must not overlap. The item is valid until the next
// call; err is ErrClosed when the source is closed and, unless it was closed here, drained.
func (s *Source) Next() (item []byte, from *Inlet, gap Gap, err error) {
	for {
		c := &s.current
		if c.gap.Cause != 0 {
			gap, c.gap = c.gap, Gap{}
			s.lost += gap.Lost
			s.metrics.missed.Add(float64(gap.Lost))
			s.share(len(c.items) > 0)
			return nil, nil, gap, nil
		}
		if len(c.items) > 0 {
			item, rest, ok := fan.Cut(c.items) // was checked when it came
			if !ok {
				c.items = nil
				continue
			}
			size := len(c.items) - len(rest)
			c.items = rest
			s.items++
			s.bytes += uint64(len(item))
			c.in.consumed(size)
			s.share(len(rest) > 0)
			return item, c.in, Gap{}, nil
		}
		if !s.advance() {
			return nil, nil, Gap{}, s.state()
		}
	}
}

// share notes whether the current parcel has more, and lets another goroutine that waits know.
func (s *Source) share(more bool) {
	if more != s.ahead.Load() {
		s.ahead.Store(more)
	}
	if more && s.waiting.Load() > 0 {
		s.signal()
	}
}

// advance goes on to the next parcel.
func (s *Source) advance() bool {
	if n := s.current.count; n > 0 {
		s.metrics.items.Add(float64(n))
		s.metrics.bytes.Add(float64(s.bytes - s.counted))
		s.counted = s.bytes
	}
	giveBack(s.current.pooled)
	done := s.current
	s.current = parcel{}
	s.mu.Lock()
	defer s.mu.Unlock()
	if done.in != nil {
		s.lightenLocked(&done)
	}
	if s.closed || s.head == len(s.queue) {
		return false
	}
	s.current = s.queue[s.head]
	s.queue[s.head] = parcel{}
	s.head++
	s.popped++
	if s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
		if cap(s.queue) > 256 {
			s.queue = nil
		}
	} else if s.waiting.Load() > 0 {
		s.signal()
	}
	return true
}

func (s *Source) state() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending && s.head == len(s.queue) {
		return ErrClosed
	}
	return nil
}

// Wait waits until there may be something to take.
func (s *Source) Wait(ctx context.Context) error {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	if s.ahead.Load() || s.something() {
		return nil
	}
	select {
	case <-s.wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Source) something() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || s.ending || s.head < len(s.queue)
}

// signal wakes one that waits; it wakes the next.
func (s *Source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// put takes in items from a producer, or a gap, or both, and notes how far the producer has got; last zero leaves that as
// it is. It never blocks: what comes is bounded by the window.
func (s *Source) put(in *inlet, items []byte, count int, gap Gap, last uint64) {
	s.putPooled(in, items, nil, count, gap, last)
}

// putPooled is put, of items in a buffer that goes back to the pool.
func (s *Source) putPooled(in *inlet, items []byte, pooled *[]byte, count int, gap Gap, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if count > 0 && in.closed.Load() {
		giveBack(pooled) // the next subscription begins without it
		return
	}
	if last > 0 {
		s.at[in.peer] = position{in.epoch, last}
	}
	if s.closed || count == 0 && gap.Cause == 0 {
		return
	}
	gap.Producer = in.peer
	// A gap behind a gap of the same producer joins it, so that gaps alone cannot fill the memory.
	if n := in.lastParcel - s.popped; in.lastParcel > 0 && n > 0 && gap.Cause != 0 {
		if p := &s.queue[s.head+n-1]; p.in == in && p.count == 0 && p.gap.Cause == gap.Cause && count == 0 {
			p.gap.Lost += gap.Lost
			p.gap.Exact = p.gap.Exact && gap.Exact
			return
		}
	}
	if s.head > 0 && len(s.queue) == cap(s.queue) {
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	weighs := fan.Limits{Items: max(count, 1), Bytes: len(items)}
	s.queue = append(s.queue, parcel{in: in, items: items, count: count, gap: gap, pooled: pooled, weighs: weighs})
	held := s.held[in.peer]
	s.held[in.peer] = fan.Limits{Items: held.Items + weighs.Items, Bytes: held.Bytes + weighs.Bytes}
	in.lastParcel = s.popped + len(s.queue) - s.head
	if s.waiting.Load() > 0 {
		s.signal()
	}
}

// lightenLocked books a parcel out that was taken, and has the loop look again once there is room for a subscription.
func (s *Source) lightenLocked(p *parcel) {
	before := s.held[p.in.peer]
	after := fan.Limits{Items: before.Items - p.weighs.Items, Bytes: before.Bytes - p.weighs.Bytes}
	if after == (fan.Limits{}) {
		delete(s.held, p.in.peer)
	} else {
		s.held[p.in.peer] = after
	}
	if s.heavy(before) && !s.heavy(after) {
		s.svc.nudge()
	}
}

// heavy reports whether so much of a producer waits here, from subscriptions that ended, that another one must wait. Each
// subscription may bring a whole window, so at most one and a half windows ever wait.
func (s *Source) heavy(held fan.Limits) bool {
	return held.Items > s.cfg.Window.Items/2 || held.Bytes > s.cfg.Window.Bytes/2
}

// full reports whether a further subscription to a producer must wait.
func (s *Source) full(p id.PeerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heavy(s.held[p])
}

// position returns what was received last from a producer.
func (s *Source) position(p id.PeerID) (position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.at[p]
	return at, ok
}

// maxPositions bounds the producers that a source remembers.
const maxPositions = 4096

// noteEpoch begins an epoch of a producer at a position.
func (s *Source) noteEpoch(p id.PeerID, at position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.at[p]; !known && len(s.at) >= maxPositions {
		for other := range s.at {
			delete(s.at, other)
			break
		}
	}
	s.at[p] = at
}

// Channels returns the live channels.
func (s *Source) Channels() []*Channel { return s.list() }

// IsOnline reports whether the online condition holds.
func (s *Source) IsOnline() bool { return s.online.Load() }

// Taken returns how many items, and bytes of them, the program has taken, and how many it was told that it missed. Calls
// must not overlap with Next.
func (s *Source) Taken() (items, bytes, lost uint64) { return s.items, s.bytes, s.lost }

// end says that nothing more comes; now says that what has come is lost, too.
func (s *Source) end(now bool) {
	s.mu.Lock()
	s.ending = true
	if now {
		s.closed = true
		s.queue, s.head = nil, 0
	}
	s.signal()
	s.mu.Unlock()
	s.roster.close(ErrClosed)
}
