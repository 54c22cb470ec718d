package streams

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/streams/internal/engine"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
	"github.com/mosaik-go/mosaik/tickets"
)

// Policy says what a producer does when a consumer's queue is full, see [OnLag].
type Policy uint8

const (
	// Disconnect ends the subscription with the reason [TooSlow]. The consumer may come back after a pause and is told
	// what it missed. This is the default.
	Disconnect Policy = Policy(fan.Disconnect)
	// DropNewest drops the items that find no room.
	DropNewest Policy = Policy(fan.DropNewest)
	// DropOldest drops the items that have waited longest, in favour of new ones.
	DropOldest Policy = Policy(fan.DropOldest)
	// Block makes the producer wait: it sends as fast as its slowest consumer reads.
	Block Policy = Policy(fan.Block)
)

// String returns disconnect, drop-newest, drop-oldest or block.
func (p Policy) String() string {
	switch p {
	case Disconnect:
		return "disconnect"
	case DropNewest:
		return "drop-newest"
	case DropOldest:
		return "drop-oldest"
	case Block:
		return "block"
	default:
		return fmt.Sprintf("unknown policy %d", uint8(p))
	}
}

// Defaults of options.
const (
	// DefaultBufferSize is the default of [BufferSize].
	DefaultBufferSize = 16384
	// DefaultQueueBytes is the default of [BufferBytes] for producers.
	DefaultQueueBytes = 16 << 20
	// DefaultWindowBytes is the default of [BufferBytes] for consumers.
	DefaultWindowBytes = 1 << 20
)

// Backoff is how the time between attempts of a consumer to subscribe to a producer grows. A subscription that lived for
// five seconds starts it afresh, and so does a change of the producer's entry. Zero fields mean their defaults.
type Backoff struct {
	Initial    time.Duration // after the first failure; default 500 ms
	Multiplier float64       // default 1.5
	Jitter     float64       // each pause is random, within ± this share of itself; default 0.5; negative: none
	Max        time.Duration // default 60 s
	GiveUp     time.Duration // after failing for so long, wait for a change of the producer's entry; default 300 s; negative: never
}

func (b Backoff) withDefaults() (Backoff, error) {
	if b.Initial == 0 {
		b.Initial = 500 * time.Millisecond
	}
	if b.Multiplier == 0 {
		b.Multiplier = 1.5
	}
	if b.Jitter == 0 {
		b.Jitter = 0.5
	}
	b.Jitter = max(0, b.Jitter)
	if b.Max == 0 {
		b.Max = max(time.Minute, b.Initial)
	}
	if b.GiveUp == 0 {
		b.GiveUp = 5 * time.Minute
	}
	switch {
	case b.Initial < time.Millisecond:
		return b, fmt.Errorf("streams: WithBackoff: Initial is %v, must be at least 1ms", b.Initial)
	case b.Multiplier < 1:
		return b, fmt.Errorf("streams: WithBackoff: Multiplier is %v, must be at least 1", b.Multiplier)
	case b.Jitter > 1:
		return b, fmt.Errorf("streams: WithBackoff: Jitter is %v, must be at most 1", b.Jitter)
	case b.Max < b.Initial:
		return b, fmt.Errorf("streams: WithBackoff: Max is %v, must be at least Initial, which is %v", b.Max, b.Initial)
	}
	return b, nil
}

// side says who an option is for.
type side uint8

const (
	producing side = 1 << iota
	consuming
	both = producing | consuming
)

func (s side) String() string {
	if s == producing {
		return "producers"
	}
	return "consumers"
}

// settings is what options fill in.
type settings struct {
	name         string
	codec        any // a codec.Codec[T], or nil
	key          any // a func(T) string, or nil
	items, bytes int // zero: default
	maxConsumers int
	require      []func(discovery.PeerInfo) bool
	validators   []tickets.Validator
	online       []Condition
	onlineSet    bool
	lag          Policy
	history      int
	keys         []string
	onGap        func(Gap)
	backoff      Backoff
	remoteOnly   bool
	configured   bool // something besides the name and the codec was set
}

// Option changes how [Produce], [Consume] or [Define] works. An option that is not for the side it is given to is an
// error; in a definition it is ignored for the other side.
type Option struct {
	name  string
	sides side
	apply func(*settings) error
}

func option(name string, sides side, apply func(*settings) error) Option {
	return Option{name, sides, func(s *settings) error {
		s.configured = true
		if err := apply(s); err != nil {
			return fmt.Errorf("streams: %s: %w", name, err)
		}
		return nil
	}}
}

// identity is an option that says what the stream is, not how it works.
func identity(name string, apply func(*settings) error) Option {
	return Option{name, both, func(s *settings) error {
		if err := apply(s); err != nil {
			return fmt.Errorf("streams: %s: %w", name, err)
		}
		return nil
	}}
}

// Named sets the stream's name. Streams of one name are one stream; text of exactly 64 hexadecimal digits is taken as
// the id itself. The default name is that of the item type with its package path.
func Named(name string) Option {
	return identity("Named", func(s *settings) error {
		if name == "" {
			return errors.New("the name is empty")
		}
		s.name = name
		return nil
	})
}

// WithCodec sets how items are encoded. The default is [codec.For]. Both ends must use the same codec and the same type;
// those that do not refuse each other with [SchemaMismatch].
func WithCodec[T any](c codec.Codec[T]) Option {
	return identity("WithCodec", func(s *settings) error {
		if c == nil {
			return errors.New("the codec is nil")
		}
		s.codec = c
		return nil
	})
}

// BufferSize bounds queues in items. For a producer: its input queue, the queue of each consumer, and what a consumer may
// have received and not taken. For a consumer: what may wait there of each producer. The smaller of both ends' counts. The
// default is 16,384.
func BufferSize(n int) Option {
	return option("BufferSize", both, func(s *settings) error {
		if n < 1 || n > wire.MaxWindow {
			return fmt.Errorf("%d is not between 1 and %d", n, wire.MaxWindow)
		}
		s.items = n
		return nil
	})
}

// BufferBytes bounds the queues that [BufferSize] bounds in bytes, too, except for the input queue, which has 1 MiB. An
// item always fits into an empty queue. The default is 16 MiB for producers and 1 MiB for consumers.
func BufferBytes(n int) Option {
	return option("BufferBytes", both, func(s *settings) error {
		if n < 1 || n > wire.MaxWindow {
			return fmt.Errorf("%d is not between 1 and %d", n, wire.MaxWindow)
		}
		s.bytes = n
		return nil
	})
}

// MaxConsumers bounds a producer's consumers; more are refused with [NoCapacity], and told when a place is free. The
// default is no bound.
func MaxConsumers(n int) Option {
	return option("MaxConsumers", producing, func(s *settings) error {
		if n < 1 {
			return fmt.Errorf("%d is less than 1", n)
		}
		s.maxConsumers = n
		return nil
	})
}

// Require says which peers may be at the other end: the consumers of a producer, the producers of a consumer. Repeated
// use adds up, and all must hold. It is judged by the peer's current entry and round-trip time: at the beginning, whenever
// the entry changes, and about once a second. fn must be quick and must not call back into the stream.
func Require(fn func(discovery.PeerInfo) bool) Option {
	return option("Require", both, func(s *settings) error {
		if fn == nil {
			return errors.New("the function is nil")
		}
		s.require = append(s.require, fn)
		return nil
	})
}

// RequireTicket lets only peers be at the other end that carry a ticket which the validator accepts. Repeated use adds up:
// all validators must accept. A channel ends when the ticket expires or is withdrawn and no other has taken its place; a
// ticket that is renewed in time interrupts nothing.
func RequireTicket(v tickets.Validator) Option {
	return option("RequireTicket", both, func(s *settings) error {
		if v == nil {
			return errors.New("the validator is nil")
		}
		s.validators = append(s.validators, v)
		return nil
	})
}

// OnlineWhen sets the online condition, see [Condition]. The default is AtLeast(1) for producers, which so wait for a
// consumer before they send, and AtLeast(0) for consumers.
func OnlineWhen(conditions ...Condition) Option {
	return option("OnlineWhen", both, func(s *settings) error {
		s.online = slices.Clone(conditions)
		s.onlineSet = true
		return nil
	})
}

// OnLag sets what happens when a consumer's queue is full: [Disconnect], [DropNewest], [DropOldest] or [Block].
func OnLag(p Policy) Option {
	return option("OnLag", producing, func(s *settings) error {
		if p > Block {
			return fmt.Errorf("unknown policy %d", p)
		}
		s.lag = p
		return nil
	})
}

// History makes a producer keep its last n items. A consumer that comes gets those first, and one that returns gets what it
// missed of them, so a short interruption leaves no gap. The default is none.
func History(n int) Option {
	return option("History", producing, func(s *settings) error {
		if n < 0 || n > wire.MaxWindow/2 {
			return fmt.Errorf("%d is not between 0 and %d", n, wire.MaxWindow/2)
		}
		s.history = n
		return nil
	})
}

// WithKey gives items keys, by which consumers can choose, see [Keys]. The producer applies it in Send.
func WithKey[T any](key func(T) string) Option {
	return option("WithKey", producing, func(s *settings) error {
		if key == nil {
			return errors.New("the function is nil")
		}
		s.key = key
		return nil
	})
}

// Keys makes a consumer receive only items with one of the keys; others do not cross the network. Producers without
// [WithKey] refuse it with [NoKeys]. At most 256 keys of 256 bytes.
func Keys(keys ...string) Option {
	return option("Keys", consuming, func(s *settings) error {
		s.keys = append(s.keys, keys...)
		slices.Sort(s.keys)
		s.keys = slices.Compact(s.keys)
		if len(s.keys) == 0 || len(s.keys) > wire.MaxKeys {
			return fmt.Errorf("%d keys, want 1 to %d", len(s.keys), wire.MaxKeys)
		}
		for _, k := range s.keys {
			if len(k) > wire.MaxKey {
				return fmt.Errorf("a key of %d bytes, at most %d allowed", len(k), wire.MaxKey)
			}
		}
		return nil
	})
}

// OnGap sets what is called when items are missing. It is called by Recv, TryRecv and All, in their goroutine, before they
// return the item behind the gap. It must not receive from the same consumer.
func OnGap(fn func(Gap)) Option {
	return option("OnGap", consuming, func(s *settings) error {
		s.onGap = fn
		return nil
	})
}

// WithBackoff sets how a consumer repeats attempts to subscribe.
func WithBackoff(b Backoff) Option {
	return option("WithBackoff", consuming, func(s *settings) error {
		s.backoff = b
		return nil
	})
}

// RemoteOnly makes a consumer ignore a producer on its own node. By default it receives from it, without a connection.
func RemoteOnly() Option {
	return option("RemoteOnly", consuming, func(s *settings) error {
		s.remoteOnly = true
		return nil
	})
}

// WhenProducing groups options of a definition that are only for its producers.
func WhenProducing(opts ...Option) Option { return forSide(producing, opts) }

// WhenConsuming groups options of a definition that are only for its consumers.
func WhenConsuming(opts ...Option) Option { return forSide(consuming, opts) }

func forSide(who side, opts []Option) Option {
	return Option{name: "options for " + who.String(), sides: who, apply: func(s *settings) error {
		for _, o := range opts {
			if o.sides&who == 0 {
				return fmt.Errorf("streams: %s is not for %v", o.name, who)
			}
			if err := o.apply(s); err != nil {
				return err
			}
		}
		return nil
	}}
}

// collect applies options for one side. Those for the other are an error, or left out.
func collect(who side, strict bool, opts []Option) (*settings, error) {
	s := new(settings)
	for _, o := range opts {
		if o.apply == nil {
			return nil, errors.New("streams: the zero Option")
		}
		if o.sides&who == 0 {
			if strict {
				return nil, fmt.Errorf("streams: %s is not for %v", o.name, who)
			}
			continue
		}
		if err := o.apply(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *settings) gate() engine.Gate {
	return engine.Gate{Require: s.require, Validators: s.validators}
}

func (s *settings) onlineRule(least int) engine.Online {
	conditions := s.online
	if !s.onlineSet {
		conditions = []Condition{AtLeast(least)}
	}
	return func(peers []discovery.PeerInfo) bool { return met(conditions, peers) }
}

func (s *settings) limits(bytes int) fan.Limits {
	l := fan.Limits{Items: DefaultBufferSize, Bytes: bytes}
	if s.items > 0 {
		l.Items = s.items
	}
	if s.bytes > 0 {
		l.Bytes = s.bytes
	}
	return l
}
