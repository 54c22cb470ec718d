package fan

import "sort"

// Policy says what happens to items for which a consumer's queue has no room.
type Policy uint8

const (
	// Disconnect ends the subscription.
	Disconnect Policy = iota
	// DropNewest drops the items that find no room.
	DropNewest
	// DropOldest drops the items that have waited longest.
	DropOldest
	// Block makes the producer wait.
	Block
)

// Limits bound a queue. An item always fits into an empty one.
type Limits struct{ Items, Bytes int }

// Lane is the queue of items for one consumer. It is not safe for concurrent use.
type Lane struct {
	policy Policy
	limit  Limits
	filter map[uint64]struct{} // nil: everything matches

	queue  []span // from head on
	head   int
	items  int // queued
	bytes  int
	lost   uint64 // matching items dropped behind all that is queued
	lastly uint64 // number of the last of them

	granted Limits // what may be unconsumed at the consumer
	flying  Limits // what is

	stats Stats
}

// span is a range of a run's items, and how many matching items were dropped before it.
type span struct {
	run      *Run
	from, to int
	lost     uint64
}

// Stats are counts of one lane.
type Stats struct {
	Sent      uint64 // items handed out
	SentBytes uint64 // without lengths
	Dropped   uint64 // matching items that will not be sent
}

// NewLane returns an empty lane. At most window items and bytes are unconsumed at any time; keys select what matches, nil
// selects everything.
func NewLane(policy Policy, queue, window Limits, keys map[uint64]struct{}) *Lane {
	return &Lane{policy: policy, limit: queue, granted: window, filter: keys}
}

// Stats returns the counts so far.
func (l *Lane) Stats() Stats { return l.stats }

// Queued returns the number of items that wait, and their bytes.
func (l *Lane) Queued() (items, bytes int) { return l.items, l.bytes }

// Offer queues the run's items from index from on. next is the index of the first item that it did not deal with: the
// run's length, except when the policy is Block or Disconnect and there was no room. Matching items before index queued
// went into the queue.
func (l *Lane) Offer(r *Run, from int) (next, queued int) {
	if l.filter == nil {
		return l.offerRange(r, from, r.Len())
	}
	chosen := r.choose(from, l.filter)
	next, queued = l.offerRange(chosen, 0, chosen.Len())
	index := func(i int) int {
		if i == chosen.Len() {
			return r.Len()
		}
		return int(chosen.Number(i) - r.Number(0))
	}
	return index(next), index(queued)
}

// Refuse drops the run's items from index from on: they were offered, and there will be no room for them.
func (l *Lane) Refuse(r *Run, from int) {
	if l.filter != nil {
		r, from = r.choose(from, l.filter), 0
	}
	l.drop(r, from, r.Len())
}

// Yield has items that find no room dropped from now on, and none left to the caller.
func (l *Lane) Yield() {
	if l.policy == Disconnect || l.policy == Block {
		l.policy = DropNewest
	}
}

// Seed queues the run's items from index from on, whether there is room or not: history for a consumer that has just come.
func (l *Lane) Seed(r *Run, from int) {
	if l.filter != nil {
		r, from = r.choose(from, l.filter), 0
	}
	l.push(r, from, r.Len())
}

// offerRange queues items that match, as the policy says. The results are as those of Offer.
func (l *Lane) offerRange(r *Run, i, j int) (next, queued int) {
	if l.policy == DropOldest {
		l.push(r, i, j)
		l.shed()
		return j, j
	}
	k := l.fit(r, i, j)
	l.push(r, i, k)
	if l.policy == DropNewest {
		l.drop(r, k, j)
		return j, k
	}
	return k, k
}

// drop counts items that come behind all that is queued as lost.
func (l *Lane) drop(r *Run, i, j int) {
	if i == j {
		return
	}
	l.stats.Dropped += uint64(j - i)
	l.lost += uint64(j - i)
	l.lastly = r.Number(j - 1)
}

// HasRoom reports whether another item would find room.
func (l *Lane) HasRoom() bool {
	return l.items == 0 || l.items < l.limit.Items && l.bytes < l.limit.Bytes
}

// fit returns how far the items from i to before j fit.
func (l *Lane) fit(r *Run, i, j int) int {
	room := l.limit.Items - l.items
	if room <= 0 {
		return i
	}
	j = min(j, i+room)
	if l.bytes+r.size(i, j) <= l.limit.Bytes {
		return j
	}
	// Item k fits if what is queued before it does not fill the queue.
	n := sort.Search(j-i, func(n int) bool { return l.items+n > 0 && l.bytes+r.size(i, i+n) >= l.limit.Bytes })
	return i + n
}

func (l *Lane) push(r *Run, i, j int) {
	if i == j {
		return
	}
	l.items += j - i
	l.bytes += r.size(i, j)
	if n := len(l.queue); n > l.head && l.lost == 0 {
		if last := &l.queue[n-1]; last.run == r && last.to == i {
			last.to = j
			return
		}
	}
	if l.head > 0 && len(l.queue) == cap(l.queue) {
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
	l.queue = append(l.queue, span{run: r, from: i, to: j, lost: l.lost})
	l.lost = 0
}

// shed drops the oldest items until the rest fits. At least one item stays.
func (l *Lane) shed() {
	for l.items > 1 && (l.items > l.limit.Items || l.bytes > l.limit.Bytes) {
		s := &l.queue[l.head]
		n := min(max(1, l.items-l.limit.Items), s.to-s.from, l.items-1)
		lost := s.lost + uint64(n)
		l.stats.Dropped += uint64(n)
		last := s.run.Number(s.from + n - 1)
		l.advance(s, n)
		// What was lost is reported with whatever comes next.
		if l.head < len(l.queue) {
			l.queue[l.head].lost += lost
		} else {
			l.lost += lost
			l.lastly = last
		}
	}
}

// advance takes n items off the front span.
func (l *Lane) advance(s *span, n int) {
	l.items -= n
	l.bytes -= s.run.size(s.from, s.from+n)
	s.from += n
	s.lost = 0
	if s.from < s.to {
		return
	}
	*s = span{}
	l.head++
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
		if cap(l.queue) > 64 {
			l.queue = nil
		}
	}
}

// Consumed says that the consumer has consumed so many more items and bytes, lengths included, and so may be sent more.
func (l *Lane) Consumed(items, bytes int) {
	l.flying.Items = max(0, l.flying.Items-items)
	l.flying.Bytes = max(0, l.flying.Bytes-bytes)
}

// Ready reports whether Take would return something.
func (l *Lane) Ready() bool {
	if l.items == 0 {
		return l.lost > 0
	}
	return l.flying.Items < l.granted.Items && (l.flying.Bytes < l.granted.Bytes || l.flying.Items == 0)
}

// Piece is a range of a run's items.
type Piece struct {
	Run      *Run
	From, To int
}

// Bytes returns the items as they are on the wire.
func (p Piece) Bytes() []byte { return p.Run.Bytes(p.From, p.To) }

// Batch is what is sent at once.
type Batch struct {
	Lost    uint64 // matching items that were dropped before the batch
	Last    uint64 // number of the last item in it, or of the last that was dropped when it has none
	Items   int
	Bytes   int // with lengths
	Payload int // without
}

// Take takes off the queue what credit allows, up to about max bytes, appends its pieces to dst and returns them with a
// description. It reports false when there is nothing.
func (l *Lane) Take(dst []Piece, max int) ([]Piece, Batch, bool) {
	var b Batch
	if l.items == 0 {
		if l.lost == 0 {
			return dst, b, false
		}
		b.Lost, b.Last = l.lost, l.lastly
		l.lost = 0
		return dst, b, true
	}
	for l.items > 0 && b.Bytes < max && l.Ready() {
		s := &l.queue[l.head]
		if s.lost > 0 && b.Items > 0 {
			break // is told before the batch that it is in front of
		}
		n := l.affordable(s, max-b.Bytes)
		size := s.run.size(s.from, s.from+n)
		b.Lost += s.lost
		b.Last = s.run.Number(s.from + n - 1)
		b.Items += n
		b.Bytes += size
		b.Payload += s.run.Payload(s.from, s.from+n)
		dst = append(dst, Piece{s.run, s.from, s.from + n})
		l.flying.Items += n
		l.flying.Bytes += size
		l.advance(s, n)
	}
	if b.Items == 0 {
		return dst, b, false
	}
	l.stats.Sent += uint64(b.Items)
	l.stats.SentBytes += uint64(b.Payload)
	return dst, b, true
}

// affordable returns how many items of the span credit and max bytes allow, at least one.
func (l *Lane) affordable(s *span, max int) int {
	n := min(s.to-s.from, l.granted.Items-l.flying.Items)
	max = min(max, l.granted.Bytes-l.flying.Bytes)
	if s.run.size(s.from, s.from+n) <= max {
		return n
	}
	// The first item that reaches the limit is the last one.
	return 1 + sort.Search(n-1, func(k int) bool { return s.run.size(s.from, s.from+k+1) >= max })
}

// Abandon drops all that is queued. It returns how many were dropped and never told, these included, up to which number.
func (l *Lane) Abandon() (lost, last uint64) {
	lost, last = l.lost, l.lastly
	for i := len(l.queue) - 1; i >= l.head; i-- {
		s := l.queue[i]
		if lost == 0 {
			last = s.run.Number(s.to - 1)
		}
		lost += s.lost + uint64(s.to-s.from)
	}
	l.stats.Dropped += uint64(l.items)
	l.queue, l.head, l.items, l.bytes, l.lost = nil, 0, 0, 0, 0
	return lost, last
}
