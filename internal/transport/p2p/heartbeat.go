package p2p

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/internal/link"
)

// Heartbeat of a connection. Each side pings, and answers the other's pings. Whatever arrives is a sign of life: a ping
// can be stuck behind a large transfer.
const (
	// A process that was stopped, or starved, finds its own deadline passed when it wakes up, before it has read what
	// came in the meantime. So a deadline that is noticed so late is extended, once, by as much and a heartbeat.
	wokeLate = time.Second

	// A ping and its answer are a kind, a number, and as many bytes again for nothing: a process that does not know the QUIC
	// connection that they are for, since it was restarted, resets it only if the packet is longer than such a reset.
	pingSize = 1 + 8 + 16

	controlRate = 500 // frames that a peer may send in a second; a ping and an answer each two seconds are usual
)

// control is a control stream in use by one side. Until the hello is done one goroutine uses it; then one reads, in run,
// and one writes, in write.
type control struct {
	conn *conn
	raw  network.Stream
	in   *link.Reader

	answers chan uint64 // numbers of pings to answer; more than fit are not answered

	mu     sync.Mutex // guards all following fields
	ping   uint64     // number of the latest ping
	pinged time.Time  // when it was sent
}

func newControl(c *conn, raw network.Stream) *control {
	return &control{
		conn:    c,
		raw:     raw,
		in:      link.NewReader(raw, controlFrameMax),
		answers: make(chan uint64, 4),
	}
}

// send writes a frame, after a prefix that has none.
func (ctl *control) send(prefix, body []byte) error {
	b := binary.BigEndian.AppendUint32(prefix, uint32(len(body)))
	_, err := ctl.raw.Write(append(b, body...))
	return err
}

// run keeps the heartbeat until the connection ends.
func (ctl *control) run() {
	c := ctl.conn
	ctl.raw.SetDeadline(time.Time{})
	c.host.wg.Go(ctl.write) // this goroutine is counted, so the counter is not zero

	var second int64
	var frames int
	for {
		b, err := ctl.next()
		if err != nil {
			c.fail(err)
			return
		}
		now := clock()
		c.heard.Store(now)
		if s := now / int64(time.Second); s != second {
			second, frames = s, 0
		}
		if frames++; frames > controlRate {
			c.close(link.CodeOverloaded)
			return
		}
		switch {
		case len(b) == pingSize && b[0] == framePing:
			select {
			case ctl.answers <- binary.BigEndian.Uint64(b[1:9]):
			default:
			}
		case len(b) == pingSize && b[0] == framePong:
			ctl.answered(binary.BigEndian.Uint64(b[1:9]))
		default:
			c.close(link.CodeProtocolViolation)
			return
		}
	}
}

// next returns the next frame, or an error when the connection is broken or shows no sign of life.
func (ctl *control) next() ([]byte, error) {
	c := ctl.conn
	extended := false
	for {
		dead := c.lastHeard() + int64(c.host.deadAfter)
		if extended {
			dead = clock() + int64(c.host.pingEvery+wokeLate)
		}
		ctl.raw.SetReadDeadline(onClock(dead))
		b, err := ctl.read()
		if err == nil || !isTimeout(err) {
			return b, err
		}
		if c.lastHeard()+int64(c.host.deadAfter) > clock() {
			extended = false
			continue
		}
		if late := clock() - dead; !extended && late > int64(wokeLate) {
			extended = true
			continue
		}
		return nil, &link.CloseError{Code: link.CodeTimeout}
	}
}

// answered measures the round trip of the latest ping. The number is the peer's word, the times are not.
func (ctl *control) answered(ping uint64) {
	ctl.mu.Lock()
	sent, latest := ctl.pinged, ctl.ping
	ctl.pinged = time.Time{}
	ctl.mu.Unlock()
	if ping != latest || sent.IsZero() {
		return
	}
	rtt := time.Since(sent)
	h := ctl.conn.host
	h.meter.rtt.Observe(rtt.Seconds())
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.peers[ctl.conn.peer]; st != nil {
		st.rtt = max(rtt, 1) // zero means not measured
	}
}

// write sends pings and answers and, when this side closes the connection, the goodbye.
func (ctl *control) write() {
	c := ctl.conn
	due := time.NewTimer(0) // the first at once
	defer due.Stop()
	for {
		body := make([]byte, pingSize)
		select {
		case n := <-ctl.answers:
			body[0] = framePong
			binary.BigEndian.PutUint64(body[1:], n)
		case <-due.C:
			due.Reset(c.host.pingEvery)
			ctl.mu.Lock()
			ctl.ping++
			ctl.pinged = time.Now()
			binary.BigEndian.PutUint64(body[1:], ctl.ping)
			ctl.mu.Unlock()
			body[0] = framePing
		case <-c.gone:
			if why := c.why(); !why.Remote {
				ctl.raw.SetWriteDeadline(time.Now().Add(farewellWait))
				ctl.send(nil, goodbye(why.Code))
			}
			return
		}
		ctl.raw.SetWriteDeadline(time.Now().Add(c.host.pingEvery))
		if n, err := ctl.raw.Write(append([]byte{0, 0, 0, pingSize}, body...)); err != nil {
			// A frame that found no room, behind a large transfer, is left out. Whether the peer lives is for what arrives
			// to say, and why the connection broke is for the reader to find.
			if n == 0 && isTimeout(err) {
				continue
			}
			if isTimeout(err) {
				c.close(link.CodeTimeout)
			}
			return
		}
	}
}
