package streams_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/streams"
)

// tick is an item that says which one it is.
type tick struct {
	Life uint64 // of the producer
	N    uint64 // from 1
	Key  string
	Pad  []byte
}

// account checks what one consumer gets: the items of each producer in order, and every hole told of, to the number.
type account struct {
	c *streams.Consumer[tick]

	mu       sync.Mutex
	of       map[streams.PeerID]*progress
	problems []string
	received uint64
	lost     uint64
	gaps     map[streams.GapCause]uint64
}

type progress struct {
	life    uint64
	next    uint64 // number that must come; zero: not known
	inexact bool   // holes of unknown size are allowed
}

func newAccount() *account {
	return &account{of: make(map[streams.PeerID]*progress), gaps: make(map[streams.GapCause]uint64)}
}

func (a *account) producer(p streams.PeerID) *progress {
	if a.of[p] == nil {
		a.of[p] = new(progress)
	}
	return a.of[p]
}

func (a *account) problem(format string, args ...any) {
	if len(a.problems) < 10 {
		a.problems = append(a.problems, fmt.Sprintf(format, args...))
	}
}

// gap is for streams.OnGap.
func (a *account) gap(g streams.Gap) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost += g.Lost
	a.gaps[g.Cause] += g.Lost
	p := a.producer(g.Producer)
	switch {
	case g.Cause == streams.ProducerRestarted:
		*p = progress{inexact: true}
	case !g.Exact:
		p.inexact = true
	case p.next > 0:
		p.next += g.Lost
	case p.life > 0:
		a.problem("a gap of %d before the first item", g.Lost)
	}
}

func (a *account) item(from streams.PeerID, v tick) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.received++
	p := a.producer(from)
	switch {
	case p.life == 0 || p.life != v.Life && p.inexact:
	case p.life != v.Life:
		a.problem("life %d of %s follows %d without a word", v.Life, from.Short(), p.life)
	case v.N < p.next:
		a.problem("item %d of %s comes after item %d", v.N, from.Short(), p.next-1)
	case v.N > p.next && !p.inexact:
		a.problem("item %d of %s comes where %d was due", v.N, from.Short(), p.next)
	}
	p.life, p.next, p.inexact = v.Life, v.N+1, false
}

// run receives until the consumer or ctx ends. After each item it calls after, if that is not nil.
func (a *account) run(ctx context.Context, after func()) {
	for {
		v, from, err := a.c.RecvFrom(ctx)
		if err != nil {
			return
		}
		a.item(from, v)
		if after != nil {
			after()
		}
	}
}

// complete reports whether everything up to item n of a producer's life has come or was told of.
func (a *account) complete(p streams.PeerID, life, n uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.problems) > 0 {
		return fmt.Errorf("%v", a.problems)
	}
	switch got := a.producer(p); {
	case got.life != life:
		return fmt.Errorf("is in life %d of %s, want %d", got.life, p.Short(), life)
	case got.next != n+1:
		return fmt.Errorf("item %d of %s is due, want %d; received %d, lost %v", got.next, p.Short(), n+1, a.received, a.gaps)
	}
	return nil
}

func (a *account) counts() (received, lost uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.received, a.lost
}

// fast makes consumers come back soon.
var fast = streams.WithBackoff(streams.Backoff{Initial: 20 * time.Millisecond, Max: 200 * time.Millisecond})
