package discovery

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/antientropy"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// exchange is one comparison of catalogs.
//
//	asks                                     serves
//	Open{salt, digests, own entry}   ──▶
//	                                 ◀──     Rows of the buckets that differ …, Done
//	Updates …, Prefixes …, Done      ──▶
//	                                 ◀──     Updates …, Done
//
// The side that serves has taken in everything before it says Done for the last time. A stream that begins with Updates is
// a notice: it is taken in and answered with Done.
type exchange struct {
	d      *Discovery
	stream transport.Stream
	peer   PeerID
	r      *link.Reader
	w      *link.Writer
	budget int // bytes that may still be read
	room   int // bytes that may still be sent
	relay  relay

	sent, received int  // updates
	more           bool // one side had more than fits into one exchange
}

// firstFrame is how long a peer may take to say what it wants.
const firstFrame = 5 * time.Second

// batchBytes is the size at which a frame of updates is sent.
const batchBytes = 48 << 10

func (d *Discovery) newExchange(s transport.Stream) *exchange {
	return &exchange{
		d:      d,
		stream: s,
		peer:   s.Peer(),
		r:      link.NewReader(s, wire.MaxSyncFrame),
		w:      link.NewWriter(s, link.WriterConfig{MaxFrame: wire.MaxSyncFrame}),
		budget: syncBytes,
		room:   syncSend,
		relay:  relay{left: relayMax},
	}
}

func (x *exchange) read() (wire.Frame, error) {
	body, err := x.r.Next()
	if err != nil {
		return nil, err
	}
	if x.budget -= len(body); x.budget < 0 {
		return nil, violation("more than %d bytes in one comparison", syncBytes)
	}
	f, err := wire.Decode(body)
	if err != nil {
		return nil, violation("%v", err)
	}
	return f, nil
}

func (x *exchange) write(ctx context.Context, f wire.Frame) error { return x.w.Append(ctx, f.Append) }

// step is the resolution in which signs of life are compared: a third of the purge age.
func (d *Discovery) step() int64 { return max(1, d.cfg.PurgeAfter.Milliseconds()/3) }

// ask is the side that begins.
func (x *exchange) ask(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	x.stream.SetReadDeadline(deadline)
	items := x.d.store.items()
	open := &wire.Open{Step: x.d.step(), Self: x.d.store.local()}
	rand.Read(open.Salt[:]) // never fails, by its contract
	buckets := antientropy.Buckets(len(items))
	open.Digests = antientropy.Digests(items, open.Salt, open.Step, buckets)
	if err := x.write(ctx, open); err != nil {
		return err
	}
	differing, rows, err := x.readRows(buckets)
	if err != nil {
		return err
	}
	plan := antientropy.Compare(antientropy.In(items, differing, buckets), rows, open.Step, x.d.acceptable())
	if err := x.send(ctx, plan.Send, plan.SendBeats); err != nil {
		return err
	}
	for want := range chunk(&plan.Want) {
		if err := x.write(ctx, want); err != nil {
			return err
		}
	}
	if err := x.write(ctx, wire.Done{}); err != nil {
		return err
	}
	before := x.budget
	_, err = x.takeAll(false)
	if wanted := len(plan.Want.Entries) + len(plan.Want.Beats); x.received < wanted && before-x.budget > syncSend/2 {
		x.more = true
	}
	return err
}

// readRows reads what the other side has where the digests differ.
func (x *exchange) readRows(buckets int) (differing []uint32, rows []wire.Row, err error) {
	for first := true; ; first = false {
		f, err := x.read()
		if err != nil {
			return nil, nil, err
		}
		switch f := f.(type) {
		case *wire.Rows:
			if first {
				differing = f.Buckets
			} else if len(f.Buckets) > 0 {
				return nil, nil, violation("buckets twice")
			}
			rows = append(rows, f.Rows...) // bounded by the budget
		case wire.Done:
			if n := len(differing); n > 0 && differing[n-1] >= uint32(buckets) {
				return nil, nil, violation("bucket %d of %d", differing[n-1], buckets)
			}
			return differing, rows, nil
		default:
			return nil, nil, violation("%T instead of rows", f)
		}
	}
}

// acceptable returns whether a row of the other side's is worth asking for.
func (d *Discovery) acceptable() func(*wire.Row) bool {
	at := now()
	oldest, newest := at-d.cfg.PurgeAfter.Milliseconds(), at+d.cfg.MaxClockDrift.Milliseconds()
	return func(r *wire.Row) bool { return r.Alive >= oldest && max(r.Start, r.Update, r.Alive) <= newest }
}

// serve is the side that answers.
func (x *exchange) serve(ctx context.Context) error {
	x.stream.SetReadDeadline(time.Now().Add(firstFrame))
	f, err := x.read()
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	x.stream.SetReadDeadline(deadline)
	switch f := f.(type) {
	case *wire.Open:
		return x.answer(ctx, f)
	case wire.Updates:
		if err := x.take(f); err != nil {
			return err
		}
		return x.write(ctx, wire.Done{})
	default:
		return violation("%T begins an exchange", f)
	}
}

func (x *exchange) answer(ctx context.Context, open *wire.Open) error {
	if err := x.d.takeSelf(open.Self, x.peer); err != nil {
		return err
	}
	items := x.d.store.items()
	n := len(open.Digests)
	differing := antientropy.Differing(open.Digests, antientropy.Digests(items, open.Salt, open.Step, n))
	mine := antientropy.In(items, differing, n)
	rows := &wire.Rows{Buckets: differing}
	for i := range mine {
		rows.Rows = append(rows.Rows, mine[i].Row)
		if len(rows.Rows) == wire.MaxRows {
			if err := x.write(ctx, rows); err != nil {
				return err
			}
			rows = new(wire.Rows)
		}
	}
	if err := x.write(ctx, rows); err != nil {
		return err
	}
	if err := x.write(ctx, wire.Done{}); err != nil {
		return err
	}
	want, err := x.takeAll(true)
	if err != nil {
		return err
	}
	at := make(map[wire.Prefix]PeerID, len(mine))
	for i := range mine {
		at[mine[i].Prefix] = mine[i].Peer
	}
	if err := x.send(ctx, named(want.Entries, at), named(want.Beats, at)); err != nil {
		return err
	}
	x.d.store.flush()
	return x.write(ctx, wire.Done{})
}

// named returns the peers that prefixes stand for, each once. Unknown ones are left out.
func named(prefixes []wire.Prefix, at map[wire.Prefix]PeerID) []PeerID {
	var out []PeerID
	seen := make(map[wire.Prefix]bool, len(prefixes))
	for _, p := range prefixes {
		if peer, ok := at[p]; ok && !seen[p] {
			seen[p] = true
			out = append(out, peer)
		}
	}
	return out
}

// takeAll takes in what the other side sends until it is done, and collects what it asks for.
func (x *exchange) takeAll(mayAsk bool) (want wire.Prefixes, err error) {
	for {
		f, err := x.read()
		if err != nil {
			return want, err
		}
		switch f := f.(type) {
		case wire.Updates:
			if err := x.take(f); err != nil {
				return want, err
			}
		case *wire.Prefixes:
			if !mayAsk {
				return want, violation("asked twice")
			}
			want.Entries = append(want.Entries, f.Entries...) // bounded by the budget
			want.Beats = append(want.Beats, f.Beats...)
		case wire.Done:
			return want, nil
		default:
			return want, violation("%T in an exchange", f)
		}
	}
}

func (x *exchange) take(updates wire.Updates) error {
	for _, u := range updates {
		if _, err := x.d.take(u, x.peer, &x.relay); err != nil {
			return err
		}
		x.received++
	}
	return nil
}

// send sends what is known of the peers, as far as it fits. The rest is for the next exchange.
func (x *exchange) send(ctx context.Context, entries, beats []PeerID) error {
	var frame wire.Updates
	size := 0
	add := func(u wire.Update) error {
		if x.room -= u.Size(); x.room < 0 {
			x.more = true
			return nil
		}
		frame = append(frame, u)
		x.sent++
		if size += u.Size(); size < batchBytes && len(frame) < wire.MaxUpdates {
			return nil
		}
		err := x.write(ctx, frame)
		frame, size = frame[:0], 0
		return err
	}
	for _, p := range entries {
		if u, ok := x.d.store.lookup(p); ok {
			if err := add(u); err != nil {
				return err
			}
		}
	}
	for _, p := range beats {
		if u, ok := x.d.store.lookup(p); ok && u.Beat != nil {
			if err := add(wire.Update{Beat: u.Beat}); err != nil {
				return err
			}
		}
	}
	if len(frame) == 0 {
		return nil
	}
	return x.write(ctx, frame)
}

// chunk splits a list of prefixes into frames.
func chunk(want *wire.Prefixes) func(yield func(*wire.Prefixes) bool) {
	return func(yield func(*wire.Prefixes) bool) {
		entries, beats := want.Entries, want.Beats
		for len(entries)+len(beats) > 0 {
			e, b := min(len(entries), wire.MaxRows), min(len(beats), wire.MaxRows)
			if !yield(&wire.Prefixes{Entries: entries[:e], Beats: beats[:b]}) {
				return
			}
			entries, beats = entries[e:], beats[b:]
		}
	}
}
