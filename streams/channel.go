package streams

import (
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/streams/internal/engine"
)

// PeerID is the identity of a node, see [id.PeerID].
type PeerID = id.PeerID

// Channel is one subscription, from its acceptance to its end. A consumer that reconnects has a new one. It can be kept;
// all methods are safe for concurrent use.
type Channel struct{ c *engine.Channel }

func channels(in []*engine.Channel) []Channel {
	out := make([]Channel, len(in))
	for i, c := range in {
		out[i] = Channel{c}
	}
	return out
}

// StreamID returns the id of the stream.
func (c Channel) StreamID() id.ID { return c.c.Stream }

// Producer and Consumer return who is at the ends.
func (c Channel) Producer() PeerID { return c.c.Producer }
func (c Channel) Consumer() PeerID { return c.c.Consumer }

// Number tells this channel from others between the same two nodes, such as those of two consumers on one node. Both ends
// show the same number. Later channels may have it again when the nodes have been disconnected.
func (c Channel) Number() uint32 { return c.c.Number }

// Local reports whether both ends are on this node.
func (c Channel) Local() bool { return c.c.Local }

// Keys returns the keys that the consumer asked for, nil for everything. Do not change the slice.
func (c Channel) Keys() []string { return c.c.Keys }

// Peer returns what the catalog says of the node at the other end, at the latest while the channel lived.
func (c Channel) Peer() discovery.PeerInfo { return c.c.Peer() }

// IsConnected reports whether the channel has not ended.
func (c Channel) IsConnected() bool { return c.c.Live() }

// Done is closed when the channel has ended.
func (c Channel) Done() <-chan struct{} { return c.c.Ended() }

// Reason returns why the channel ended, in a code and in words; zero while it lives.
func (c Channel) Reason() (Reason, string) {
	code, detail := c.c.Reason()
	return Reason(code), detail
}

// Stats returns the counts of this channel: what was sent into it, on the producer's side, or has arrived through it, on the
// consumer's.
func (c Channel) Stats() Stats {
	s := Stats{Items: c.c.Items(), Bytes: c.c.Bytes(), Dropped: c.c.Dropped(), Queued: c.c.Queued()}
	if up, ok := c.c.Uptime(); ok {
		s.Uptime, s.Connected = up, true
	}
	return s
}

// String describes the channel in a line.
func (c Channel) String() string {
	state := "connected"
	if code, detail := c.Reason(); code != 0 {
		state = fmt.Sprintf("ended (%v", code)
		if detail != "" {
			state += ": " + detail
		}
		state += ")"
	}
	s := c.Stats()
	if s.Connected {
		state += " for " + s.Uptime.Round(time.Millisecond).String()
	}
	if keys := c.Keys(); len(keys) > 0 {
		state += fmt.Sprintf(", %d keys", len(keys))
	}
	return fmt.Sprintf("%s to %s (%d), %s, %s", c.Producer().Short(), c.Consumer().Short(), c.Number(), state, s.counts())
}

// Stats are counts of a producer, a consumer or a channel.
type Stats struct {
	// Items and Bytes count, for a producer, what the program has sent; for a consumer, what the program has taken; for
	// a channel, what went through it. Bytes are encoded items without any framing.
	Items, Bytes uint64
	// Delivered is, for a producer, how many items were handed to the connections of consumers, once for each.
	Delivered uint64
	// Dropped is how many items a consumer will not get: for a producer, of all its consumers together, while they were
	// subscribed; for a consumer, those that it was told of as gaps and has reached.
	Dropped uint64
	// Undelivered is, for a producer, how many items went into no consumer's queue.
	Undelivered uint64
	// Queued is, for a channel on the producer's side, how many items wait for the consumer.
	Queued int
	// Peers is the number of live channels of a producer or consumer.
	Peers int
	// Uptime is how long the producer or consumer exists, or how long a channel is connected.
	Uptime time.Duration
	// Connected reports whether a channel has not ended; for producers and consumers it is true.
	Connected bool
}

// String returns the counts in words, for people.
func (s Stats) String() string {
	up := "not connected"
	if s.Connected {
		up = s.Uptime.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("uptime: %s, %s", up, s.counts())
}

func (s Stats) counts() string {
	out := fmt.Sprintf("items: %d, bytes: %s", s.Items, humanBytes(s.Bytes))
	if s.Dropped > 0 {
		out += fmt.Sprintf(", dropped: %d", s.Dropped)
	}
	if s.Undelivered > 0 {
		out += fmt.Sprintf(", undelivered: %d", s.Undelivered)
	}
	if s.Queued > 0 {
		out += fmt.Sprintf(", queued: %d", s.Queued)
	}
	return out
}

func humanBytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 3 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[prefix])
}
