package genesis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// The explorer plays the merging protocol with random schedules. A history is modelled as one log that takes entries
// atomically; whatever is between histories is as bad as can be: messages are lost, doubled and late, what leaders know
// of each other is old, and leaders change.

// bugs are put in on purpose, to see that the checks find them.
type bugs struct {
	dissolveEarly bool // a history dissolves before all its commands are taken in elsewhere
	ignoreAttempt bool // answers to earlier attempts count, and so do requests
}

type command struct{ session, number uint64 }

// history is one genesis.
type history struct {
	id       ID
	line     Line
	log      []command // that count
	sessions *member.Sessions
	merger   Merger
	pending  bool // an entry about merging is on its way into the log
	seen     map[ID]Rival
}

func (h *history) key() Key { return Key{Commands: uint64(len(h.log)), ID: h.id} }

func (h *history) take(c command) {
	if h.line.Phase == Active && h.sessions.Take(c.session, c.number) {
		h.log = append(h.log, c)
	}
}

type world struct {
	rng    *rand.Rand
	bugs   bugs
	now    time.Duration
	loss   float64
	lag    time.Duration
	plan   map[time.Duration][]func()
	groups []*history
	issued []command
	home   []ID // of each client
	calls  []uint64
}

const (
	step  = 10 * time.Millisecond
	churn = time.Minute // for so long leaders change
)

func (w *world) after(d time.Duration, do func()) {
	at := w.now + max(d/step, 1)*step
	w.plan[at] = append(w.plan[at], do)
}

func (w *world) random(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(d) + 1))
}

// send delivers a message, or not, or more than once.
func (w *world) send(deliver func()) {
	for w.rng.Float64() >= w.loss {
		w.after(w.random(w.lag), deliver)
		if w.rng.Float64() >= w.loss/2 {
			return
		}
	}
}

func (w *world) get(g ID) *history {
	return w.groups[slices.IndexFunc(w.groups, func(h *history) bool { return h.id == g })]
}

// propose puts an entry into a log, a little later, or loses it, as when the leader changes.
func (w *world) propose(h *history, e Entry) {
	h.pending = true
	lost := w.now < churn && w.rng.Float64() < w.loss/4
	w.after(w.random(w.lag/2), func() {
		h.pending = false
		if !lost {
			h.line.Apply(&e)
		} else {
			h.merger = Merger{}
		}
	})
}

func newWorld(seed uint64, b bugs, clients int) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), bugs: b, plan: make(map[time.Duration][]func())}
	w.loss = []float64{0, 0.1, 0.4}[w.rng.IntN(3)]
	w.lag = []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second}[w.rng.IntN(3)]
	for i := range 2 + w.rng.IntN(4) {
		h := &history{id: ID{byte(i + 1)}, sessions: member.NewSessions(0), seen: make(map[ID]Rival)}
		w.groups = append(w.groups, h)
	}
	for c := range clients {
		w.home = append(w.home, w.groups[w.rng.IntN(len(w.groups))].id)
		w.calls = append(w.calls, 0)
		for range w.rng.IntN(5) {
			w.call(c)
		}
	}
	return w
}

// call has a client do a command where it is at home, if that takes one.
func (w *world) call(c int) {
	h := w.get(w.home[c])
	for h.line.Phase == Dissolved {
		h = w.get(h.line.Into)
	}
	w.home[c] = h.id
	if h.line.Phase == Frozen {
		return
	}
	w.calls[c]++
	x := command{uint64(c + 1), w.calls[c]}
	h.take(x)
	w.issued = append(w.issued, x)
}

// tick lets each leader do what it wants.
func (w *world) tick() {
	for _, h := range w.groups {
		if w.now < churn && w.rng.Float64() < 0.002 && w.loss > 0 {
			h.merger = Merger{} // another leader
		}
		for _, o := range w.groups {
			if o != h && o.line.Phase != Dissolved && w.rng.Float64() < 0.05 {
				r := Rival{Key: o.key(), Frozen: o.line.Phase == Frozen}
				w.send(func() { h.seen[r.Key.ID] = r })
			}
		}
		v := &View{Now: w.now, Line: &h.line, Busy: h.pending, Own: h.key(), Random: w.rng.Int64N}
		for _, o := range w.groups {
			r, ok := h.seen[o.id]
			if ok && o.line.Phase == Dissolved && w.rng.Float64() < 0.2 {
				delete(h.seen, o.id)
			} else if ok {
				v.Rivals = append(v.Rivals, r)
			}
		}
		w.act(h, h.merger.Next(v))
	}
}

func (w *world) act(h *history, a Action) {
	var o *history
	if a.Target != (ID{}) {
		o = w.get(a.Target)
	}
	switch a.Step {
	case DoFreeze:
		w.propose(h, Entry{Kind: Freeze, Attempt: a.Attempt, Other: a.Target, Key: h.key()})
	case DoThaw:
		w.propose(h, Entry{Kind: Thaw, Attempt: a.Attempt})
	case DoDissolve:
		w.propose(h, Entry{Kind: Dissolve, Attempt: a.Attempt})
	case AskAbsorb, AskBook:
		x := &wire.Absorb{Genesis: o.id, From: h.id, Attempt: a.Attempt, Done: a.Step == AskBook, Commands: uint64(len(h.log))}
		w.send(func() { w.asked(h, o, x) })
	case SendPending:
		at := min(a.At, uint64(len(h.log)))
		n := min(uint64(1+w.rng.IntN(3)), uint64(len(h.log))-at)
		chunk := h.log[at : at+n]
		last := at+n == uint64(len(h.log))
		if w.bugs.dissolveEarly {
			last = true
		}
		w.send(func() {
			if o.line.Phase != Active || o.line.Grant(h.id) != a.Attempt && !w.bugs.ignoreAttempt {
				return
			}
			for _, c := range chunk {
				o.take(c)
			}
			w.send(func() {
				attempt := a.Attempt
				if w.bugs.ignoreAttempt {
					attempt = h.line.Attempt
				}
				h.merger.Sent(w.now, &h.line, o.id, attempt, at+n, last)
			})
		})
	}
}

func (w *world) asked(h, o *history, x *wire.Absorb) {
	v, e := Answer(&o.line, o.id, x)
	if e != nil {
		if o.pending {
			return
		}
		w.propose(o, *e)
		return
	}
	if v == nil {
		return
	}
	w.send(func() {
		if w.bugs.ignoreAttempt {
			c := *v
			c.Attempt = h.line.Attempt
			h.merger.Verdict(w.now, &h.line, h.id, &c)
			return
		}
		h.merger.Verdict(w.now, &h.line, h.id, v)
	})
}

// run plays until one history is left and returns what is wrong.
func (w *world) run(live bool) error {
	active := func() (n int) {
		for _, h := range w.groups {
			if h.line.Phase != Dissolved {
				n++
			}
		}
		return n
	}
	quiet := 0
	for ; w.now < 20*time.Minute && quiet < 500; w.now += step {
		for _, do := range w.plan[w.now] {
			do()
		}
		delete(w.plan, w.now)
		w.tick()
		if live && w.now < 20*time.Second {
			for c := range w.calls {
				if w.rng.Float64() < 0.02 {
					w.call(c)
				}
			}
		} else if active() == 1 {
			quiet++
		}
		if active() == 0 {
			break
		}
	}
	if n := active(); n != 1 {
		return fmt.Errorf("%d histories are left after %v", n, w.now)
	}
	for _, h := range w.groups {
		if h.line.Phase == Dissolved {
			continue
		}
		if len(h.log) != len(w.issued) {
			return fmt.Errorf("%d commands of %d are left", len(h.log), len(w.issued))
		}
		next := make(map[uint64]uint64)
		for _, c := range h.log {
			if next[c.session]++; next[c.session] != c.number {
				return fmt.Errorf("call %d of session %d stands where %d should", c.number, c.session, next[c.session])
			}
		}
	}
	return nil
}

func explore(seed uint64, b bugs) error {
	return newWorld(seed, b, 1+int(seed%4)).run(seed%2 == 0)
}

// TestExploreMerging plays random schedules: however they go one history is left, with every command exactly once and in
// the order of its session.
func TestExploreMerging(t *testing.T) {
	t.Parallel()
	runs := uint64(1000)
	if testing.Short() {
		runs = 200
	}
	for seed := range runs {
		if err := explore(seed, bugs{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestExplorerFindsBugs makes sure that the checks can fail.
func TestExplorerFindsBugs(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]bugs{
		"dissolve before all is proposed": {dissolveEarly: true},
		"ignore the attempt number":       {ignoreAttempt: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(2300); seed < 6000; seed++ {
				if err := explore(seed, b); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("nothing found")
		})
	}
}
