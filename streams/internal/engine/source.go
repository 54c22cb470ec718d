package engine

import (
	"bytes"
	"context"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
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

// Cause says why items are missing.
type Cause uint8

const (
	// Lagged: the consumer was too slow and the producer dropped items.
	Lagged Cause = iota + 1
	// Away: the items were sent while there was no connection.
	Away
	// Restarted: the producer began a new life, and what else was lost with the old one is unknown.
	Restarted
	// Undecodable: an item could not be decoded.
	Undecodable
)

// String says in words why items are missing.
func (c Cause) String() string {
	switch c {
	case Lagged:
		return "the consumer was too slow"
	case Away:
		return "there was no connection"
	case Restarted:
		return "the producer began anew"
	case Undecodable:
		return "the codec refuses it"
	default:
		return "unknown cause"
	}
}

// Gap is a hole in what came from one producer.
type Gap struct {
	Producer id.PeerID
	Lost     uint64
	Exact    bool // otherwise Lost is the most or, for Restarted, the least
	Cause    Cause
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

// Long runs of items are copied into buffers that are used again, of sizes that double.
const (
	smallestBuffer = 14 // bits of its size
	largestBuffer  = 21
)

var buffers [largestBuffer - smallestBuffer + 1]sync.Pool

// pack copies items out of a frame.
func pack(items []byte) (copied []byte, pooled *[]byte) {
	class := bits.Len(uint(len(items)-1)) - smallestBuffer
	if class < 0 || class >= len(buffers) || len(items) < 1<<(smallestBuffer-1) {
		return bytes.Clone(items), nil
	}
	pooled, _ = buffers[class].Get().(*[]byte)
	if pooled == nil {
		b := make([]byte, 1<<(class+smallestBuffer))
		pooled = &b
	}
	return (*pooled)[:copy(*pooled, items)], pooled
}

// giveBack lets a buffer of pack be used again.
func giveBack(pooled *[]byte) {
	if pooled != nil {
		buffers[bits.Len(uint(len(*pooled)))-1-smallestBuffer].Put(pooled)
	}
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

// Inlet is where an item came from.
type Inlet = inlet

// inlet is one subscription on the consumer's side.
type inlet struct {
	src     *Source
	peer    id.PeerID
	tie     *tie
	number  uint32 // on the trunk
	window  wire.Window
	epoch   uint64
	channel atomic.Pointer[Channel] // set when accepted
	trunk   *trunk                  // of a remote producer
	outlet  *outlet                 // of a producer on this node
	closed  atomic.Bool

	lastParcel int // guarded by the source's mutex: which was put last, counting from 1

	// Guarded by whoever calls Next.
	refused              bool
	tookItems, tookBytes uint64
	toldItems, toldBytes uint64

	// What the producer was told, and whether the trunk knows that there is news.
	creditItems, creditBytes atomic.Uint64
	listed                   atomic.Bool

	// Used by the reader of the trunk.
	gotItems, gotBytes uint64
}

// Producer returns who the item comes from.
func (in *inlet) Producer() id.PeerID { return in.peer }

// Refuse ends the subscription because an item cannot be decoded. What has come is not affected. Like Next it must not
// overlap with other calls.
func (in *inlet) Refuse(err error) {
	in.src.lost++
	in.src.metrics.missed.Inc()
	if in.refused {
		return
	}
	in.refused = true
	in.src.svc.log.Warn("cannot decode an item", "stream", in.src.cfg.Stream.Short(), "peer", in.peer.Short(), "err", err)
	in.src.svc.post(func() {
		if t := in.tie; t.in == in {
			in.src.svc.sever(t, link.CodeProtocolViolation, err.Error())
			in.src.svc.failed(t, link.CodeProtocolViolation, err.Error(), false)
		}
	})
}

// consumed counts an item that was taken, and tells the producer now and then.
func (in *inlet) consumed(size int) {
	in.tookItems++
	in.tookBytes += uint64(size)
	if in.tookItems-in.toldItems < uint64(max(1, in.window.Items/4)) &&
		in.tookBytes-in.toldBytes < uint64(max(1, in.window.Bytes/4)) {
		return
	}
	in.toldItems, in.toldBytes = in.tookItems, in.tookBytes
	if in.closed.Load() {
		return
	}
	in.creditBytes.Store(in.tookBytes)
	in.creditItems.Store(in.tookItems)
	if o := in.outlet; o != nil {
		o.credit(wire.Credit{Items: in.tookItems, Bytes: in.tookBytes})
		return
	}
	if !in.listed.Swap(true) {
		in.trunk.enlist(in)
	}
}

// fill implements filler: it tells the producer what was consumed.
func (in *inlet) fill(out *batch) (again bool) {
	in.listed.Store(false)
	if !in.closed.Load() {
		items := in.creditItems.Load() // first: the bytes are at least those of these items
		out.frame(wire.Credit{Channel: in.number, Items: items, Bytes: in.creditBytes.Load()}.Append, nil)
	}
	return false
}

// admit checks what a producer sent against what it may send. The reader of a trunk calls it.
func (in *inlet) admit(count, size int) error {
	items := in.gotItems + uint64(count) - in.creditItems.Load()
	bytes := in.gotBytes + uint64(size) - in.creditBytes.Load()
	if items > uint64(in.window.Items) || bytes > uint64(in.window.Bytes)+wire.MaxItem+wire.MaxBatch {
		return violation("%d items and %d bytes are more than was granted", items, bytes)
	}
	in.gotItems += uint64(count)
	in.gotBytes += uint64(size)
	return nil
}

// ready implements port for producers on this node: it hands over at once what credit allows. The outlet's mutex is held.
func (in *inlet) ready(o *outlet) {
	for {
		pieces, b, ok := o.takeLocked()
		if !ok {
			break
		}
		for i, p := range pieces {
			items := p.Bytes()
			gap := Gap{}
			if i == 0 && b.Lost > 0 {
				gap = Gap{Lost: b.Lost, Exact: true, Cause: Lagged}
			}
			n := p.To - p.From
			in.src.put(in, items, n, gap, p.Run.Number(p.To-1))
		}
		if b.Items == 0 {
			in.src.put(in, nil, 0, Gap{Lost: b.Lost, Exact: true, Cause: Lagged}, b.Last)
		}
		if ch := in.channel.Load(); ch != nil {
			ch.items.Add(uint64(b.Items))
			ch.bytes.Add(uint64(b.Payload))
			ch.dropped.Add(b.Lost)
		}
		clear(pieces)
	}
	o.accept = nil
	drained := o.drainedLocked()
	if e := o.end; e != nil {
		o.end = nil
		in.src.svc.post(func() { in.src.svc.ended(in, *e) })
	}
	if drained {
		in.src.svc.post(func() { o.done(link.CodeShutdown, "the producer was closed") })
	}
	o.listed = false
}
