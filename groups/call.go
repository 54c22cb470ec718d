package groups

import (
	"context"
	"sync"

	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// call is a call under way with room for its typed results. Calls are pooled: see host.Call for when one may be reused.
type call[C, R any] struct {
	*host.Call
	one    [1]C // the command of Execute, so that it needs no allocation of its own
	value  R    // of the command, if there is one
	values []R  // of the commands, if there are more
}

// pools keeps calls and reads for reuse.
type pools[C, R any] struct {
	calls sync.Pool
	reads sync.Pool
}

func (p *pools[C, R]) call() *call[C, R] {
	if c, ok := p.calls.Get().(*call[C, R]); ok {
		return c
	}
	c := &call[C, R]{Call: host.NewCall()}
	c.Results = c
	return c
}

// keepPayload is the largest payload buffer that a pooled call keeps.
const keepPayload = 16 << 10

func (p *pools[C, R]) put(c *call[C, R]) {
	clear(c.one[:])
	var none R
	c.value = none
	c.values = nil // handed out to the caller
	if cap(c.Payload) > keepPayload {
		c.Payload = nil
	}
	p.calls.Put(c)
}

func (p *pools[C, R]) read() *host.Read {
	if r, ok := p.reads.Get().(*host.Read); ok {
		return r
	}
	return host.NewRead()
}

// run encodes the commands, runs the call and, if it is done, hands it to take before it goes back to the pool.
func (g *Group[C, Q, R]) run(ctx context.Context, op string, cmds []C, feed bool, take func(*call[C, R])) error {
	if len(cmds) == 0 {
		return &callError{op: op, outcome: ErrNoCommands}
	}
	c := g.pools.call()
	return g.do(ctx, op, c, cmds, feed, take)
}

func (g *Group[C, Q, R]) do(ctx context.Context, op string, c *call[C, R], cmds []C, feed bool, take func(*call[C, R])) error {
	if err := g.usable(ctx); err != nil {
		g.pools.put(c)
		return notApplied(op, err)
	}
	payload, err := encode(g.codec, c.Payload[:0], cmds)
	c.Payload = payload
	if err != nil {
		g.pools.put(c)
		return notApplied(op, err)
	}
	if len(payload) > MaxCallBytes {
		g.pools.put(c)
		return &callError{op: op, outcome: ErrTooLarge}
	}
	c.Count, c.Feed = len(cmds), feed
	if len(cmds) > 1 && !feed {
		c.values = make([]R, len(cmds))
	}
	reusable := g.host.Do(ctx, c.Call)
	if c.Failure != 0 {
		err = g.explain(failure(op, c.Failure, c.Cause))
	} else {
		take(c)
	}
	if reusable {
		g.pools.put(c)
	}
	return err
}
