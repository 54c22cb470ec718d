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
	c    *cluster
	pace time.Duration // between two calls of a client, on average
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu      sync.Mutex // guards all following fields
	clients int
	history []*op
}

// cellsFor is how long clients use the same cells: short histories are easy to check.
const cellsFor = 5 * time.Second

// startClients starts a client on each node for each group.
func startClients(c *cluster, pace time.Duration, seed uint64) *workload {
	ctx, cancel := context.WithCancel(context.Background())
	w := &workload{c: c, pace: pace, stop: cancel}
	for _, n := range c.nodes {
		for group := range kinds {
			who := w.client()
			rng := rand.New(rand.NewPCG(seed, uint64(who)))
			w.wg.Go(func() { w.run(ctx, who, n, group, rng) })
		}
	}
	c.t.Cleanup(cancel)
	return w
}

// client returns the number of a new client.
func (w *workload) client() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clients++
	return w.clients
}

// finish stops the clients and waits for their last calls. It reports whether all of them ended.
func (w *workload) finish() bool {
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
		key := uint32(time.Since(w.c.began)/cellsFor)*2 + uint32(rng.IntN(2))
		q := request{Ask: "read", Group: group, Key: key}
		if rng.IntN(3) > 0 {
			q.Ask, q.Command = "do", w.command(commandID(client, p, number), group, key, seen[key], rng)
		}
		switch rng.IntN(20) {
		case 0:
			q.Within = time.Duration(1 + rng.Int64N(int64(20*time.Millisecond)))
		case 1:
			q.Within = time.Duration(1 + rng.Int64N(int64(2*time.Second)))
		}
		if o := w.call(client, p, q); o.Outcome == yes {
			seen[key] = o.Value
			if !o.read() && group != counter {
				seen[key] = o.Command.New
			}
		}
	}
}

// call makes one call, and keeps what became of it.
func (w *workload) call(client int, p *process, q request) *op {
	o := &op{Client: client, Node: p.n.index, Life: p.life, Group: q.Group, Command: q.Command, Key: q.Key, Begin: time.Since(w.c.began)}
	if !o.read() {
		o.Key = q.Command.Key
	}
	r, err := p.ask(context.Background(), q)
	o.End = time.Since(w.c.began)
	o.Outcome, o.Err, o.Value, o.Index = r.Outcome, r.Err, r.Answer.Value, r.Index
	if err != nil {
		o.Outcome, o.Err = unknown, err.Error()
	}
	w.mu.Lock()
	w.history = append(w.history, o)
	w.mu.Unlock()
	return o
}

// commandID is that of a client's command, and higher than those of its earlier ones on this process.
func commandID(client int, p *process, number uint64) uint64 {
	return uint64(client)<<48 | uint64(p.life)<<32 | number
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
