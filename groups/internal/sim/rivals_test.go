package sim

import (
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// rivalRun is a group whose members found histories apart from each other, and go on through partitions that come and
// go. Nobody loses their memory, so nothing that was acknowledged anywhere may be missing in the end.
type rivalRun struct {
	w       *World
	n       int
	history []*Op
	past    []*Node // earlier lives
	logs    map[core.GenesisID]map[core.Index]string
	broken  error
	stopped bool
	seq     int
}

func (r *rivalRun) client(c int) {
	w := r.w
	if r.stopped {
		return
	}
	n := w.nodes[w.Rng.IntN(len(w.nodes))]
	next := func() {
		w.After(time.Duration(50+w.Rng.IntN(400))*time.Millisecond, func() { r.client(c) })
	}
	var o *Op
	if o = (&Op{Client: c, Name: "x"}); w.Rng.IntN(3) == 0 {
		w.Read(n, o, next)
	} else {
		r.seq++
		o.ID, o.Call = r.seq, fmt.Sprintf("%d:w x %d", r.seq, r.seq)
		w.Submit(n, o, next)
	}
	r.history = append(r.history, o)
	w.Mourn(o)
}

// log returns the log of the history that a node is part of. One that was forked off begins with what the node has.
func (r *rivalRun) log(n *Node) map[core.Index]string {
	log := r.logs[n.Status.Genesis]
	if log == nil {
		log = make(map[core.Index]string)
		r.logs[n.Status.Genesis] = log
		for _, old := range n.Log {
			log[old.Index] = old.Cmd
		}
	}
	return log
}

// note keeps the logs of all histories, and sees that replicas agree.
func (r *rivalRun) note(n *Node, e Entry) {
	if n.Status == nil {
		return // it begins anew before it has said anything
	}
	log := r.log(n)
	if have, ok := log[e.Index]; ok && have != e.Cmd && r.broken == nil {
		r.broken = fmt.Errorf("n%d applied %q at index %d of %x, others %q", n.Index, e.Cmd, e.Index, n.Status.Genesis[:4], have)
	}
	if e.Index != core.Index(len(n.Log)) && r.broken == nil {
		r.broken = fmt.Errorf("n%d applied index %d after %d commands", n.Index, e.Index, len(n.Log)-1)
	}
	log[e.Index] = e.Cmd
}

// load takes in what a node did not apply itself.
func (r *rivalRun) load(n *Node) {
	if n.Status == nil {
		return
	}
	log := r.log(n)
	for _, e := range n.Log {
		if have, ok := log[e.Index]; ok && have != e.Cmd && r.broken == nil {
			r.broken = fmt.Errorf("n%d loads %q at index %d of %x, others have %q", n.Index, e.Cmd, e.Index, n.Status.Genesis[:4], have)
		}
		log[e.Index] = e.Cmd
	}
}

// one reports whether all machines are online in one history, and agree.
func (r *rivalRun) one() bool {
	for _, n := range r.w.nodes {
		if n.Fatal != nil {
			r.broken = fmt.Errorf("n%d gave up: %w", n.Index, n.Fatal)
		}
		if n.Status == nil || !n.Status.Online || n.Status.Genesis != r.w.nodes[0].Status.Genesis || len(n.Status.Members) != r.n ||
			len(n.Log) != len(r.w.nodes[0].Log) {
			return false
		}
	}
	for _, o := range r.history {
		if !o.Done {
			return false
		}
	}
	return true
}

// once checks that everything acknowledged is in the final history exactly once, unless it may be lost, and nothing that
// was refused.
func (r *rivalRun) once(lossy bool) error {
	count := make(map[string]int)
	for _, e := range r.w.nodes[0].Log {
		count[e.Cmd]++
		if count[e.Cmd] > 1 {
			return fmt.Errorf("%q was applied twice", e.Cmd)
		}
	}
	handed := r.handedOver()
	for _, o := range r.history {
		if o.Call == "" {
			continue
		}
		switch n := count[o.Call]; {
		case o.OK && n == 0 && !lossy && !handed[o.Call]:
			return fmt.Errorf("%q was acknowledged in %x and is lost", o.Call, o.In[:4])
		case !o.OK && !o.Maybe && n > 0:
			return fmt.Errorf("%q was refused and applied", o.Call)
		}
	}
	return nil
}

// handedOver returns the calls that the application has got from histories that gave way.
func (r *rivalRun) handedOver() map[string]bool {
	calls := make(map[string]bool)
	for _, n := range append(r.past, r.w.nodes...) {
		for _, x := range n.News {
			for _, it := range x.Items {
				calls[string(it.Payload)] = true
			}
		}
		for _, log := range n.Kept {
			for _, e := range log {
				calls[e.Cmd] = true
			}
		}
	}
	return calls
}

// linearizable checks each history by itself, with its log as the witness: calls stand in the log in an order that fits
// their times, and reads see a state that fits.
func (r *rivalRun) linearizable() error {
	by := make(map[core.GenesisID][]*Op)
	for _, o := range r.history {
		if o.OK {
			by[o.In] = append(by[o.In], o)
		}
	}
	for g, ops := range by {
		log := r.logs[g]
		for _, o := range ops {
			read := o.Call == ""
			low, high := core.Index(0), core.Index(len(log))
			for _, x := range ops {
				if x.Call == "" {
					continue
				}
				if x.End < o.Begin {
					low = max(low, x.Index)
				}
				if x.Begin > o.End {
					high = min(high, x.Index-1)
				}
			}
			if !read {
				if o.Index <= low || o.Index > high || log[o.Index] != o.Call {
					return fmt.Errorf("%q at index %d of %x should be between %d and %d", o.Call, o.Index, g[:4], low, high)
				}
				continue
			}
			ok := o.Out == "" && low == 0
			for i := max(low, 1); i <= high; i++ {
				ok = ok || strings.HasSuffix(log[i], ":w x "+o.Out)
			}
			if !ok {
				return fmt.Errorf("a read in %x from %v to %v saw %q, which no state between %d and %d has", g[:4], o.Begin, o.End, o.Out, low, high)
			}
		}
	}
	return nil
}

// newRivalRun returns the run of a seed, on a world of two to five machines that are not started yet.
func newRivalRun(t *testing.T, seed uint64, tune func(*core.Config)) *rivalRun {
	cryptotest.SetGlobalRandom(t, seed)
	w := New(seed, Network{Delay: time.Millisecond, Jitter: 10 * time.Millisecond})
	w.Tune = tune
	if *trace {
		w.Keep()
	}
	return &rivalRun{w: w, n: 2 + w.Rng.IntN(4), logs: make(map[core.GenesisID]map[core.Index]string)}
}

// begin has the run watch the machines, and clients call them.
func (r *rivalRun) begin() {
	r.w.Applied, r.w.Loaded = r.note, r.load
	r.w.Notice = func(n *Node) {
		if n.Status != nil {
			r.log(n)
		}
	}
	for c := range 1 + r.w.Rng.IntN(3) {
		r.client(c)
	}
}

func playRivals(t *testing.T, seed uint64, tune func(*core.Config)) (*rivalRun, error) {
	r := newRivalRun(t, seed, tune)
	w := r.w
	parts := 1 + w.Rng.IntN(r.n)
	part := func() func(int) int {
		of := make([]int, r.n)
		for i := range of {
			of[i] = w.Rng.IntN(parts)
		}
		return func(i int) int { return of[i] }
	}
	w.isolate(part(), r.n)
	for i := range r.n {
		pref := core.Normal
		if i > 0 && w.Rng.IntN(6) == 0 {
			pref = core.Reluctant
		}
		w.Start(i, pref, 1)
	}
	r.begin()
	if w.Rng.IntN(2) == 0 {
		w.Net.Loss, w.Net.Duplicate = float64(w.Rng.IntN(10))/100, float64(w.Rng.IntN(5))/100
	}
	w.Run(time.Duration(4+w.Rng.IntN(8)) * time.Second)
	for range 1 + w.Rng.IntN(4) {
		w.Heal()
		w.Run(time.Duration(200+w.Rng.IntN(4000)) * time.Millisecond)
		w.isolate(part(), r.n)
		w.Run(time.Duration(500+w.Rng.IntN(15000)) * time.Millisecond)
	}
	w.Heal()
	w.Net.Loss, w.Net.Duplicate = 0, 0
	if w.Rng.IntN(2) == 0 {
		w.Run(5 * time.Second)
	}
	r.stopped = true
	if !w.Until(120*time.Second, func() bool { return r.broken != nil || r.one() }) {
		return r, fmt.Errorf("no single history: %v", r.describe())
	}
	if r.broken != nil {
		return r, r.broken
	}
	if err := r.once(false); err != nil {
		return r, err
	}
	return r, r.linearizable()
}

func (r *rivalRun) describe() []string {
	s := Scenario{World: r.w, History: r.history}
	out := s.describe()
	for _, n := range r.w.nodes {
		if n.Status != nil {
			out = append(out, fmt.Sprintf("n%d in %x applied %d note %q", n.Index, n.Status.Genesis[:4], len(n.Log), n.Status.Note))
		}
	}
	return out
}

// TestAvailability plays the same with groups that go on without a majority: both sides of a partition take commands, and
// all of them are there in the end.
func TestAvailability(t *testing.T) {
	forks, done := 0, 0
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		r, err := playRivals(t, seed, func(c *core.Config) { c.AvailabilityFirst = 3 * time.Second })
		for _, x := range r.w.nodes {
			for _, news := range x.News {
				if news.Kind == core.NewsForked {
					forks++
				}
			}
		}
		for _, o := range r.history {
			if o.OK {
				done++
			}
		}
		if *trace {
			t.Log("\n" + strings.Join(r.w.Trace(), "\n"))
		}
		if err != nil {
			t.Fatalf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestAvailability -sim.first=%d -sim.seeds=1 -sim.trace -v", seed, err, seed)
		}
	}
	t.Logf("%d seeds: %d operations, %d forks", *seeds, done, forks)
	if forks < *seeds/4 {
		t.Errorf("only %d forks", forks)
	}
}

// TestRivals plays groups that were founded apart and partitioned again and again, with clients: in the end there is one
// history with every acknowledged command in it exactly once, and each history is linearizable by itself.
func TestRivals(t *testing.T) {
	from, n := *first, *seeds
	merges, done := 0, 0
	for seed := from; seed < from+uint64(n); seed++ {
		r, err := playRivals(t, seed, nil)
		for _, x := range r.w.nodes {
			for _, news := range x.News {
				if news.Kind == core.NewsMerged {
					merges++
				}
			}
		}
		for _, o := range r.history {
			if o.OK {
				done++
			}
		}
		if *trace {
			t.Log("\n" + strings.Join(r.w.Trace(), "\n"))
		}
		if err != nil {
			t.Fatalf("seed %d: %v\nrun again: go test ./groups/internal/sim -run TestRivals -sim.first=%d -sim.seeds=1 -sim.trace -v", seed, err, seed)
		}
	}
	t.Logf("%d seeds: %d operations, members changed history %d times", n, done, merges)
	if merges < n/2 {
		t.Errorf("only %d merges", merges)
	}
}
