package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// genNews draws updates about two peers in two lives each, in which everything can happen that keys can sign: versions with
// two contents, departures before and after changes, signs of life for contents that nobody has.
func genNews(t *rapid.T) []wire.Update {
	one := rapid.Custom(func(t *rapid.T) wire.Update {
		p := peer(rapid.ByteRange(1, 2).Draw(t, "peer"))
		start := t0 + 100_000*rapid.Int64Range(0, 1).Draw(t, "life")
		update := start + 1000*rapid.Int64Range(0, 2).Draw(t, "change")
		at := update + 1000*rapid.Int64Range(0, 5).Draw(t, "later") // in steps beyond BeatGap
		tag := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "content")
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return leaves(p, start, at)
		case 1:
			return beats(p, start, update, at)
		case 2:
			u := says(p, start, update, tag)
			u.Beat = beats(p, start, update, at).Beat
			return u
		default:
			return says(p, start, update, tag)
		}
	})
	return rapid.SliceOfN(one, 0, 25).Draw(t, "news")
}

// deliver applies the updates again and again until nothing changes: what was missing is asked for in the end.
func deliver(c *Core, news []wire.Update) {
	for changed := true; changed; {
		changed = false
		for _, u := range news {
			if c.Apply(u, t0+200_000).Verdict.Changed() {
				changed = true
			}
		}
	}
}

// believes describes all that a core tells others.
func believes(c *Core) string {
	var out []string
	c.Each(t0+200_000, func(u wire.Update) {
		s := fmt.Sprintf("%v start %d", u.Peer().Short(), u.Start())
		if u.Depart != nil {
			s += " departed" // the time of the departure does not count
		} else {
			s += fmt.Sprintf(" update %d content %x", u.Entry.Update, id.Of(string(u.Entry.Body)).Short())
			if r := c.Get(u.Peer()); r != nil {
				s += fmt.Sprintf(" alive %d", r.Alive())
			}
		}
		out = append(out, s)
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func TestMergeCommutes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		news := genNews(t)
		a, b := newCore(), newCore()
		deliver(a, news)
		deliver(b, rapid.Permutation(news).Draw(t, "other order"))
		if x, y := believes(a), believes(b); x != y {
			t.Fatalf("two orders, two beliefs:\n%s\n\n%s", x, y)
		}
	})
}

func TestMergeIsIdempotent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		news := genNews(t)
		c := newCore()
		deliver(c, news)
		before := believes(c)
		for _, u := range news {
			if out := c.Apply(u, t0+200_000); out.Verdict.Changed() {
				t.Fatalf("an update that had been delivered was %v", out.Verdict)
			}
		}
		if after := believes(c); after != before {
			t.Fatalf("belief changed:\n%s\n\n%s", before, after)
		}
	})
}

// What an update is passed on as does to others what the update did here: so forwarding only what changed loses nothing.
func TestForwardingConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		news := genNews(t)
		first, second := newCore(), newCore()
		for _, u := range news {
			if out := first.Apply(u, t0+200_000); out.Verdict.Changed() {
				second.Apply(out.Tell, t0+200_000)
			}
		}
		if x, y := believes(first), believes(second); x != y {
			t.Fatalf("the forwarder believes\n%s\nits neighbour\n%s", x, y)
		}
	})
}

// The state of one peer never goes back.
func TestBeliefOnlyMovesUp(t *testing.T) {
	t.Parallel()
	height := func(c *Core, p id.PeerID) [3]int64 {
		u, ok := c.Lookup(p)
		switch {
		case !ok:
			return [3]int64{}
		case u.Depart != nil:
			return [3]int64{u.Start(), 1, 0}
		default:
			return [3]int64{u.Start(), 0, u.Entry.Entry.Update}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		c := newCore()
		for _, u := range genNews(t) {
			before, rec := height(c, u.Peer()), c.Get(u.Peer())
			c.Apply(u, t0+200_000)
			if now := c.Get(u.Peer()); rec != nil && now != nil && rec.Entry.Start == now.Entry.Start && now.Alive() < rec.Alive() {
				t.Fatalf("the latest sign of life went from %d back to %d", rec.Alive(), now.Alive())
			}
			if after := height(c, u.Peer()); slices.Compare(after[:], before[:]) < 0 {
				t.Fatalf("from %v down to %v", before, after)
			}
		}
	})
}
