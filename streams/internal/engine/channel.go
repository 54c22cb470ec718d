package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// Channel is one subscription, as either side sees it, from its beginning to its end.
type Channel struct {
	Stream   id.ID
	Producer id.PeerID
	Consumer id.PeerID
	Keys     []string
	Local    bool   // both ends are on this node
	Number   uint32 // tells channels between two nodes apart
	Since    time.Time

	info    atomic.Pointer[discovery.PeerInfo] // of the other side; what the catalog says now
	items   atomic.Uint64
	bytes   atomic.Uint64
	dropped atomic.Uint64
	queued  func() int // on the producer's side

	mu     sync.Mutex
	ended  chan struct{}
	code   link.Code
	detail string
	until  time.Time
}

func newChannel(stream id.ID, producer, consumer id.PeerID, number uint32, keys []string, info discovery.PeerInfo) *Channel {
	c := &Channel{
		Stream: stream, Producer: producer, Consumer: consumer, Keys: keys, Number: number, Local: producer == consumer,
		Since: time.Now(), ended: make(chan struct{}),
	}
	c.info.Store(&info)
	return c
}

// Peer returns what the catalog says of the other side, at the latest while the channel lived.
func (c *Channel) Peer() discovery.PeerInfo { return *c.info.Load() }

// Items, Bytes and Dropped are the counts so far.
func (c *Channel) Items() uint64   { return c.items.Load() }
func (c *Channel) Bytes() uint64   { return c.bytes.Load() }
func (c *Channel) Dropped() uint64 { return c.dropped.Load() }

// Queued returns the number of items that wait for credit at the producer; zero on the consumer's side.
func (c *Channel) Queued() int {
	if c.queued == nil || !c.Live() {
		return 0
	}
	return c.queued()
}

// Ended is closed when the channel has ended.
func (c *Channel) Ended() <-chan struct{} { return c.ended }

// Live reports whether the channel has not ended.
func (c *Channel) Live() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// Uptime returns how long the channel has been connected, or false when it has ended.
func (c *Channel) Uptime() (time.Duration, bool) { return time.Since(c.Since), c.Live() }

// Reason returns why the channel ended.
func (c *Channel) Reason() (link.Code, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code, c.detail
}

// end marks the end, once.
func (c *Channel) end(code link.Code, detail string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.IsZero() {
		c.code, c.detail, c.until = code, detail, time.Now()
		close(c.ended)
	}
}

// update takes over what the catalog says now. It reports whether that is something new.
func (c *Channel) update(catalog discovery.Catalog, remote id.PeerID) bool {
	now, ok := catalog.Get(remote)
	if !ok {
		return false
	}
	before := c.info.Load()
	rtt, _ := now.RTT()
	was, _ := before.RTT()
	if now.Version() == before.Version() && rtt == was {
		return false
	}
	c.info.Store(&now)
	return true
}

// explain puts a reason in words.
func explain(code link.Code, detail string) string {
	if detail == "" {
		return code.String()
	}
	return fmt.Sprintf("%v: %s", code, detail)
}
