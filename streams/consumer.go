package streams

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/streams/internal/engine"
)

// Consumer receives the items of all producers of a stream. All methods are safe for concurrent use; several goroutines may
// receive, and share the items.
type Consumer[T any] struct {
	stream[T]
	src   *engine.Source
	onGap func(Gap)
	began time.Time

	life    context.Context // ends when Close is called
	end     context.CancelFunc
	closing sync.Once
	closed  chan struct{} // closed when Close has ended

	mu      sync.Mutex // held while an item is taken
	scratch T          // so that no item is allocated
}

// Consume makes this node a consumer of a stream: it connects to all producers of it that it knows of or will get to know.
// It returns at once. A consumer sees what is sent from its subscription to each producer on, and what they keep as
// [History]. Each Consumer gets every item. Close it when done.
func Consume[T any](net *mosaik.Network, opts ...Option) (*Consumer[T], error) {
	s, err := collect(consuming, true, opts)
	if err != nil {
		return nil, err
	}
	return consume[T](net, s)
}

func consume[T any](net *mosaik.Network, s *settings) (*Consumer[T], error) {
	st, err := open[T](net, s)
	if err != nil {
		return nil, err
	}
	backoff, err := s.backoff.withDefaults()
	if err != nil {
		return nil, err
	}
	src, err := st.svc.Consume(engine.SourceConfig{
		Stream:      st.id,
		Name:        st.name,
		Codec:       st.codec.Name(),
		Fingerprint: st.codec.Fingerprint(),
		Window:      s.limits(DefaultWindowBytes),
		Keys:        s.keys,
		Gate:        s.gate(),
		Online:      s.onlineRule(0),
		Backoff:     engine.Backoff(backoff),
		RemoteOnly:  s.remoteOnly,
	})
	if err != nil {
		return nil, fmt.Errorf("streams: consume %q: %w", st.name, public(err))
	}
	life, end := context.WithCancel(context.Background())
	return &Consumer[T]{
		stream: st, src: src, onGap: s.onGap, began: time.Now(),
		life: life, end: end, closed: make(chan struct{}),
	}, nil
}

// Name returns the stream's name: what [Named] set, or the item type.
func (c *Consumer[T]) Name() string { return c.name }

// StreamID returns the id that the name stands for.
func (c *Consumer[T]) StreamID() id.ID { return c.id }

// Recv returns the next item, and waits for it until ctx ends. After Close it fails with [ErrClosed]; when the network is
// closed, it does once all that has arrived is taken. Items of one producer come in their order; those of several are
// interleaved.
func (c *Consumer[T]) Recv(ctx context.Context) (v T, err error) {
	_, err = c.wait(ctx, &v)
	return v, err
}

// RecvFrom is Recv and also tells who has produced the item.
func (c *Consumer[T]) RecvFrom(ctx context.Context) (v T, from PeerID, err error) {
	in, err := c.wait(ctx, &v)
	if in != nil {
		from = in.Producer()
	}
	return v, from, err
}

// TryRecv returns the next item if there is one. Its errors are those of Recv.
func (c *Consumer[T]) TryRecv() (v T, ok bool, err error) {
	in, err := c.take(&v)
	return v, in != nil, err
}

// All returns the items as they come, until ctx or the consumer ends. Breaking off loses nothing: what was not taken is
// there for the next call.
func (c *Consumer[T]) All(ctx context.Context) iter.Seq[T] {
	return func(yield func(T) bool) {
		for {
			v, err := c.Recv(ctx)
			if err != nil || !yield(v) {
				return
			}
		}
	}
}

// wait waits for the next item and takes it.
func (c *Consumer[T]) wait(ctx context.Context, out *T) (*engine.Inlet, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		in, err := c.take(out)
		if in != nil || err != nil {
			return in, err
		}
		if err := c.src.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

// take takes the next item, if there is one, and reports the gaps before it. It returns where the item came from.
func (c *Consumer[T]) take(out *T) (*engine.Inlet, error) {
	for {
		in, gap, err := c.next(out)
		if gap.Cause == 0 {
			return in, err
		}
		if c.onGap != nil {
			c.onGap(gapOf(gap))
		}
	}
}

// next takes the next item or gap.
func (c *Consumer[T]) next(out *T) (*engine.Inlet, engine.Gap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, in, gap, err := c.src.Next()
	if in == nil {
		return nil, gap, public(err)
	}
	err = c.codec.Decode(item, &c.scratch)
	if err == nil {
		*out = c.scratch
	}
	if err != nil || !c.flat {
		var zero T
		c.scratch = zero
	}
	if err != nil {
		in.Refuse(err)
		return nil, engine.Gap{Producer: in.Producer(), Lost: 1, Exact: true, Cause: engine.Undecodable}, nil
	}
	return in, gap, nil
}

// When returns what can be waited for.
func (c *Consumer[T]) When() *When { return &When{c.src, c.life} }

// IsOnline reports whether the online condition is met, see [OnlineWhen].
func (c *Consumer[T]) IsOnline() bool { return c.src.IsOnline() }

// Producers returns the live channels from producers. Producers that refuse this consumer, or that it refuses, are in
// [Consumer.Status].
func (c *Consumer[T]) Producers() []Channel { return channels(c.src.Channels()) }

// Stats returns the counts of the consumer.
func (c *Consumer[T]) Stats() Stats {
	c.mu.Lock()
	items, bytes, lost := c.src.Taken()
	c.mu.Unlock()
	return Stats{
		Items: items, Bytes: bytes, Dropped: lost,
		Peers: len(c.src.Channels()), Uptime: time.Since(c.began), Connected: true,
	}
}

// Close ends the consumer: its producers are told, and what it has not taken is dropped. It is idempotent, and every call
// returns after the end.
func (c *Consumer[T]) Close() error {
	c.closing.Do(func() {
		c.end()
		c.svc.ReleaseSource(c.src)
		close(c.closed)
	})
	<-c.closed
	return nil
}
