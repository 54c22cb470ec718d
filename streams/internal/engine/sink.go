package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// Errors of producers and consumers.
var (
	ErrClosed   = errors.New("closed")
	ErrOffline  = errors.New("offline")
	ErrFull     = errors.New("queue full")
	ErrTooLarge = fmt.Errorf("item longer than %d bytes", wire.MaxItem)
)

// SinkConfig is what a producer is made with.
type SinkConfig struct {
	Stream       id.ID
	Name         string // for people
	Codec        string
	Fingerprint  id.ID
	Policy       fan.Policy
	Queue        fan.Limits // of the input and of each consumer
	MaxConsumers int        // zero: no limit
	Gate         Gate
	Online       Online
	History      int  // items that are replayed to those that come
	Keyed        bool // items have keys
}

// inputBytes bounds what waits to be handed to the consumers' queues.
const inputBytes = 1 << 20

// Sink is the producer of one stream on a node. Senders append encoded items to a pending run; a goroutine takes it
// whenever it is free and offers it to every consumer's queue. So nothing is copied per consumer, and batches are as long
// as the load makes them.
type Sink struct {
	*roster
	svc     *Service
	cfg     SinkConfig
	keeper  *keeper
	metrics sinkMetrics
	epoch   uint64
	seed    maphash.Seed
	wake    chan struct{} // capacity one: there is something pending, or the end
	warned  time.Time     // when a slow consumer was last told of; the goroutine's
	done    chan struct{} // closed when the goroutine has ended

	lastEnded atomic.Pointer[Channel]

	mu      sync.Mutex // guards all following fields
	pending *fan.Run
	items   uint64 // sent by the program
	bytes   uint64
	room    chan struct{} // closed when pending was taken; nil when nobody waits
	asleep  bool
	closing bool

	fan     sync.Mutex // guards all following fields
	outlets []*outlet
	last    uint64     // number of the last item that was offered
	history []*fan.Run // the latest runs, as many as hold History items
	kept    int        // items in them
	nowhere uint64     // items that no queue took
	gone    fan.Stats  // of outlets that have ended
	readers []*Undelivered
	shut    bool // no more outlets

	// The loop's.
	parked    []parked
	freeSince time.Time // since when there is a free place; zero when there is none, or no limit

	// Guarded by the service's mutex.
	owner any
	refs  int
}

// parked is a subscription that was refused and may be asked for again.
type parked struct {
	code   link.Code
	peer   id.PeerID
	seen   any         // what of the peer's entry was judged: its version
	notify func() bool // false: nobody is there to be told
}

func newSink(svc *Service, cfg SinkConfig) *Sink {
	s := &Sink{
		svc:     svc,
		cfg:     cfg,
		metrics: svc.metrics.sink(cfg.Stream),
		epoch:   rand.Uint64(),
		seed:    maphash.MakeSeed(),
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		pending: &fan.Run{First: 1},
	}
	s.roster = newRoster(cfg.Online, svc.nudge)
	s.keeper = newKeeper(cfg.Gate, svc.beside)
	go s.run()
	return s
}

// Config returns what the sink was made with.
func (s *Sink) Config() SinkConfig { return s.cfg }

// Begin makes the caller the one that appends to the pending run, until it calls Commit or Cancel, and returns the buffer
// to append an encoded item to. When the producer is offline or the input is full it waits, or fails if wait is false.
func (s *Sink) Begin(ctx context.Context, wait bool) ([]byte, error) {
	for {
		if !s.online.Load() {
			if err := s.awaitOnline(ctx, wait); err != nil {
				return nil, err
			}
		}
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		if n := s.pending.Len(); n == 0 || n < s.cfg.Queue.Items && len(s.pending.Buf) < inputBytes {
			return s.pending.Open(), nil
		}
		if !wait {
			s.mu.Unlock()
			return nil, ErrFull
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Sink) awaitOnline(ctx context.Context, wait bool) error {
	if wait {
		return s.WaitOnline(ctx, true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrClosed
	}
	return ErrOffline
}

// Commit sends the item that was appended to the buffer of Begin.
func (s *Sink) Commit(buf []byte, key string) error {
	size := s.pending.Size(buf)
	if size > wire.MaxItem {
		s.mu.Unlock()
		return ErrTooLarge
	}
	var hash uint64
	if s.cfg.Keyed {
		hash = maphash.String(s.seed, key)
	}
	s.pending.Add(buf, hash, s.cfg.Keyed)
	s.items++
	s.bytes += uint64(size)
	if s.asleep {
		s.asleep = false
		s.wake <- struct{}{}
	}
	s.mu.Unlock()
	return nil
}

// Cancel sends nothing.
func (s *Sink) Cancel() { s.mu.Unlock() }

// run distributes until the sink closes.
func (s *Sink) run() {
	defer close(s.done)
	for {
		r := s.take()
		if r == nil {
			return
		}
		s.distribute(r)
	}
}

// keepBuffer is the size up to which a run is copied out of the pending buffer instead of taking it over.
const keepBuffer = 2 << 10

// take waits for a run and takes it. It returns nil when the sink is closing and all was taken.
func (s *Sink) take() *fan.Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.pending.Len() == 0 {
		if s.closing {
			return nil
		}
		s.asleep = true
		s.mu.Unlock()
		<-s.wake
		s.mu.Lock()
	}
	r := s.pending
	next := r.Next()
	if len(r.Buf) <= keepBuffer {
		if cap(r.Buf) <= 16*keepBuffer {
			next.Buf, next.Marks, next.Keys = r.Buf[:0], r.Marks[:0], r.Keys[:0]
		}
		r = &fan.Run{First: r.First, Buf: slices.Clone(r.Buf), Marks: slices.Clone(r.Marks), Keys: slices.Clone(r.Keys)}
	} else {
		next.Buf = make([]byte, 0, len(r.Buf)+len(r.Buf)/4)
		next.Marks = make([]fan.Mark, 0, r.Len()+r.Len()/4)
	}
	s.pending = next
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	return r
}

// distribute offers a run to all queues, and waits for those that must not lose anything.
func (s *Sink) distribute(r *fan.Run) {
	s.fan.Lock()
	outlets := s.outlets
	reached := 0 // items from the first on that an unfiltered queue took
	offer := func(o *outlet, from int) (next int, lagging bool) {
		next, queued, lagging := o.offer(r, from)
		if !o.filtered && queued > from { // took something
			reached = max(reached, queued)
		}
		return next, lagging
	}
	var slow, full []*outlet
	var next []int
	for _, o := range outlets {
		n, lagging := offer(o, 0)
		switch {
		case !lagging:
		case s.cfg.Policy == fan.Block:
			full, next = append(full, o), append(next, n)
		default:
			slow = append(slow, o)
		}
	}
	s.last = r.Last()
	s.remember(r)
	s.fan.Unlock()

	for _, o := range slow {
		s.cutSlow(o)
	}
	for i, o := range full {
		for at, lagging := next[i], true; lagging && o.awaitRoom(); {
			at, lagging = offer(o, at)
		}
	}
	if reached < r.Len() {
		s.fan.Lock()
		s.missed(r, reached, outlets)
		s.fan.Unlock()
	}
}

// remember keeps a run for those that come later.
func (s *Sink) remember(r *fan.Run) {
	if s.cfg.History == 0 {
		return
	}
	s.history = append(s.history, r)
	s.kept += r.Len()
	for s.kept-s.history[0].Len() >= s.cfg.History {
		s.kept -= s.history[0].Len()
		s.history[0] = nil
		s.history = s.history[1:]
	}
}

// missed deals with the items that none of the queues took to which they were offered. Those before reached were taken.
func (s *Sink) missed(r *fan.Run, reached int, outlets []*outlet) {
	count := 0
	for i := reached; i < r.Len(); i++ {
		if s.cfg.Keyed && slices.ContainsFunc(outlets, func(o *outlet) bool { return o.took(r, i) }) {
			continue
		}
		count++
		for _, u := range s.readers {
			u.push(r.Bytes(i, i+1))
		}
	}
	s.nowhere += uint64(count)
	s.metrics.undelivered.Add(float64(count))
}

// attach adds a consumer's queue and fills it with history. It returns what the consumer is told.
func (s *Sink) attach(o *outlet, resume bool, epoch, position uint64) (wire.Accept, bool) {
	s.fan.Lock()
	defer s.fan.Unlock()
	if s.shut {
		return wire.Accept{}, false
	}
	oldest := s.last + 1 // that can be had
	if n := uint64(min(s.cfg.History, s.kept)); n > 0 {
		oldest = s.last + 1 - n
	}
	a := wire.Accept{Epoch: s.epoch, Exact: true}
	from := oldest
	switch {
	case !resume:
	case epoch != s.epoch:
		// An earlier life of this producer: nobody knows what else was lost with it.
		a.Lost, a.Exact = from-1, false
	default:
		from = max(oldest, min(position, s.last)+1)
		a.Lost = from - 1 - min(position, s.last)
		a.Exact = a.Lost == 0 || !o.filtered
	}
	a.Position = from - 1
	o.seed(s.history, from)
	s.outlets = append(slices.Clip(s.outlets), o)
	return a, true
}

// detach removes an outlet, whose counts are kept.
func (s *Sink) detach(o *outlet, final fan.Stats) {
	s.fan.Lock()
	before := len(s.outlets)
	s.outlets = slices.DeleteFunc(slices.Clone(s.outlets), func(x *outlet) bool { return x == o })
	if len(s.outlets) < before {
		s.gone.Sent += final.Sent
		s.gone.SentBytes += final.SentBytes
		s.gone.Dropped += final.Dropped
	}
	s.fan.Unlock()
}

// keySet returns the hashes of keys as the outlets know them; nil for none.
func (s *Sink) keySet(keys []string) map[uint64]struct{} {
	if len(keys) == 0 {
		return nil
	}
	set := make(map[uint64]struct{}, len(keys))
	for _, k := range keys {
		set[maphash.String(s.seed, k)] = struct{}{}
	}
	return set
}

// SinkStats are the counts of a producer.
type SinkStats struct {
	Items, Bytes uint64 // sent by the program
	Sent         uint64 // to consumers, one for each consumer
	SentBytes    uint64
	Dropped      uint64 // one for each consumer
	Nowhere      uint64 // items that no queue took
	Consumers    int
}

// Stats returns the counts so far.
func (s *Sink) Stats() SinkStats {
	s.mu.Lock()
	out := SinkStats{Items: s.items, Bytes: s.bytes}
	s.mu.Unlock()
	s.fan.Lock()
	defer s.fan.Unlock()
	sum := s.gone
	for _, o := range s.outlets {
		st := o.stats()
		sum.Sent += st.Sent
		sum.SentBytes += st.SentBytes
		sum.Dropped += st.Dropped
	}
	out.Sent, out.SentBytes, out.Dropped = sum.Sent, sum.SentBytes, sum.Dropped
	out.Nowhere, out.Consumers = s.nowhere, len(s.list())
	return out
}

func (s *Sink) consumers() int {
	s.fan.Lock()
	defer s.fan.Unlock()
	return len(s.outlets)
}

// Channels returns the live channels.
func (s *Sink) Channels() []*Channel { return s.list() }

// IsOnline reports whether items can be sent.
func (s *Sink) IsOnline() bool { return s.online.Load() }

// stop refuses further items. What is pending is still distributed, unless abandon says to leave it.
func (s *Sink) stop(abandon bool) {
	s.mu.Lock()
	s.closing = true
	if abandon {
		s.pending = &fan.Run{First: s.pending.First}
	}
	if s.asleep {
		s.asleep = false
		s.wake <- struct{}{}
	}
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	s.mu.Unlock()
	s.roster.close(ErrClosed)
}

// finish drains the queues to their consumers until ctx ends, and tells them that it is over. Whatever they do not get is
// counted as dropped and told to them.
func (s *Sink) finish(ctx context.Context) {
	s.stop(false)
	s.fan.Lock()
	s.shut = true
	outlets := s.outlets
	s.fan.Unlock()
	if s.cfg.Policy == fan.Disconnect { // whoever is cut now could not come back to be told
		yieldAll(outlets)
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		yieldAll(outlets)
		<-s.done
	}
	for _, o := range outlets {
		o.drain()
	}
	for _, o := range outlets {
		select {
		case <-o.channel.ended:
		case <-ctx.Done():
			o.close(link.CodeShutdown, "the producer was closed", true)
		}
	}
	s.endReaders()
}

func yieldAll(outlets []*outlet) {
	for _, o := range outlets {
		o.yield()
	}
}

// kill ends everything at once.
func (s *Sink) kill() {
	s.stop(true)
	s.fan.Lock()
	s.shut = true
	outlets := s.outlets
	s.fan.Unlock()
	for _, o := range outlets {
		o.close(link.CodeCancelled, "", false)
	}
	<-s.done
	s.endReaders()
}
