package bond

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// trunk is the one stream between this node and a peer that carries all groups both are in.
type trunk struct {
	mesh   *Mesh
	peer   id.PeerID
	stream transport.Stream
	dialed bool // by this node
	since  time.Time
	out    *link.Writer
	in     *link.Reader

	sent    atomic.Int64 // frames
	orderly atomic.Bool  // shut in order: the stream must not be torn down

	// channels maps the numbers of incoming frames to bonds. It is replaced, never changed; nil entries are closed.
	channels atomic.Pointer[[]*Bond]

	// Guarded by the mesh's mutex.
	gone     bool
	bonds    map[id.ID]*Bond
	numbers  map[id.ID]uint32 // of channels, one for each group that ever had one here
	waiting  map[id.ID]helloFrame
	idle     time.Time // since when it has no bonds, zero when it has
	lastSent int64     // what sent was
	sentAt   time.Time // when it last grew
}

// Times of a trunk.
const (
	pingAfter   = 5 * time.Second  // nothing sent
	silentAfter = 15 * time.Second // nothing heard: the stream is dead, though its connection may live
	idleAfter   = 30 * time.Second // without a bond
)

// batchMax is how many messages are handed to a group at once.
const batchMax = 256

func newTrunk(m *Mesh, s transport.Stream, dialed bool) *trunk {
	now := time.Now()
	t := &trunk{
		mesh:    m,
		peer:    s.Peer(),
		stream:  s,
		dialed:  dialed,
		since:   now,
		bonds:   make(map[id.ID]*Bond),
		numbers: make(map[id.ID]uint32),
		waiting: make(map[id.ID]helloFrame),
		idle:    now,
		sentAt:  now,
	}
	t.channels.Store(new([]*Bond))
	return t
}

// preferred reports whether this trunk wins over one that the other side dialled: the smaller identity's does.
func (t *trunk) preferred() bool {
	return t.dialed == (t.mesh.self.Compare(t.peer) < 0)
}

// bondAt returns the bond of an incoming channel number, nil if there is none.
func (t *trunk) bondAt(channel uint32) *Bond {
	table := *t.channels.Load()
	if int64(channel) >= int64(len(table)) {
		return nil
	}
	return table[channel]
}

// channelLocked returns the number of the group's channel.
func (t *trunk) channelLocked(group id.ID) uint32 {
	n, ok := t.numbers[group]
	if !ok {
		n = uint32(len(t.numbers))
		t.numbers[group] = n
	}
	return n
}

// setLocked makes b, or nobody if b is nil, the receiver of the group's frames.
func (t *trunk) setLocked(group id.ID, b *Bond) {
	n := t.channelLocked(group)
	table := make([]*Bond, len(t.numbers))
	copy(table, *t.channels.Load())
	table[n] = b
	t.channels.Store(&table)
	if b == nil {
		delete(t.bonds, group)
		if len(t.bonds) == 0 {
			t.idle = time.Now()
		}
		return
	}
	t.bonds[group] = b
	t.idle = time.Time{}
}

// control queues a frame other than data.
func (t *trunk) control(f interface{ append([]byte) []byte }) {
	t.sent.Add(1)
	if !t.out.TryAppend(f.append) {
		// Losing it would leave the two sides with different views, so the trunk starts afresh.
		t.stream.Abort(link.CodeOverloaded)
	}
}

// read handles frames until the trunk ends, and returns why it did.
func (t *trunk) read() error {
	body, err := t.in.Next()
	if err != nil {
		return err
	}
	if len(body) == 0 || kind(body[0]) != kindPreface {
		return violation("the first frame is not a preface")
	}
	if err := decodePreface(body[1:]); err != nil {
		return err
	}
	var batch []wire.Message
	var to *Bond
	var bytes int
	flush := func() {
		if len(batch) == 0 {
			return
		}
		t.local(to, batch, bytes)
		clear(batch)
		batch, bytes = batch[:0], 0
	}
	for {
		body, err := t.in.Next()
		if err != nil {
			return err
		}
		if len(body) == 0 {
			return violation("empty frame")
		}
		if kind(body[0]) != kindData {
			flush()
			if err := t.handle(kind(body[0]), body[1:]); err != nil {
				return err
			}
			continue
		}
		channel, raw, err := decodeData(body[1:])
		if err != nil {
			return violation(err.Error())
		}
		b := t.bondAt(channel)
		if b == nil || !b.isUp.Load() {
			continue // sent before the peer saw our close
		}
		m, err := wire.Decode(raw)
		if err != nil {
			return violation(err.Error())
		}
		if b != to {
			flush()
			to = b
		}
		batch = append(batch, m)
		bytes += len(raw)
		if len(batch) >= batchMax || !t.in.Ready() {
			flush()
		}
	}
}

// local hands messages to their group.
func (t *trunk) local(b *Bond, messages []wire.Message, bytes int) {
	b.local.Traffic.Received.Add(float64(len(messages)))
	b.local.Traffic.ReceivedBytes.Add(float64(bytes))
	b.local.Sink.Receive(b, messages, bytes)
}

// handle handles a frame that is not data.
func (t *trunk) handle(k kind, body []byte) error {
	switch k {
	case kindPing:
		return nil
	case kindPulses:
		if err := t.onPulses(body); err != nil {
			return violation("pulses: " + err.Error())
		}
	case kindPulsed:
		if err := t.onPulsed(body); err != nil {
			return violation("answers to pulses: " + err.Error())
		}
	case kindHello:
		f, err := decodeHello(body)
		if err != nil {
			return violation(err.Error())
		}
		t.mesh.onHello(t, f)
	case kindProof:
		f, err := decodeProof(body)
		if err != nil {
			return violation(err.Error())
		}
		t.mesh.onProof(t, f)
	case kindClose:
		f, err := decodeClose(body)
		if err != nil {
			return violation(err.Error())
		}
		t.mesh.onClose(t, f)
	default:
		return violation(fmt.Sprintf("unknown kind of frame %d", k))
	}
	return nil
}

// sendData queues a message and returns the size of its frame.
func (t *trunk) sendData(channel uint32, m wire.Message) (int, bool) {
	t.sent.Add(1)
	size := 0
	ok := t.out.TryAppend(func(dst []byte) []byte {
		before := len(dst)
		dst = wire.Append(appendDataHeader(dst, channel), m)
		size = len(dst) - before
		return dst
	})
	return size, ok
}

// superviseLocked keeps a quiet trunk alive and ends a useless one.
func (t *trunk) superviseLocked(now time.Time) {
	if n := t.sent.Load(); n != t.lastSent {
		t.lastSent, t.sentAt = n, now
	}
	switch {
	case !t.idle.IsZero() && now.Sub(t.idle) > idleAfter:
		t.stream.Abort(link.CodeSuccess)
	case now.Sub(t.sentAt) > pingAfter:
		t.control(pingFrame{})
	}
}

// violationError is the error of a peer that breaks the protocol.
type violationError struct{ what string }

func violation(what string) error { return &violationError{what} }

func (e *violationError) Error() string { return "protocol violation: " + e.what }

func (e *violationError) Unwrap() error { return &link.CloseError{Code: link.CodeProtocolViolation} }

// open makes the trunk ready to send. It is called once, with the mesh's mutex held, before anything is sent.
func (t *trunk) open() {
	t.out = link.NewWriter(t.stream, link.WriterConfig{MaxFrame: maxFrame, Buffer: sendBuffer})
	t.in = link.NewReader(t.stream, maxFrame)
	t.in.LimitIdle(t.stream, silentAfter)
	t.control(prefaceFrame{})
}

// shut ends the trunk from this side. In order means that what waits is sent first, for a short while at most.
func (t *trunk) shut(inOrder bool) {
	if !inOrder {
		t.stream.Abort(link.CodeCancelled)
		return
	}
	t.orderly.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), flushGrace)
	defer cancel()
	t.out.Close(ctx)
	t.stream.Close()
}
