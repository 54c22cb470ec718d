package wire

import (
	"encoding/binary"

	"github.com/mosaik-go/mosaik/id"
)

// Longest frame bodies.
const (
	MaxGossipFrame = MaxEntryBytes + 8<<10 // an entry of the largest size fits
	MaxSyncFrame   = 256 << 10
)

// Bounds of lists in frames.
const (
	MaxUpdates = 1024
	MaxWants   = 64
	MaxRows    = 4096
	MaxBuckets = 1 << 14
	minBuckets = 16
)

// Frame is one decoded frame: a [*Greet], [Updates], [Wants], [Alive], [*Open], [*Rows], [*Prefixes] or [Done].
type Frame interface{ Append(dst []byte) []byte }

const (
	frameGreet    = 1
	frameUpdates  = 2
	frameWants    = 3
	frameAlive    = 4
	frameOpen     = 5
	frameRows     = 6
	framePrefixes = 7
	frameDone     = 8
)

// Greet is the first frame of each side on a gossip link.
type Greet struct {
	Lonely bool   // the sender has no other neighbour
	Self   Update // the sender's own entry
}

// Updates is news, in no particular order.
type Updates []Update

// Wants asks for the entries of peers.
type Wants []id.PeerID

// Alive says nothing; it keeps a quiet link from being taken for dead.
type Alive struct{}

// Done ends what a side of a sync has to say.
type Done struct{}

// Append implements [Frame].
func (g *Greet) Append(dst []byte) []byte {
	dst = append(dst, frameGreet, 0)
	if g.Lonely {
		dst[len(dst)-1] = 1
	}
	return g.Self.Append(dst)
}

// Append implements [Frame].
func (u Updates) Append(dst []byte) []byte {
	dst = append(dst, frameUpdates)
	dst = binary.AppendUvarint(dst, uint64(len(u)))
	for _, x := range u {
		dst = x.Append(dst)
	}
	return dst
}

// Append implements [Frame].
func (w Wants) Append(dst []byte) []byte {
	dst = append(dst, frameWants)
	dst = binary.AppendUvarint(dst, uint64(len(w)))
	for i := range w {
		dst = append(dst, w[i][:]...)
	}
	return dst
}

// Append implements [Frame].
func (Alive) Append(dst []byte) []byte { return append(dst, frameAlive) }

// Append implements [Frame].
func (Done) Append(dst []byte) []byte { return append(dst, frameDone) }

// Decode reads the body of a frame.
func Decode(body []byte) (Frame, error) {
	r := reader{b: body}
	var f Frame
	switch kind := r.byte("frame"); kind {
	case frameGreet:
		g := &Greet{Lonely: r.flag("lonely")}
		g.Self = r.update()
		if r.err == nil && g.Self.Entry == nil {
			r.fail("greeting without an entry")
		}
		f = g
	case frameUpdates:
		u := make(Updates, 0, min(r.peekCount(), 64))
		for range r.count("updates", MaxUpdates, 1) {
			if u = append(u, r.update()); r.err != nil {
				break
			}
		}
		f = u
	case frameWants:
		w := make(Wants, r.count("wants", MaxWants, id.Size))
		for i := range w {
			w[i] = r.peer("want")
		}
		f = w
	case frameAlive:
		f = Alive{}
	case frameOpen:
		f = r.open()
	case frameRows:
		f = r.rows()
	case framePrefixes:
		f = r.prefixes()
	case frameDone:
		f = Done{}
	default:
		r.fail("unknown frame %d", kind)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return f, nil
}

// peekCount returns the length of the list that follows without consuming it.
func (r *reader) peekCount() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > MaxUpdates {
		return 0
	}
	return int(v)
}

func (r *reader) flag(what string) bool {
	b := r.byte(what)
	if b > 1 {
		r.fail("%s: neither 0 nor 1", what)
	}
	return b == 1
}
