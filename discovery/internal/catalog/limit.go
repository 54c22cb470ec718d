package catalog

import "github.com/mosaik-go/mosaik/discovery/internal/wire"

// bucket is a token bucket: it limits the content changes of one origin to a burst and then to one every refill.
type bucket struct {
	tokens float64
	at     int64
}

func newBucket(burst int, now int64) bucket { return bucket{float64(burst), now} }

func (b *bucket) take(burst int, refill, now int64) bool {
	if now > b.at {
		b.tokens = min(float64(burst), b.tokens+float64(now-b.at)/float64(refill))
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// ready returns when the next token is there.
func (b *bucket) ready(refill int64) int64 {
	return b.at + int64((1-b.tokens)*float64(refill)) + 1
}

// hold keeps the newest content that came too soon. What it replaces is never seen by anybody, which is the point.
func (c *Core) hold(o *origin, u wire.Update) {
	if o.held == nil && len(c.held) >= maxHeld {
		return
	}
	if o.held == nil || compare(u.Entry, o.held.Entry) > 0 {
		o.held = &u
		c.held[u.Peer()] = o
	}
}

// Release applies what was held and is due.
func (c *Core) Release(now int64) []Outcome {
	var out []Outcome
	for p, o := range c.held {
		if o.tokens.ready(c.cfg.Refill) > now {
			continue
		}
		u := *o.held
		o.held = nil
		delete(c.held, p)
		out = append(out, c.Apply(u, now))
	}
	return out
}

// Next returns when Release or Expire next has something to do.
func (c *Core) Next() int64 {
	next := c.expiry
	for _, o := range c.held {
		next = min(next, o.tokens.ready(c.cfg.Refill))
	}
	return next
}
