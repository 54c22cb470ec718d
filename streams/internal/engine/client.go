package engine

import (
	"sync"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// client is the trunk to a peer with producers.
type client struct {
	*trunk
	svc    *Service
	number uint32 // of the last channel; the loop's

	mu      sync.Mutex // guards all following fields
	inlets  map[uint32]*inlet
	retries map[id.ID]struct{} // streams that the peer says should be tried again
}

// read handles what the producer's side sends until the trunk ends.
func (c *client) read() error {
	return each(c.reader(wire.MaxFrame), c.handle)
}

func (c *client) handle(kind wire.Kind, body []byte) error {
	switch kind {
	case wire.KindData:
		var f wire.Data
		if err := f.Decode(body); err != nil {
			return violation("data: %w", err)
		}
		return c.data(&f)
	case wire.KindPing:
	case wire.KindAccept:
		var a wire.Accept
		if err := a.Decode(body); err != nil {
			return violation("accept: %w", err)
		}
		in := c.inlet(a.Channel)
		if in == nil {
			return nil // cancelled meanwhile
		}
		if in.channel.Load() != nil {
			return violation("channel %d was accepted twice", a.Channel)
		}
		c.svc.open(in, a)
		c.tell(wire.Credit{Channel: in.number}.Append) // confirms
		c.svc.post(func() { c.svc.accepted(in, a) })
	case wire.KindRefuse:
		var f wire.Refuse
		if err := f.Decode(body); err != nil {
			return violation("refuse: %w", err)
		}
		if in := c.inlet(f.Channel); in != nil {
			if in.channel.Load() != nil {
				return violation("channel %d was accepted and refused", f.Channel)
			}
			c.forget(in)
			c.svc.post(func() { c.svc.refused(in, f.Code, f.Detail) })
		}
	case wire.KindEnd:
		var e wire.End
		if err := e.Decode(body); err != nil {
			return violation("end: %w", err)
		}
		if in := c.inlet(e.Channel); in != nil {
			c.forget(in)
			c.svc.post(func() { c.svc.ended(in, e) })
		}
	case wire.KindRetry:
		stream, err := wire.DecodeRetry(body)
		if err != nil {
			return violation("retry: %w", err)
		}
		if c.noteRetry(stream) {
			c.svc.post(func() { c.svc.retry(c) })
		}
	default:
		return violation("unknown kind of frame %d", kind)
	}
	return nil
}

// data hands items to their source.
func (c *client) data(f *wire.Data) error {
	in := c.inlet(f.Channel)
	if in == nil {
		return nil // cancelled meanwhile
	}
	ch := in.channel.Load()
	if ch == nil {
		return violation("items on channel %d, which was not accepted", f.Channel)
	}
	count, payload, ok := fan.Measure(f.Items)
	if !ok {
		return violation("malformed items")
	}
	if err := in.admit(count, len(f.Items)); err != nil {
		return err
	}
	gap := Gap{}
	if f.Lost > 0 {
		gap = Gap{Lost: f.Lost, Exact: true, Cause: Lagged}
		ch.dropped.Add(f.Lost)
	}
	ch.items.Add(uint64(count))
	ch.bytes.Add(uint64(payload))
	items, pooled := pack(f.Items)
	in.src.putPooled(in, items, pooled, count, gap, f.Last)
	return nil
}

func (c *client) inlet(channel uint32) *inlet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inlets[channel]
}

func (c *client) forget(in *inlet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inlets, in.number)
}

// noteRetry notes that a stream should be tried again, and reports whether it is the first since retry ran.
func (c *client) noteRetry(stream id.ID) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.retries[stream]; there || len(c.retries) >= maxRetries {
		return false
	}
	c.retries[stream] = struct{}{}
	return len(c.retries) == 1
}

// retry makes all ties to streams that the peer named try again now.
func (s *Service) retry(c *client) {
	c.mu.Lock()
	streams := c.retries
	c.retries = make(map[id.ID]struct{})
	c.mu.Unlock()
	_, sources := s.everything()
	for _, src := range sources {
		if _, ok := streams[src.cfg.Stream]; ok {
			s.encourage(src, c.peer)
		}
	}
}
