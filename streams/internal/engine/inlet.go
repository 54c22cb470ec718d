package engine

import (
	"sync/atomic"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// Inlet is where an item came from.
type Inlet = inlet

// inlet is one subscription on the consumer's side.
type inlet struct {
	src     *Source
	peer    id.PeerID
	tie     *tie
	number  uint32 // on the trunk
	window  wire.Window
	slow    bool // the subscription before was ended because the consumer was too slow
	epoch   uint64
	channel atomic.Pointer[Channel] // set when accepted
	trunk   *trunk                  // of a remote producer
	outlet  *outlet                 // of a producer on this node
	closed  atomic.Bool

	lastParcel int // guarded by the source's mutex: which was put last, counting from 1

	// Guarded by whoever calls Next.
	refused              bool
	tookItems, tookBytes uint64
	toldItems, toldBytes uint64

	// What the producer was told, and whether the trunk knows that there is news.
	creditItems, creditBytes atomic.Uint64
	listed                   atomic.Bool

	// Used by the reader of the trunk.
	gotItems, gotBytes uint64
}

// Producer returns who the item comes from.
func (in *inlet) Producer() id.PeerID { return in.peer }

// Refuse ends the subscription because an item cannot be decoded. What has come is not affected. Like Next it must not
// overlap with other calls.
func (in *inlet) Refuse(err error) {
	in.src.lost++
	in.src.metrics.missed.Inc()
	if in.refused {
		return
	}
	in.refused = true
	in.src.svc.log.Warn("cannot decode an item", "stream", in.src.cfg.Stream.Short(), "peer", in.peer.Short(), "err", err)
	in.src.svc.post(func() {
		if t := in.tie; t.in == in {
			in.src.svc.sever(t, link.CodeProtocolViolation, err.Error())
			in.src.svc.failed(t, link.CodeProtocolViolation, err.Error(), false)
		}
	})
}

// consumed counts an item that was taken, and tells the producer now and then.
func (in *inlet) consumed(size int) {
	in.tookItems++
	in.tookBytes += uint64(size)
	if in.tookItems-in.toldItems < uint64(max(1, in.window.Items/4)) &&
		in.tookBytes-in.toldBytes < uint64(max(1, in.window.Bytes/4)) {
		return
	}
	in.toldItems, in.toldBytes = in.tookItems, in.tookBytes
	if in.closed.Load() {
		return
	}
	in.creditBytes.Store(in.tookBytes)
	in.creditItems.Store(in.tookItems)
	if o := in.outlet; o != nil {
		o.credit(wire.Credit{Items: in.tookItems, Bytes: in.tookBytes})
		return
	}
	if !in.listed.Swap(true) {
		in.trunk.enlist(in)
	}
}

// fill implements filler: it tells the producer what was consumed.
func (in *inlet) fill(out *batch) (again bool) {
	in.listed.Store(false)
	if !in.closed.Load() {
		items := in.creditItems.Load() // first: the bytes are at least those of these items
		out.frame(wire.Credit{Channel: in.number, Items: items, Bytes: in.creditBytes.Load()}.Append, nil)
	}
	return false
}

// admit checks what a producer sent against what it may send. The reader of a trunk calls it.
func (in *inlet) admit(count, size int) error {
	items := in.gotItems + uint64(count) - in.creditItems.Load()
	bytes := in.gotBytes + uint64(size) - in.creditBytes.Load()
	if items > uint64(in.window.Items) || bytes > uint64(in.window.Bytes)+wire.MaxItem+wire.MaxBatch {
		return violation("%d items and %d bytes are more than was granted", items, bytes)
	}
	in.gotItems += uint64(count)
	in.gotBytes += uint64(size)
	return nil
}

// ready implements port for producers on this node: it hands over at once what credit allows. The outlet's mutex is held.
func (in *inlet) ready(o *outlet) {
	for {
		pieces, b, ok := o.takeLocked()
		if !ok {
			break
		}
		for i, p := range pieces {
			items := p.Bytes()
			gap := Gap{}
			if i == 0 && b.Lost > 0 {
				gap = Gap{Lost: b.Lost, Exact: true, Cause: Lagged}
			}
			n := p.To - p.From
			in.src.put(in, items, n, gap, p.Run.Number(p.To-1))
		}
		if b.Items == 0 {
			in.src.put(in, nil, 0, Gap{Lost: b.Lost, Exact: true, Cause: Lagged}, b.Last)
		}
		if ch := in.channel.Load(); ch != nil {
			ch.items.Add(uint64(b.Items))
			ch.bytes.Add(uint64(b.Payload))
			ch.dropped.Add(b.Lost)
		}
		clear(pieces)
	}
	o.accept = nil
	drained := o.drainedLocked()
	if e := o.end; e != nil {
		o.end = nil
		in.src.svc.post(func() { in.src.svc.ended(in, *e) })
	}
	if drained {
		in.src.svc.post(func() { o.done(link.CodeShutdown, "the producer was closed") })
	}
	o.listed = false
}
