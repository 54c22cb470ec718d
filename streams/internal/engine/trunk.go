package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// Times and limits of a trunk.
const (
	pingAfter    = 5 * time.Second  // nothing sent
	silentAfter  = 15 * time.Second // nothing heard: the stream is dead, though its connection may live
	idleAfter    = 30 * time.Second // without a subscription
	writeTimeout = 10 * time.Second
	writeSize    = 64 << 10 // bytes written at once, about
	maxControl   = 1 << 20  // bytes of control frames that wait
	flushGrace   = time.Second
)

// filler has frames to send when it says so.
type filler interface {
	// fill adds frames, about one data frame's worth, and reports whether there are more.
	fill(b *batch) (again bool)
}

// batch is frames to be written at once. Long runs of items are not copied into it.
type batch struct {
	buf   []byte
	parts []part
	size  int // of everything
}

// part is something that goes between the bytes of a batch.
type part struct {
	at    int // in buf
	bytes []byte
}

// longPart is from what length on items are written from where they are. Shorter runs are copied, to be one write with their
// header: on TCP a write of its own costs more than to copy 64 KiB.
const longPart = 66 << 10

// frame adds a frame with the body that encode appends, and the items behind it.
func (b *batch) frame(encode func([]byte) []byte, items []fan.Piece) {
	at := len(b.buf)
	b.buf = encode(append(b.buf, 0, 0, 0, 0))
	outside := 0
	for _, p := range items {
		if run := p.Bytes(); len(run) < longPart {
			b.buf = append(b.buf, run...)
		} else {
			b.parts = append(b.parts, part{len(b.buf), run})
			outside += len(run)
		}
	}
	body := len(b.buf) - at - link.HeaderSize + outside
	binary.BigEndian.PutUint32(b.buf[at:], uint32(body))
	b.size += link.HeaderSize + body
}

// reset empties the batch, and gives back a buffer that is larger than need be.
func (b *batch) reset() {
	if cap(b.buf) > 4*writeSize || cap(b.buf) > 16<<10 && len(b.buf) < 1<<10 {
		b.buf = nil
	}
	clear(b.parts)
	b.buf, b.parts, b.size = b.buf[:0], b.parts[:0], 0
}

// trunk is the stream that carries all subscriptions of one node to the producers of another. A goroutine of its own
// writes, whoever runs it reads. Subscriptions with something to send take turns, a frame each; what they send is bounded
// by credit and taken in by the other side at once, so none holds up another.
type trunk struct {
	peer   id.PeerID
	stream transport.Stream
	wake   chan struct{} // capacity one
	done   chan struct{} // closed when the writer has ended
	wrote  atomic.Int64  // Unix nanoseconds of the last write

	mu      sync.Mutex // guards all following fields
	control []byte     // framed
	queue   []filler
	asleep  bool
	ending  bool
	orderly bool // both directions were closed: what is under way must not be torn down
	err     error
}

func newTrunk(s transport.Stream) *trunk {
	t := &trunk{peer: s.Peer(), stream: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
	t.wrote.Store(time.Now().UnixNano())
	go t.write()
	return t
}

// frame appends a frame with the body that encode appends.
func frame(dst []byte, encode func([]byte) []byte) []byte {
	at := len(dst)
	dst = encode(append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-link.HeaderSize))
	return dst
}

// tell queues a control frame, and reports false when the trunk has ended. A peer that does not read them is given up.
func (t *trunk) tell(encode func([]byte) []byte) bool {
	t.mu.Lock()
	over := len(t.control) > maxControl
	queued := !over && t.err == nil
	if queued {
		t.control = frame(t.control, encode)
		t.rouseLocked()
	}
	t.mu.Unlock()
	if over {
		t.abort(link.CodeOverloaded)
	}
	return queued
}

// enlist has f asked for frames.
func (t *trunk) enlist(f filler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.queue = append(t.queue, f)
		t.rouseLocked()
	}
}

func (t *trunk) rouseLocked() {
	if t.asleep {
		t.asleep = false
		t.wake <- struct{}{}
	}
}

// write writes until the trunk ends.
func (t *trunk) write() {
	defer close(t.done)
	var out batch
	var turn []filler
	for {
		t.mu.Lock()
		for len(t.control) == 0 && len(t.queue) == 0 && !t.ending && t.err == nil {
			t.asleep = true
			t.mu.Unlock()
			<-t.wake
			t.mu.Lock()
		}
		if t.err != nil {
			t.mu.Unlock()
			return
		}
		if t.ending && len(t.control) == 0 && len(t.queue) == 0 {
			t.mu.Unlock()
			t.stream.CloseWrite()
			return
		}
		out.buf = append(out.buf, t.control...)
		out.size += len(t.control)
		t.control = t.control[:0]
		turn, t.queue = t.queue, turn[:0]
		t.mu.Unlock()

		for i, f := range turn {
			turn[i] = nil
			if f.fill(&out) {
				t.requeue(f)
			}
			if out.size >= writeSize && !t.flush(&out) {
				return
			}
		}
		if t.pending() {
			continue // there is more to go with it
		}
		if !t.flush(&out) {
			return
		}
	}
}

func (t *trunk) pending() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) > 0 && t.err == nil
}

func (t *trunk) requeue(f filler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, f)
}

// flush writes the batch and empties it.
func (t *trunk) flush(out *batch) bool {
	if out.size == 0 {
		return true
	}
	now := time.Now()
	t.wrote.Store(now.UnixNano())
	t.stream.SetWriteDeadline(now.Add(writeTimeout))
	from := 0
	for _, p := range out.parts {
		if !t.send(out.buf[from:p.at]) || !t.send(p.bytes) {
			return false
		}
		from = p.at
	}
	if !t.send(out.buf[from:]) {
		return false
	}
	out.reset()
	return true
}

func (t *trunk) send(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if _, err := t.stream.Write(b); err != nil {
		t.fail(err)
		t.stream.Abort(codeOf(err))
		return false
	}
	return true
}

// fail ends the writer.
func (t *trunk) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	t.queue, t.control = nil, nil
	t.rouseLocked()
}

// abort tears the trunk down. The reader fails, and whoever runs it cleans up.
func (t *trunk) abort(code link.Code) {
	t.fail(&link.CloseError{Code: code})
	t.mu.Lock()
	orderly := t.orderly
	t.mu.Unlock()
	if !orderly {
		t.stream.Abort(code)
	}
}

// close has the trunk end once what waits is sent.
func (t *trunk) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = true
	t.rouseLocked()
}

// finish sends what waits and ends the trunk, within flushGrace.
func (t *trunk) finish() {
	t.close()
	select {
	case <-t.done:
		t.mu.Lock()
		t.orderly = t.err == nil
		t.mu.Unlock()
		t.stream.Close()
	case <-time.After(flushGrace):
		t.abort(link.CodeShutdown)
	}
}

// keepAlive pings when nothing was sent for a while.
func (t *trunk) keepAlive(now time.Time) {
	if now.UnixNano()-t.wrote.Load() > int64(pingAfter) {
		t.tell(wire.AppendPing)
	}
}

// reader returns a reader of the trunk's frames.
func (t *trunk) reader(most int) *link.Reader {
	r := link.NewReader(t.stream, most)
	r.LimitIdle(t.stream, silentAfter)
	return r
}

// each hands the frames that come to handle, until the trunk ends.
func each(in *link.Reader, handle func(wire.Kind, []byte) error) error {
	for {
		body, err := in.Next()
		if err != nil {
			return err
		}
		if len(body) == 0 {
			return violation("empty frame")
		}
		if err := handle(wire.Kind(body[0]), body[1:]); err != nil {
			return err
		}
	}
}

// violation is the error of a peer that breaks the protocol.
func violation(format string, args ...any) error {
	return fmt.Errorf("protocol violation: "+format+": %w", append(args, &link.CloseError{Code: link.CodeProtocolViolation})...)
}

func codeOf(err error) link.Code {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return link.CodeTimeout
	}
	return link.CodeOf(err)
}
