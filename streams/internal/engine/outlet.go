package engine

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// port is where an outlet leads. ready is called, without blocking, when the outlet has something to give; it is not
// called again until the port has asked for it.
type port interface {
	ready(o *outlet)
}

// outlet is a subscription on the producer's side: a queue and where it leads. From its acceptance on items are queued, but
// only when the consumer has confirmed that, and so knows where it has begun, does the producer count it as a consumer and
// send items. If the connection breaks before, neither side takes it for a subscription.
type outlet struct {
	sink     *Sink
	channel  *Channel
	number   uint32 // on the trunk
	keys     map[uint64]struct{}
	filtered bool
	port     port
	closed   atomic.Bool

	mu        sync.Mutex // guards all following fields
	lane      *fan.Lane
	begun     bool         // the acceptance was told, or is told first
	accept    *wire.Accept // to be told first
	heard     bool         // the consumer has confirmed it
	confirmed bool         // and the loop has seen that
	listed    bool         // the port knows that there is something
	yielding  bool         // items that find no room are dropped
	draining  bool
	over      bool // no more items
	end       *wire.End
	taken     uint64   // of the run that was offered last: items before this number were queued, if they match
	held      *fan.Run // which found no room and was not dropped, from index heldFrom on; nil: none
	heldFrom  int
	room      chan struct{}
	consumed  wire.Credit
	pieces    []fan.Piece
}

func newOutlet(s *Sink, ch *Channel, number uint32, window fan.Limits, p port) *outlet {
	keys := s.keySet(ch.Keys)
	queue := s.cfg.Queue
	queue.Items += s.cfg.History
	o := &outlet{
		sink: s, channel: ch, number: number, keys: keys, filtered: keys != nil, port: p,
		lane: fan.NewLane(s.cfg.Policy, queue, window, keys),
	}
	ch.queued = func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		n, _ := o.lane.Queued()
		return n
	}
	return o
}

// narrow returns the smaller of a consumer's window and the producer's queue: what a producer would not let wait here
// should not wait there.
func narrow(w wire.Window, q fan.Limits) wire.Window {
	return wire.Window{
		Items: uint32(max(1, min(int64(w.Items), int64(q.Items), wire.MaxWindow))),
		Bytes: uint32(max(1, min(int64(w.Bytes), int64(q.Bytes), wire.MaxWindow))),
	}
}

// offer queues items of a run from index from on. It returns the index of the first that it did not deal with, how far
// those that match were queued, and whether the queue is full and something must be done about it.
func (o *outlet) offer(r *fan.Run, from int) (next, queued int, lagging bool) {
	o.mu.Lock()
	if o.over {
		o.mu.Unlock()
		return from, from, false
	}
	before := o.lane.Stats().Dropped
	next, queued = o.lane.Offer(r, from)
	o.droppedLocked(before)
	o.taken = r.First + uint64(queued)
	o.held, o.heldFrom = nil, 0
	if next < r.Len() {
		o.held, o.heldFrom = r, next
	}
	o.notifyLocked()
	o.mu.Unlock()
	return next, queued, next < r.Len()
}

// droppedLocked counts what the lane has dropped since it had dropped before.
func (o *outlet) droppedLocked(before uint64) {
	if n := o.lane.Stats().Dropped - before; n > 0 {
		o.channel.dropped.Add(n)
		o.sink.metrics.dropped.Add(float64(n))
	}
}

// took reports whether item i of the run that was offered last went into the queue.
func (o *outlet) took(r *fan.Run, i int) bool {
	if o.filtered {
		if _, ok := o.keys[r.Keys[i]]; !ok {
			return false
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return r.Number(i) < o.taken
}

// seed queues history from the number on.
func (o *outlet) seed(history []*fan.Run, from uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range history {
		if r.Last() >= from {
			o.lane.Seed(r, sort.Search(r.Len(), func(i int) bool { return r.Number(i) >= from }))
		}
	}
}

// begin has the acceptance told, and then what comes.
func (o *outlet) begin(a wire.Accept) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.accept, o.begun = &a, true
	o.notifyLocked()
}

func (o *outlet) somethingLocked() bool {
	if o.accept != nil || o.end != nil {
		return true
	}
	return !o.over && (o.confirmed && o.lane.Ready() || o.draining && o.emptyLocked())
}

func (o *outlet) emptyLocked() bool {
	n, _ := o.lane.Queued()
	return n == 0
}

// notifyLocked tells the port, once, that there is something to give.
func (o *outlet) notifyLocked() {
	if o.begun && !o.listed && o.somethingLocked() {
		o.listed = true
		o.port.ready(o)
	}
}

// awaitRoom waits until the queue has room. It reports false when the outlet has ended.
func (o *outlet) awaitRoom() bool {
	o.mu.Lock()
	if o.over || o.yielding || o.lane.HasRoom() {
		defer o.mu.Unlock()
		return !o.over
	}
	if o.room == nil {
		o.room = make(chan struct{})
	}
	room := o.room
	o.mu.Unlock()
	<-room
	return true
}

func (o *outlet) roomLocked() {
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// yield drops items that find no room from now on instead of waiting or cutting the consumer off: the producer is being
// closed, and the consumer is told at the end.
func (o *outlet) yield() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.yielding = true
	o.lane.Yield()
	o.roomLocked()
}

// credit takes in how much the consumer has consumed in all. The first word of it confirms the acceptance.
func (o *outlet) credit(c wire.Credit) {
	o.mu.Lock()
	if c.Items >= o.consumed.Items && c.Bytes >= o.consumed.Bytes {
		o.lane.Consumed(int(c.Items-o.consumed.Items), int(c.Bytes-o.consumed.Bytes))
		o.consumed = c
		o.notifyLocked()
	}
	first := o.begun && !o.heard
	o.heard = o.heard || first
	o.mu.Unlock()
	if first {
		o.sink.svc.post(o.confirm)
	}
}

// confirm begins the subscription: the consumer knows of it. Only the loop calls it, so that whoever sees the channel finds
// the producer online, if that makes it so.
func (o *outlet) confirm() {
	o.sink.roster.admit(o.channel)
	o.mu.Lock()
	o.confirmed = true
	o.notifyLocked()
	o.mu.Unlock()
	if !o.channel.Live() { // was ended meanwhile
		o.sink.roster.remove(o.channel)
	}
}

// overdue reports whether the consumer has not confirmed for too long.
func (o *outlet) overdue(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.confirmed && now.Sub(o.channel.Since) > confirmAfter
}

// takeLocked takes what credit allows, at most about a frame's worth. The pieces are valid until the next call.
func (o *outlet) takeLocked() ([]fan.Piece, fan.Batch, bool) {
	if o.over || !o.confirmed {
		return nil, fan.Batch{}, false
	}
	pieces, b, ok := o.lane.Take(o.pieces[:0], wire.MaxBatch)
	o.pieces = pieces
	if !ok {
		return nil, b, false
	}
	if b.Items > 0 {
		o.roomLocked()
		o.channel.items.Add(uint64(b.Items))
		o.channel.bytes.Add(uint64(b.Payload))
		o.sink.metrics.sent(b.Items, b.Payload)
	}
	return pieces, b, true
}

// fill implements filler.
func (o *outlet) fill(out *batch) (again bool) {
	o.mu.Lock()
	if a := o.accept; a != nil {
		o.accept = nil
		out.frame(a.Append, nil)
	}
	if pieces, b, ok := o.takeLocked(); ok {
		out.frame(wire.Data{Channel: o.number, Last: b.Last, Lost: b.Lost}.AppendHeader, pieces)
		clear(pieces)
	}
	drained := o.drainedLocked()
	if e := o.end; e != nil {
		o.end = nil
		out.frame(e.Append, nil)
	}
	o.listed = o.somethingLocked()
	again = o.listed
	o.mu.Unlock()
	if drained {
		o.done(link.CodeShutdown, "the producer was closed")
	}
	return again
}

// drainedLocked ends an outlet that was to be drained and is.
func (o *outlet) drainedLocked() bool {
	if !o.draining || o.over || !o.emptyLocked() {
		return false
	}
	o.endLocked(link.CodeShutdown, "the producer was closed", true)
	return true
}

// endLocked stops the flow, and has the consumer told if tell is set.
func (o *outlet) endLocked(code link.Code, detail string, tell bool) {
	o.over = true
	o.roomLocked()
	before := o.lane.Stats().Dropped
	if o.held != nil {
		o.lane.Refuse(o.held, o.heldFrom)
		o.held = nil
	}
	lost, last := o.lane.Abandon()
	o.droppedLocked(before)
	if !tell {
		return
	}
	o.end = &wire.End{Channel: o.number, Code: code, Detail: detail}
	if code == link.CodeShutdown {
		// The last chance to tell. Otherwise the consumer may come back, and history may have what it lost.
		o.end.Lost, o.end.Last = lost, last
	}
}

// drain ends the outlet once all that is queued was sent.
func (o *outlet) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.draining = true
	o.notifyLocked()
}

// cut ends the outlet because of its consumer.
func (o *outlet) cut(code link.Code, detail string) { o.close(code, detail, true) }

// close ends the outlet now; tell says whether the consumer is to be told why.
func (o *outlet) close(code link.Code, detail string, tell bool) {
	o.mu.Lock()
	if !o.over {
		o.endLocked(code, detail, tell)
		o.notifyLocked()
	}
	o.mu.Unlock()
	o.done(code, detail)
}

// done takes the outlet off its sink, once.
func (o *outlet) done(code link.Code, detail string) {
	if o.closed.Swap(true) {
		return
	}
	o.sink.detach(o, o.stats())
	o.channel.end(code, detail)
	o.sink.lastEnded.Store(o.channel)
	o.sink.roster.remove(o.channel)
	o.sink.svc.freed(o)
}

func (o *outlet) stats() fan.Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lane.Stats()
}
