package p2p

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/internal/link"
)

const (
	// farewellWait is how long a side that closes a connection waits for the other to read why, and to close it first.
	// Closing at once would lose the reason: TCP connections are closed with a reset, which overtakes what is under way.
	farewellWait = 200 * time.Millisecond

	// goodbyeWait is the same for a host that is closing, when the other side's handlers read what came before.
	goodbyeWait = 600 * time.Millisecond
	lingerMax   = 400 * time.Millisecond // given to those handlers
)

// close closes the connection; the other side learns the code.
func (c *conn) close(code link.Code) { c.endAndHangUp(&link.CloseError{Code: code}) }

func (c *conn) endAndHangUp(why *link.CloseError) {
	c.end(why)
	c.hangUp()
}

// drop closes connections without waiting for the other sides: they are over for this host when it returns.
func (h *host) drop(conns []*conn, code link.Code) {
	for _, c := range conns {
		c.end(&link.CloseError{Code: code})
		h.start(c.hangUp)
	}
}

// hangUp closes the library's connection, which has ended for this host. It waits a moment for that, which goes on behind
// it if it takes longer.
func (c *conn) hangUp() {
	if !c.hanging.CompareAndSwap(false, true) {
		return
	}
	why, over := c.why(), make(chan struct{})
	wait := c.host.start(func() {
		defer close(over)
		c.partFor(why)
		c.shut(why.Code)
	})
	if !wait {
		return // the host is gone, and all connections with it
	}
	patience := farewellWait
	if why.Code == link.CodeShutdown {
		patience = goodbyeWait
	}
	timer := time.NewTimer(patience + farewellWait)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	}
}

// shut closes the sockets, with the reason for a side that did not get a goodbye. Over TCP the library waits for what is
// being written before it, and a process that hangs makes no room for that; then it is cut off.
func (c *conn) shut(code link.Code) {
	over := make(chan struct{})
	defer close(over)
	if c.ear != nil {
		c.host.start(func() {
			tick := time.NewTicker(farewellWait)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					c.ear.SetWriteDeadline(time.Now())
				case <-over:
					return
				}
			}
		})
	}
	c.raw.CloseWithError(network.ConnErrorCode(code))
}

// partFor lets both sides get over the end of the connection in order: the side that ends it waits until the other has
// read the reason and closes, the other lets its handlers read what came before a goodbye.
func (c *conn) partFor(why *link.CloseError) {
	c.mu.Lock()
	control, greeted := c.control, c.greeted
	c.mu.Unlock()
	switch {
	case !greeted:
	case why.Remote && why.Code == link.CodeShutdown:
		c.linger()
	case why.Remote:
	case why.Code == link.CodeShutdown:
		c.waitControlled(goodbyeWait)
	case why.Code == link.CodeTimeout: // nobody listens
	default:
		c.host.start(func() {
			for _, s := range c.raw.GetStreams() {
				if s != control {
					s.ResetWithError(network.StreamErrorCode(why.Code))
				}
			}
		})
		c.waitControlled(farewellWait)
	}
}

// waitControlled waits until the control stream is no longer read, since the other side has closed the connection.
func (c *conn) waitControlled(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-c.controlled:
	case <-timer.C:
	case <-c.host.ctx.Done():
	}
}

// linger gives the handlers of streams a moment to read what has arrived, and to close.
func (c *conn) linger() {
	timer := time.NewTimer(lingerMax)
	defer timer.Stop()
	for c.streams.Load() > 0 {
		select {
		case <-c.drained:
		case <-timer.C:
			return
		case <-c.host.ctx.Done():
			return
		}
	}
}
