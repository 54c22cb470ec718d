package overlay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Unix(1_000_000, 0)

func peer(n int) id.PeerID { return id.PeerID{byte(n >> 8), byte(n)} }

func peers(from, to int) (out []id.PeerID) {
	for n := from; n < to; n++ {
		out = append(out, peer(n))
	}
	return out
}

func newOverlay(self id.PeerID, seed uint64) *Core {
	return New(Config{Self: self, Dial: 3, Accept: 12, Swap: time.Minute}, rand.New(rand.NewPCG(seed, 1)), t0)
}

func among(list []id.PeerID) func() []id.PeerID { return func() []id.PeerID { return list } }

func TestStepDialsWhatIsMissing(t *testing.T) {
	t.Parallel()
	c := newOverlay(peer(0), 1)
	all := peers(0, 20)
	plan := c.Step(t0, among(all))
	if len(plan.Dial) != 3 || slices.Contains(plan.Dial, peer(0)) || len(slices.Compact(slices.SortedFunc(slices.Values(plan.Dial), id.PeerID.Compare))) != 3 {
		t.Fatalf("dials %v, want three others", plan.Dial)
	}
	if again := c.Step(t0, among(all)); len(again.Dial) != 0 {
		t.Errorf("dials %v while three dials are under way", again.Dial)
	}
	c.Up(plan.Dial[0], true, t0)
	c.Failed(plan.Dial[1], t0)
	c.Unneeded(plan.Dial[2], t0)
	next := c.Step(t0, among(all))
	if len(next.Dial) != 2 {
		t.Errorf("dials %v, want two more", next.Dial)
	}
	for _, p := range next.Dial {
		if slices.Contains(plan.Dial, p) {
			t.Errorf("dials %v again at once", p)
		}
	}
	c.Up(peer(15), false, t0) // links that others dialled do not count
	if got := c.Step(t0, func() []id.PeerID { t.Error("asked for candidates without need"); return nil }); len(got.Dial) != 0 {
		t.Errorf("dials %v", got.Dial)
	}
}

func TestStepWaitsForRetries(t *testing.T) {
	t.Parallel()
	c := newOverlay(peer(0), 1)
	only := among(peers(1, 2))
	now := t0
	var pauses []time.Duration
	for range 12 {
		plan := c.Step(now, only)
		if len(plan.Dial) != 1 {
			t.Fatalf("at %v it dials %v", now.Sub(t0), plan.Dial)
		}
		c.Failed(peer(1), now)
		next := c.Step(now, only)
		if len(next.Dial) != 0 {
			t.Fatalf("dials again at once")
		}
		pauses = append(pauses, c.retries[peer(1)].At.Sub(now))
		now = c.retries[peer(1)].At
	}
	if first := pauses[0]; first < retryMin*3/4 || first > retryMin*5/4 {
		t.Errorf("the first pause is %v, want about %v", first, retryMin)
	}
	if last := pauses[11]; last < retryMax*3/4 || last > retryMax*5/4 {
		t.Errorf("the last pause is %v, want about %v", last, retryMax)
	}
	c.Step(now, among(nil)) // the peer is gone from the catalog
	if len(c.retries) != 0 {
		t.Error("remembers failures of peers that are gone")
	}
}

func TestSwap(t *testing.T) {
	t.Parallel()
	c := newOverlay(peer(0), 1)
	all := peers(1, 50)
	for i, p := range c.Step(t0, among(all)).Dial {
		c.Up(p, true, t0.Add(time.Duration(i)*time.Second))
	}
	oldest := c.oldestDialled()
	if plan := c.Step(t0.Add(59*time.Second), among(all)); len(plan.Dial)+len(plan.Drop) != 0 {
		t.Fatalf("swaps too early: %+v", plan)
	}
	now := t0.Add(time.Minute)
	plan := c.Step(now, among(all))
	if len(plan.Dial) != 1 || len(plan.Drop) != 0 {
		t.Fatalf("first dials the newcomer, then drops: %+v", plan)
	}
	c.Up(plan.Dial[0], true, now)
	plan = c.Step(now, among(all))
	if !slices.Equal(plan.Drop, []id.PeerID{oldest}) {
		t.Fatalf("drops %v, want the oldest, %v", plan.Drop, oldest)
	}
	c.Leave(oldest)
	if again := c.Step(now, among(all)); len(again.Drop)+len(again.Dial) != 0 {
		t.Errorf("while the oldest leaves: %+v", again)
	}
	c.Down(oldest, false, now)
	if c.Len() != 3 {
		t.Errorf("%d links, want 3", c.Len())
	}
}

func TestIncoming(t *testing.T) {
	t.Parallel()
	c := newOverlay(peer(100), 1)
	for n := range 12 {
		if answer, drop := c.Incoming(peer(n), false); answer != Accept || drop != (id.PeerID{}) {
			t.Fatalf("link %d: %v, drop %v", n, answer, drop)
		}
		c.Up(peer(n), false, t0)
	}
	if answer, _ := c.Incoming(peer(50), false); answer != Crowded {
		t.Errorf("a thirteenth link: %v, want crowded", answer)
	}
	// A peer without neighbours is never turned away.
	for n := 50; n < 60; n++ {
		answer, drop := c.Incoming(peer(n), true)
		if answer != Accept {
			t.Fatalf("a lonely peer: %v", answer)
		}
		if l, ok := c.Get(drop); !ok || l.Dialled || l.Leaving {
			t.Fatalf("in exchange %v is dropped, which is %+v, %v", drop, l, ok)
		}
		c.Leave(drop) // as the driver does; it takes a while until it is down
		c.Up(peer(n), false, t0)
		if _, accepted := c.count(); accepted != 12 {
			t.Fatalf("%d accepted links, want 12", accepted)
		}
	}
}

// Two sides that dial each other at once keep the same one of the two links, in whatever order they see things.
func TestCrossingDialsAgree(t *testing.T) {
	t.Parallel()
	a, b := peer(1), peer(2)
	rapid.Check(t, func(t *rapid.T) {
		// Each side sees the link it dialled come up, and the link that the other dialled come in, in either order.
		keeps := map[id.PeerID]string{}
		for _, self := range []id.PeerID{a, b} {
			other := a
			if self == a {
				other = b
			}
			c := newOverlay(self, 1)
			up := func(dialled bool) {
				if !c.Replaces(other, dialled) {
					return
				}
				c.Up(other, dialled, t0)
				keeps[self] = fmt.Sprintf("dialled by %v", map[bool]id.PeerID{true: self, false: other}[dialled].Short())
			}
			first := rapid.Bool().Draw(t, "first")
			up(first)
			up(!first)
		}
		if keeps[a] != keeps[b] {
			t.Fatalf("one keeps the link %s, the other the link %s", keeps[a], keeps[b])
		}
	})
}

func TestReplaces(t *testing.T) {
	t.Parallel()
	c := newOverlay(peer(5), 1)
	small, large := peer(1), peer(9)
	if !c.Replaces(small, true) || !c.Replaces(small, false) {
		t.Error("the first link to a peer is turned away")
	}
	c.Up(small, true, t0)
	if !c.Replaces(small, true) {
		t.Error("of two that this side dialled the newer stays")
	}
	if answer, _ := c.Incoming(small, false); answer != Accept {
		t.Errorf("a link that the smaller identity dialled: %v", answer)
	}
	c.Up(large, true, t0)
	if answer, _ := c.Incoming(large, false); answer != Duplicate {
		t.Errorf("a link that the larger identity dialled: %v", answer)
	}
	c.Leave(large)
	if answer, _ := c.Incoming(large, false); answer != Accept {
		t.Errorf("a link in place of one that is being ended: %v", answer)
	}
}

func TestAlone(t *testing.T) {
	t.Parallel()
	c := newOverlay(peer(0), 1)
	if since, alone := c.Alone(); !alone || !since.Equal(t0) {
		t.Errorf("at first: alone %v since %v", alone, since)
	}
	if _, ok := c.Random(); ok {
		t.Error("a random neighbour of nobody")
	}
	c.Up(peer(1), false, t0)
	if _, alone := c.Alone(); alone {
		t.Error("alone with a neighbour")
	}
	if p, ok := c.Random(); !ok || p != peer(1) {
		t.Errorf("the only neighbour is %v, %v", p, ok)
	}
	later := t0.Add(time.Hour)
	c.Down(peer(1), true, later)
	if since, alone := c.Alone(); !alone || !since.Equal(later) {
		t.Errorf("after the loss: alone %v since %v", alone, since)
	}
}

// Many nodes that follow the rules end up in one connected network in which nobody has too many links, through failures
// and newcomers.
func TestNetworksAreConnected(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		n := 2 + rng.IntN(120)
		w := newPlayground(n, seed)
		for round := range 30 {
			w.round()
			if round%5 == 4 { // some links break
				for range n / 4 {
					w.breakLink(rng)
				}
			}
		}
		w.round()
		w.round()
		if part := w.component(0); part != n {
			t.Errorf("seed %d: of %d nodes only %d are connected to the first", seed, n, part)
		}
		for i, c := range w.nodes {
			dialled, accepted := c.count()
			if dialled > 4 || accepted > 12 {
				t.Errorf("seed %d: node %d has %d dialled and %d accepted links", seed, i, dialled, accepted)
			}
		}
	}
}

// playground is a network of cores whose links come up at once.
type playground struct {
	nodes []*Core
	all   []id.PeerID
	now   time.Time
}

func newPlayground(n int, seed uint64) *playground {
	w := &playground{all: peers(0, n), now: t0}
	for i := range n {
		w.nodes = append(w.nodes, newOverlay(peer(i), seed<<16+uint64(i)))
	}
	return w
}

func (w *playground) index(p id.PeerID) int { return slices.Index(w.all, p) }

func (w *playground) round() {
	w.now = w.now.Add(2 * time.Second)
	for i, c := range w.nodes {
		plan := c.Step(w.now, among(w.all))
		for _, p := range plan.Drop {
			w.down(i, w.index(p), false)
		}
		for _, p := range plan.Dial {
			w.dial(i, w.index(p))
		}
	}
}

func (w *playground) dial(from, to int) {
	a, b := w.nodes[from], w.nodes[to]
	answer, drop := b.Incoming(peer(from), a.Len() == 0)
	switch answer {
	case Crowded:
		a.Failed(peer(to), w.now)
		return
	case Duplicate:
		a.Unneeded(peer(to), w.now)
		return
	}
	if drop != (id.PeerID{}) {
		w.down(to, w.index(drop), false)
	}
	b.Up(peer(from), false, w.now)
	if !a.Replaces(peer(to), true) {
		panic("the two sides disagree")
	}
	a.Up(peer(to), true, w.now)
}

func (w *playground) down(a, b int, failed bool) {
	w.nodes[a].Down(peer(b), failed, w.now)
	w.nodes[b].Down(peer(a), failed, w.now)
}

func (w *playground) breakLink(rng *rand.Rand) {
	i := rng.IntN(len(w.nodes))
	if p, ok := w.nodes[i].Random(); ok {
		w.down(i, w.index(p), true)
	}
}

// component returns how many nodes are connected to one, directly or through others.
func (w *playground) component(from int) int {
	seen := map[int]bool{from: true}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		for p := range w.nodes[queue[0]].links {
			if i := w.index(p); !seen[i] {
				seen[i] = true
				queue = append(queue, i)
			}
		}
	}
	return len(seen)
}
