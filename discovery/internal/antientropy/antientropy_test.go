package antientropy

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	t0   = int64(1_000_000)
	step = int64(10_000)
)

var network = id.Of("anti-entropy test")

func entry(p id.PeerID, start, update int64, content byte) *wire.Signed {
	e := &wire.Entry{Network: network, Peer: p, Start: start, Update: update, Tags: []id.ID{{content}}}
	s := &wire.Signed{Entry: e, Body: e.Append(nil)}
	copy(s.Sig[:], id.Of(string(s.Body)).String()) // stands for a signature, which also depends on the content
	return s
}

func beat(p id.PeerID, start, content, at int64) *wire.Beat {
	return &wire.Beat{Peer: p, Start: start, Content: content, At: at}
}

func newCore(self byte) *catalog.Core {
	c := catalog.New(catalog.Config{
		Self: id.PeerID{self}, Network: network, PurgeAfter: 300_000, MaxDrift: 1 << 40, MaxPeers: 1000, Burst: 1 << 30, Refill: 1,
	})
	s := entry(id.PeerID{self}, t0, t0, 0)
	c.SetLocal(&catalog.Record{Entry: s.Entry, Signed: s})
	return c
}

func items(c *catalog.Core) []Item {
	var out []Item
	c.Each(t0, func(u wire.Update) { out = append(out, ItemOf(u)) })
	return out
}

// exchange plays the whole comparison between two catalogs, as the driver does over a stream, and returns what travelled.
func exchange(asks, serves *catalog.Core, salt wire.Salt) (rows, sent, wanted int) {
	mine, theirs := items(asks), items(serves)
	n := Buckets(len(mine))
	differing := Differing(Digests(mine, salt, step, n), Digests(theirs, salt, step, n))
	var answer []wire.Row
	at := make(map[wire.Prefix]id.PeerID)
	for _, it := range In(theirs, differing, n) {
		answer = append(answer, it.Row)
		at[it.Prefix] = it.Peer
	}
	plan := Compare(In(mine, differing, n), answer, step, func(*wire.Row) bool { return true })
	for _, p := range plan.Send {
		u, _ := asks.Lookup(p)
		serves.Apply(u, t0)
	}
	for _, p := range plan.SendBeats {
		u, _ := asks.Lookup(p)
		serves.Apply(wire.Update{Beat: u.Beat}, t0)
	}
	for _, p := range plan.Want.Entries {
		u, _ := serves.Lookup(at[p])
		asks.Apply(u, t0)
	}
	for _, p := range plan.Want.Beats {
		u, _ := serves.Lookup(at[p])
		asks.Apply(wire.Update{Beat: u.Beat}, t0)
	}
	return len(answer), len(plan.Send) + len(plan.SendBeats), len(plan.Want.Entries) + len(plan.Want.Beats)
}

// genUpdate draws something about one of a few dozen peers: contents of several versions, two contents of one version,
// signs of life a whole step apart, departures.
func genUpdate(t *rapid.T) wire.Update {
	p := id.PeerID{100 + rapid.ByteRange(0, 50).Draw(t, "peer")}
	start := t0 + 1000*rapid.Int64Range(0, 1).Draw(t, "life")
	update := start + rapid.Int64Range(0, 2).Draw(t, "change")
	at := t0 + 2000 + step*rapid.Int64Range(0, 3).Draw(t, "steps")
	u := wire.Update{Entry: entry(p, start, update, rapid.ByteRange(1, 2).Draw(t, "content"))}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return wire.Update{Depart: &wire.Depart{Peer: p, Start: start, At: at}}
	case 1:
		u.Beat = beat(p, start, update, at)
	}
	return u
}

// One comparison makes two catalogs equal, whatever each of them had heard; the next finds nothing.
func TestOneComparisonIsEnough(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := newCore(1), newCore(2)
		for _, u := range rapid.SliceOfN(rapid.Custom(genUpdate), 0, 60).Draw(t, "news") {
			switch rapid.IntRange(0, 2).Draw(t, "heard by") {
			case 0:
				a.Apply(u, t0)
			case 1:
				b.Apply(u, t0)
			default:
				a.Apply(u, t0)
				b.Apply(u, t0)
			}
		}
		salt := wire.Salt(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "salt"))
		exchange(a, b, salt)
		if x, y := describe(a), describe(b); x != y {
			t.Fatalf("one has\n%s\nthe other\n%s", x, y)
		}
		if rows, sent, wanted := exchange(a, b, wire.Salt{9}); rows+sent+wanted != 0 {
			t.Fatalf("a second comparison moved %d rows, sent %d and wanted %d", rows, sent, wanted)
		}
	})
}

// describe tells all that counts, sorted by peer.
func describe(c *catalog.Core) string {
	all := items(c)
	slices.SortFunc(all, func(a, b Item) int { return bytes.Compare(a.Prefix[:], b.Prefix[:]) })
	out := ""
	for _, it := range all {
		out += fmt.Sprintf("%x start %d update %d departed %v check %x age %d\n",
			it.Prefix, it.Start, it.Update, it.Departed, it.Check, age(&it.Row, step))
	}
	return out
}

// The digests agree exactly when the lists do, in whatever order they are.
func TestDigests(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCore(1)
		for _, u := range rapid.SliceOfN(rapid.Custom(genUpdate), 1, 40).Draw(t, "news") {
			c.Apply(u, t0)
		}
		list := items(c)
		n := Buckets(len(list))
		salt := wire.Salt{byte(rapid.IntRange(0, 255).Draw(t, "salt"))}
		digests := Digests(list, salt, step, n)
		shuffled := rapid.Permutation(list).Draw(t, "order")
		if d := Differing(digests, Digests(shuffled, salt, step, n)); len(d) > 0 {
			t.Fatalf("buckets %v depend on the order", d)
		}
		changed := slices.Clone(list)
		at := rapid.IntRange(0, len(list)-1).Draw(t, "which")
		switch it := &changed[at]; rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			it.Start++
		case 1:
			it.Check++
		case 2:
			it.Update += 1000
		default:
			if it.Departed {
				return // its time does not count
			}
			it.Alive += step
		}
		want := []uint32{bucket(list[at].Prefix, n)}
		if d := Differing(digests, Digests(changed, salt, step, n)); !slices.Equal(d, want) {
			t.Fatalf("buckets %v differ, want %v", d, want)
		}
		if d := Differing(digests, Digests(list, wire.Salt{1, 2, 3}, step, n)); len(d) == 0 {
			t.Fatal("the salt does not matter")
		}
	})
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 16, 1: 16, 128: 16, 129: 16, 136: 32, 1000: 128, 20_000: 4096, 1 << 20: wire.MaxBuckets} {
		if got := Buckets(n); got != want {
			t.Errorf("%d items in %d buckets, want %d", n, got, want)
		}
	}
	for n := range 5000 {
		if b := Buckets(n); b&(b-1) != 0 {
			t.Fatalf("%d items in %d buckets, which is no power of two", n, b)
		}
	}
}

// A row that the other side sends twice, or for two peers with one prefix, is harmless; and what is not acceptable is not
// asked for.
func TestCompareOddities(t *testing.T) {
	t.Parallel()
	p := id.PeerID{1}
	mine := []Item{ItemOf(wire.Update{Entry: entry(p, t0, t0, 1)})}
	newer := mine[0].Row
	newer.Update++
	all := func(*wire.Row) bool { return true }
	if plan := Compare(mine, []wire.Row{newer, newer, newer}, step, all); len(plan.Want.Entries) != 1 || len(plan.Send) != 0 {
		t.Errorf("of one row three times: %+v", plan)
	}
	stranger := wire.Row{Prefix: wire.Prefix{9}, Start: 1, Update: 1, Alive: 1}
	none := func(*wire.Row) bool { return false }
	if plan := Compare(mine, []wire.Row{newer, stranger}, step, none); len(plan.Want.Entries)+len(plan.Want.Beats) != 0 {
		t.Errorf("asks for what it would refuse: %+v", plan)
	}
	fresher := mine[0].Row
	fresher.Alive += 5 * step
	if plan := Compare(mine, []wire.Row{fresher}, step, none); len(plan.Want.Beats) != 0 || len(plan.SendBeats) != 0 {
		t.Errorf("asks for a sign of life that it would refuse: %+v", plan)
	}
}
