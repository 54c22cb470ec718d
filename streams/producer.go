package streams

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/streams/internal/engine"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
)

// Producer is a handle to a stream that this node produces. All methods are safe for concurrent use.
type Producer[T any] struct {
	*production[T]
	borrowed bool
	life     context.Context // ends when Close is called
	end      context.CancelFunc
	closing  sync.Once
	closed   chan struct{} // closed when Close has ended
}

// production is what all handles to a producer share.
type production[T any] struct {
	stream[T]
	sink  *engine.Sink
	key   func(T) string // nil: no keys
	began time.Time

	scratch T // guarded by the sink's lock, between Begin and Commit: so that no item is allocated
}

// Produce makes this node a producer of a stream and returns a handle. The stream is announced to the network before
// Produce returns; consumers connect by themselves.
//
// If this node produces the stream already, a call without options besides [Named] and [WithCodec] returns another handle
// to the same producer; with further options it fails with an [*ExistsError], because the settings of the first cannot be
// changed. If the item type or the codec differ it fails with [ErrTypeMismatch]. Close the handle when done with it.
func Produce[T any](net *mosaik.Network, opts ...Option) (*Producer[T], error) {
	s, err := collect(producing, true, opts)
	if err != nil {
		return nil, err
	}
	return produce[T](net, s, !s.configured)
}

// produce is Produce; share says to return what is there.
func produce[T any](net *mosaik.Network, s *settings, share bool) (*Producer[T], error) {
	st, err := open[T](net, s)
	if err != nil {
		return nil, err
	}
	p := &production[T]{stream: st, began: time.Now()}
	if s.key != nil {
		var ok bool
		if p.key, ok = s.key.(func(T) string); !ok {
			return nil, fmt.Errorf("%w: WithKey has a %T, items are %v", ErrTypeMismatch, s.key, reflect.TypeFor[T]())
		}
	}
	if !share {
		if _, owner, there := st.svc.Borrow(st.id); there {
			return nil, exists[T](owner, st.codec)
		}
	}
	cfg := engine.SinkConfig{
		Stream:       st.id,
		Name:         st.name,
		Codec:        st.codec.Name(),
		Fingerprint:  st.codec.Fingerprint(),
		Policy:       fan.Policy(s.lag),
		Queue:        s.limits(DefaultQueueBytes),
		MaxConsumers: s.maxConsumers,
		Gate:         s.gate(),
		Online:       s.onlineRule(1),
		History:      s.history,
		Keyed:        p.key != nil,
	}
	sink, owner, existed, err := st.svc.Produce(cfg, func(k *engine.Sink) any {
		p.sink = k
		return p
	})
	if err != nil {
		return nil, fmt.Errorf("streams: produce %q: %w", st.name, public(err))
	}
	shared, same := owner.(*production[T])
	if same {
		same = sameCodec(shared.codec, st.codec)
	}
	switch {
	case !same:
		err = fmt.Errorf("%w: %q", ErrTypeMismatch, st.name)
	case existed && !share: // made by somebody else a moment ago
		err = exists[T](owner, st.codec)
	}
	if err != nil {
		st.svc.ReleaseSink(context.Background(), sink)
		return nil, err
	}
	return newProducer(shared, false), nil
}

func newProducer[T any](p *production[T], borrowed bool) *Producer[T] {
	life, end := context.WithCancel(context.Background())
	return &Producer[T]{production: p, borrowed: borrowed, life: life, end: end, closed: make(chan struct{})}
}

func sameCodec[T any](a, b codec.Codec[T]) bool {
	return a.Name() == b.Name() && a.Fingerprint() == b.Fingerprint()
}

func exists[T any](owner any, c codec.Codec[T]) error {
	p, ok := owner.(*production[T])
	if !ok || !sameCodec(p.codec, c) {
		return fmt.Errorf("%w: %v", ErrTypeMismatch, reflect.TypeOf(owner))
	}
	return &ExistsError[T]{newProducer(p, true)}
}

// Name returns the stream's name: what [Named] set, or the item type.
func (p *Producer[T]) Name() string { return p.name }

// StreamID returns the id that the name stands for.
func (p *Producer[T]) StreamID() id.ID { return p.id }

// Send sends an item to all consumers. It waits until the producer is online and its input queue has room, or until ctx
// ends. When it returns nil, the item is queued for every consumer that is subscribed at that moment; that says nothing
// about its arrival. Otherwise the item was not sent, and the error is the cause of ctx's end, [ErrClosed], [ErrTooLarge]
// or [ErrEncode].
func (p *Producer[T]) Send(ctx context.Context, v T) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	buf, err := p.begin()
	if errors.Is(err, engine.ErrOffline) || errors.Is(err, engine.ErrFull) {
		ctx, done := within(ctx, p.life)
		buf, err = p.sink.Begin(ctx, true)
		done()
	}
	if err != nil {
		return public(err)
	}
	return p.commit(buf, v)
}

// TrySend is Send without waiting: it fails with [ErrOffline] or [ErrFull] instead.
func (p *Producer[T]) TrySend(v T) error {
	buf, err := p.begin()
	if err != nil {
		return public(err)
	}
	return p.commit(buf, v)
}

func (p *Producer[T]) begin() ([]byte, error) {
	if p.life.Err() != nil {
		return nil, ErrClosed
	}
	return p.sink.Begin(p.life, false)
}

// commit encodes the item behind what is pending, with the lock that Begin took, and gives that back.
func (p *production[T]) commit(buf []byte, v T) error {
	held := true
	defer func() {
		if held { // an encoder failed or panicked
			p.sink.Cancel()
		}
	}()
	key := ""
	if p.key != nil {
		key = p.key(v)
	}
	p.scratch = v
	buf, err := p.codec.Append(buf, &p.scratch)
	if !p.flat {
		var zero T
		p.scratch = zero
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEncode, err)
	}
	held = false
	return public(p.sink.Commit(buf, key))
}

// Undelivered returns the items that go into no consumer's queue from now on: there was no consumer, none wanted the item's
// key, or all queues that did were full. The sequence waits for the next one and ends when ctx or the producer does. It
// holds as many as [BufferSize]; of more the oldest are dropped. A subscription takes memory until ctx ends.
func (p *Producer[T]) Undelivered(ctx context.Context) iter.Seq[T] {
	u := p.sink.Undelivered()
	context.AfterFunc(ctx, u.Close)
	return func(yield func(T) bool) {
		for {
			framed, ok := u.Next(ctx)
			if !ok {
				return
			}
			item, _, ok := fan.Cut(framed)
			var v T
			if ok && p.codec.Decode(item, &v) == nil && !yield(v) {
				return
			}
		}
	}
}

// When returns what can be waited for.
func (p *Producer[T]) When() *When { return &When{p.sink, p.life} }

// IsOnline reports whether the online condition is met, see [OnlineWhen].
func (p *Producer[T]) IsOnline() bool { return p.sink.IsOnline() && p.life.Err() == nil }

// Consumers returns the live channels to consumers.
func (p *Producer[T]) Consumers() []Channel { return channels(p.sink.Channels()) }

// Stats returns the counts of the producer, all handles together.
func (p *Producer[T]) Stats() Stats {
	s := p.sink.Stats()
	return Stats{
		Items: s.Items, Bytes: s.Bytes, Delivered: s.Sent, Dropped: s.Dropped, Undelivered: s.Nowhere,
		Peers: s.Consumers, Uptime: time.Since(p.began), Connected: true,
	}
}

// closeGrace is how long the last Close waits for consumers to take what is queued for them.
const closeGrace = 2 * time.Second

// Close gives up the handle; its methods fail with [ErrClosed] from then on. The last one to be closed ends the producer:
// what is queued is sent, for two seconds at most, the consumers are told that it is over and what they did not get, and
// the stream is withdrawn from the node's entry. Close is idempotent, and every call returns after the end.
func (p *Producer[T]) Close() error {
	p.closing.Do(func() {
		p.end()
		if !p.borrowed {
			ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
			defer cancel()
			p.svc.ReleaseSink(ctx, p.sink)
		}
		close(p.closed)
	})
	<-p.closed
	return nil
}
