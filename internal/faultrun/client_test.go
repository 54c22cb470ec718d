//go:build linux

package faultrun

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// op is one call of a client, as it saw it. Times are since the beginning of the run.
type op struct {
	Client     int
	Node, Life int
	Group      int
	Command    command // ID zero: a strong read
	Key        uint32
	Begin, End time.Duration
	Outcome    string
	Err        string `json:",omitempty"`
	Value      int64  // what was answered
	Index      uint64
}

func (o *op) read() bool { return o.Command.ID == 0 }

// workload is clients that call all the time, and what became of their calls.
type workload struct {
	c     *cluster
	pace  time.Duration // between two calls of a client, on average
	count int           // of clients on each node for each group
	wg    sync.WaitGroup
	stop  context.CancelFunc

	mu      sync.Mutex
	history []*op
}

// cellsFor is how long clients use the same cells: short histories are easy to check.
const cellsFor = 5 * time.Second

func startClients(c *cluster, count int, pace time.Duration, seed uint64) *workload {
	ctx, cancel := context.WithCancel(context.Background())
	w := &workload{c: c, pace: pace, count: count, stop: cancel}
	client := 0
	for _, n := range c.nodes {
		for group := range kinds {
			for range count {
				client++
				rng := rand.New(rand.NewPCG(seed, uint64(client)))
				who := client
				w.wg.Go(func() { w.run(ctx, who, n, group, rng) })
			}
		}
	}
	c.t.Cleanup(cancel)
	return w
}

// finish stops the clients and waits for their last calls. It reports whether all of them ended.
func (w *workload) finish(limit time.Duration) bool {
	w.stop()
	done := make(chan struct{})
	go func() { w.wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// run is one client of one node and one group: a call, a pause, and so on.
func (w *workload) run(ctx context.Context, client int, n *node, group int, rng *rand.Rand) {
	seen := make(map[uint32]int64) // the latest of each cell
	for number := uint64(1); ctx.Err() == nil; number++ {
		select {
		case <-time.After(time.Duration(rng.ExpFloat64() * float64(w.pace))):
		case <-ctx.Done():
			return
		}
		p := n.living()
		if p == nil {
			continue
		}
		o := &op{Client: client, Node: n.index, Life: p.life, Group: group, Begin: time.Since(w.c.began)}
		o.Key = uint32(o.Begin/cellsFor)*2 + uint32(rng.IntN(2))
		q := request{Ask: "read", Group: group, Key: o.Key}
		if rng.IntN(3) > 0 {
			o.Command = w.command(uint64(client)<<48|uint64(p.life)<<32|number, group, o.Key, seen[o.Key], rng)
			q.Ask, q.Command = "do", o.Command
		}
		switch rng.IntN(20) {
		case 0:
			q.Within = time.Duration(1 + rng.Int64N(int64(20*time.Millisecond)))
		case 1:
			q.Within = time.Duration(1 + rng.Int64N(int64(2*time.Second)))
		}
		r, err := p.ask(context.Background(), q)
		o.End = time.Since(w.c.began)
		o.Outcome, o.Err, o.Value, o.Index = r.Outcome, r.Err, r.Answer.Value, r.Index
		if err != nil {
			o.Outcome, o.Err = unknown, err.Error()
		}
		if o.Outcome == yes {
			seen[o.Key] = o.Value
			if !o.read() && group != counter {
				seen[o.Key] = o.Command.New
			}
		}
		w.mu.Lock()
		w.history = append(w.history, o)
		w.mu.Unlock()
	}
}

func (w *workload) command(what uint64, group int, key uint32, seen int64, rng *rand.Rand) command {
	c := command{ID: what, Key: key, New: int64(what)}
	switch {
	case group == counter:
		c.Do, c.New = add, 1+rng.Int64N(1e9)
	case group == register && rng.IntN(2) == 0:
		c.Do, c.Old = swap, seen
	case group == register:
		c.Do = write
	case rng.IntN(4) == 0:
		c.Do, c.New = remove, 0
	default:
		c.Do = put
	}
	return c
}
