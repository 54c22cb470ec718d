package host

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// slowAfter is how long one call of the state machine may last until it is told.
const slowAfter = 5 * time.Second

// Deed is a call of the state machine.
type Deed uint8

// What a machine may be at.
const (
	Applying    Deed = iota + 1 // a command
	Batching                    // a batch of commands
	Yielding                    // waits for its queries, to apply a command
	Viewing                     // makes a snapshot
	Restoring                   // takes in a piece of a state
	Remembering                 // reads its own saved state
)

var deeds = [...]string{
	Applying:    "the state machine has been applying command %d",
	Batching:    "the state machine has been applying a batch that begins with command %d",
	Yielding:    "queries of the state machine have held up command %d",
	Viewing:     "the state machine's Snapshot after command %d has been running",
	Restoring:   "the state machine's Restore has been at piece %d of the state",
	Remembering: "the state machine's Restore has been reading the saved state as of command %d",
}

// Doing is what a machine is at. Whoever calls the machine sets it, and the ticker looks at it: a call that is under way at
// one tick after the other is a slow one. That costs one store for each call.
type Doing struct{ word atomic.Uint64 }

// Set notes that a call begins, for the index.
func (d *Doing) Set(what Deed, index core.Index) { d.word.Store(uint64(what)<<56 | uint64(index)) }

// Done notes that it has ended.
func (d *Doing) Done() { d.word.Store(0) }

// Observed is an optional interface of a [Machine].
type Observed interface {
	Doing() *Doing
}

// Slow is a call of the state machine that has lasted for long. It is immutable.
type Slow struct {
	What  string
	Since time.Duration // clock, to a tick
}

// slowWatch is what the group loop, which owns it, has seen of a Doing.
type slowWatch struct {
	of    *Doing
	word  uint64
	since time.Duration
	told  bool
}

// look returns a call that is slow, nil if there is none. told says that it was so before, and ended what was and is not.
func (w *slowWatch) look(now time.Duration) (slow *Slow, told bool, ended *Slow) {
	was := Slow{w.text(), w.since}
	if word := w.of.word.Load(); word != w.word {
		if w.told {
			ended = &was
		}
		w.word, w.since, w.told = word, now, false
		return nil, false, ended
	}
	if w.word == 0 || now-w.since < slowAfter {
		return nil, false, nil
	}
	told, w.told = w.told, true
	return &was, told, nil
}

func (w *slowWatch) text() string {
	what := Deed(w.word >> 56)
	if what == 0 || int(what) >= len(deeds) {
		return ""
	}
	return fmt.Sprintf(deeds[what], w.word&(1<<56-1))
}

// watchMachine is called with each tick.
func (g *Group) watchMachine(now time.Duration) {
	var all []Slow
	longest := time.Duration(0)
	for i := range g.watches {
		slow, told, ended := g.watches[i].look(now)
		if ended != nil {
			g.log.Info("a slow call of the state machine has ended", "what", ended.What, "took", (now - ended.Since).Round(Tick))
		}
		if slow == nil {
			continue
		}
		all = append(all, *slow)
		longest = max(longest, now-slow.Since)
		if !told {
			g.log.Warn("the state machine is slow", "what", slow.What, "since", g.Time(slow.Since))
		}
	}
	g.meter.slow.Set(longest.Seconds())
	if !slices.Equal(all, g.State().Slow) {
		g.state.change(func(s *State) { s.Slow = all })
	}
}

// Slow says in words which calls of the state machine have lasted for long, empty if none.
func (g *Group) Slow(s *State) string {
	var texts []string
	for _, x := range s.Slow {
		texts = append(texts, fmt.Sprintf("%s for %v", x.What, (g.svc.now()-x.Since).Round(time.Second)))
	}
	return strings.Join(texts, "; ")
}
