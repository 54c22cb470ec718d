package catalog

import (
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	network = id.Of("catalog test")
	self    = peer(0)
)

// Times of the tests, in milliseconds.
const (
	t0    = int64(1_000_000)
	purge = int64(300_000)
	drift = int64(30_000)
)

func peer(n byte) id.PeerID { return id.PeerID{n} }

func newCore(change ...func(*Config)) *Core {
	cfg := Config{
		Self: self, Network: network, PurgeAfter: purge, MaxDrift: drift, MaxPeers: 100, Burst: 1 << 30, Refill: 1000,
	}
	for _, fn := range change {
		fn(&cfg)
	}
	c := New(cfg)
	c.SetLocal(&Record{Entry: entry(self, t0, t0).Entry, Signed: entry(self, t0, t0)})
	return c
}

// entry returns an entry as if it had been signed: a core does not look at signatures.
func entry(p id.PeerID, start, update int64, tags ...string) *wire.Signed {
	e := &wire.Entry{Network: network, Peer: p, Start: start, Update: update}
	for _, t := range tags {
		e.Tags = append(e.Tags, id.Of(t))
	}
	e.Sort()
	return &wire.Signed{Entry: e, Body: e.Append(nil)}
}

func says(p id.PeerID, start, update int64, tags ...string) wire.Update {
	return wire.Update{Entry: entry(p, start, update, tags...)}
}

func beats(p id.PeerID, start, content, at int64) wire.Update {
	return wire.Update{Beat: &wire.Beat{Peer: p, Start: start, Content: content, At: at}}
}

func leaves(p id.PeerID, start, at int64) wire.Update {
	return wire.Update{Depart: &wire.Depart{Peer: p, Start: start, At: at}}
}

// step applies an update at a time and says what should come of it.
type step struct {
	u    wire.Update
	at   int64
	want Verdict
}

func run(t *testing.T, c *Core, steps ...step) {
	t.Helper()
	for i, s := range steps {
		seen := c.Examine(s.u, s.at)
		got := c.Apply(s.u, s.at)
		if got.Verdict != s.want {
			t.Fatalf("step %d: %v, want %v", i, got.Verdict, s.want)
		}
		if seen.Verdict != got.Verdict && got.Verdict != Held {
			t.Errorf("step %d: examined as %v, applied as %v", i, seen.Verdict, got.Verdict)
		}
		if seen.Age != got.Age {
			t.Errorf("step %d: ages %d and %d", i, seen.Age, got.Age)
		}
		p := s.u.Peer()
		if out := got; out.Verdict.Changed() && out.Verdict != Departed && (out.After == nil || c.Get(p) != out.After) {
			t.Errorf("step %d: the record is %+v, the outcome says %+v", i, c.Get(p), out.After)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	p, q := peer(1), peer(2)
	foreign := says(p, t0, t0)
	foreign.Entry.Entry.Network = id.Of("another")
	both := says(p, t0, t0+5000, "x")
	both.Beat = beats(p, t0, t0+5000, t0+9000).Beat
	for name, steps := range map[string][]step{
		"new, again, newer, older": {
			{says(p, t0, t0), t0, Added}, {says(p, t0, t0), t0, Known},
			{says(p, t0, t0+1), t0 + 1, Updated}, {says(p, t0, t0), t0 + 1, Known},
		},
		"a newer incarnation wins over a newer change": {
			{says(p, t0, t0+500), t0 + 500, Added}, {says(p, t0+1, t0+1), t0 + 500, Updated}, {says(p, t0, t0+600), t0 + 700, Known},
		},
		"two contents of one version: the larger one wins": {
			{says(p, t0, t0, "a"), t0, Added}, {says(p, t0, t0, "a", "b"), t0, Updated}, {says(p, t0, t0, "a"), t0, Known},
		},
		"signs of life": {
			{beats(p, t0, t0, t0+1000), t0, Missing}, {says(p, t0, t0), t0, Added},
			{beats(p, t0, t0, t0+1000), t0, Refreshed}, {beats(p, t0, t0, t0+1000), t0, Known},
			{beats(p, t0, t0, t0+1000+BeatGap-1), t0, Known}, {beats(p, t0, t0, t0+1000+BeatGap), t0, Refreshed},
			{beats(p, t0, t0+1, t0+5000), t0, Missing}, {beats(p, t0+1, t0+1, t0+5000), t0, Missing},
			{beats(p, t0-1, t0-1, t0+5000), t0, Known},
		},
		"an entry with a sign of life": {
			{both, t0, Added}, {says(p, t0, t0+5000, "x"), t0, Known}, {beats(p, t0, t0, t0+9000), t0, Known},
		},
		"the same entry with a newer sign of life": {
			{says(p, t0, t0+5000, "x"), t0, Added}, {both, t0, Refreshed}, {both, t0, Known},
		},
		"departure of a known peer": {
			{says(p, t0, t0), t0, Added}, {leaves(p, t0, t0+1), t0, Departed}, {leaves(p, t0, t0+1), t0, Known},
			{says(p, t0, t0+9), t0, Gone}, {beats(p, t0, t0, t0+9), t0, Gone}, {leaves(p, t0-1, t0+9), t0, Known},
		},
		"departure of an unknown peer": {{leaves(p, t0, t0), t0, Departed}, {says(p, t0, t0), t0, Gone}},
		"a peer comes back in another life": {
			{leaves(p, t0, t0), t0, Departed}, {says(p, t0+1, t0+1), t0, Added}, {leaves(p, t0, t0+9), t0, Known},
			{leaves(p, t0+1, t0+9), t0, Departed},
		},
		"departure in a life that is not known": {
			{says(p, t0, t0), t0, Added}, {leaves(p, t0+7, t0+8), t0, Departed}, {says(p, t0+7, t0+7), t0, Gone},
		},
		"departures of others change nothing": {{says(p, t0, t0), t0, Added}, {leaves(q, t0, t0), t0, Departed}, {says(p, t0, t0), t0, Known}},
		"the future": {
			{says(p, t0, t0), t0 - drift, Added}, {says(p, t0, t0+1), t0 - drift, Future},
			{beats(p, t0, t0, t0+1), t0 - drift, Future}, {leaves(p, t0, t0+1), t0 - drift, Future},
			{leaves(p, t0+drift, t0+drift+1), t0, Future},
		},
		"the past": {
			{says(p, t0, t0), t0 + purge + 1, Outdated}, {says(p, t0, t0), t0 + purge, Added},
			{beats(p, t0, t0, t0), t0 + purge + 1, Outdated}, {leaves(p, t0, t0), t0 + purge + 1, Outdated},
		},
		"an old entry with a fresh sign of life": {
			{wire.Update{Entry: entry(p, t0, t0), Beat: beats(p, t0, t0, t0+purge).Beat}, t0 + purge + 5000, Added},
		},
		"another network": {{foreign, t0, Foreign}},
		"old news of this node": {
			{says(self, t0, t0), t0, Known}, {says(self, t0-5, t0-1), t0, Known}, {leaves(self, t0-1, t0), t0, Known},
			{beats(self, t0, t0, t0), t0, Known}, {beats(self, t0-1, t0-1, t0+9), t0, Known},
		},
		"somebody else with this node's identity": {
			{says(self, t0+1, t0+1), t0, Conflict}, {says(self, t0, t0+1), t0, Conflict}, {leaves(self, t0, t0+1), t0, Conflict},
			{beats(self, t0, t0, t0+1), t0, Conflict}, {beats(self, t0+1, t0+1, t0+1), t0, Conflict},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCore()
			own := c.Local()
			run(t, c, steps...)
			if c.Local() != own {
				t.Error("the own entry was replaced")
			}
		})
	}
}

// Every verdict has a name, which labels a metric.
func TestVerdictNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for v := Added; v <= Conflict; v++ {
		name := v.String()
		if name == "" || name == "unknown" || seen[name] {
			t.Errorf("verdict %d is called %q", v, name)
		}
		seen[name] = true
		if v.Changed() && v.Refused() {
			t.Errorf("%v both changes and is refused", v)
		}
	}
	if got := Verdict(0).String(); got != "unknown" {
		t.Errorf("no verdict is called %q", got)
	}
}

func TestPassedOnIsWhatWasNews(t *testing.T) {
	t.Parallel()
	c := newCore()
	p := peer(1)
	u := says(p, t0, t0)
	u.Beat = beats(p, t0, t0, t0+5000).Beat
	if out := c.Apply(u, t0); out.Tell.Entry != u.Entry || out.Tell.Beat != u.Beat {
		t.Errorf("of a new peer %+v is told", out.Tell)
	}
	b := beats(p, t0, t0, t0+9000)
	if out := c.Apply(b, t0); out.Tell.Entry != nil || out.Tell.Beat != b.Beat {
		t.Errorf("of a sign of life %+v is told", out.Tell)
	}
	n := says(p, t0, t0+1)
	if out := c.Apply(n, t0); out.Tell.Entry != n.Entry || out.Tell.Beat != b.Beat {
		t.Errorf("of a new content %+v is told; the sign of life is still valid", out.Tell)
	}
	n = says(p, t0+10, t0+10)
	if out := c.Apply(n, t0); out.Tell.Beat != nil {
		t.Errorf("with a new life the old one's sign of life is told")
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	few := func(c *Config) { c.MaxPeers = 3 }
	t.Run("peers", func(t *testing.T) {
		c := newCore(few)
		run(t, c,
			step{says(peer(1), t0, t0), t0, Added}, step{says(peer(2), t0, t0), t0, Added}, step{says(peer(3), t0, t0), t0, Added},
			step{says(peer(4), t0, t0), t0, Full}, step{says(peer(3), t0, t0+1), t0, Updated},
			step{leaves(peer(3), t0, t0+1), t0, Departed}, step{says(peer(4), t0, t0), t0, Added})
	})
	t.Run("departures of strangers", func(t *testing.T) {
		c := newCore(few)
		run(t, c,
			step{leaves(peer(1), t0, t0), t0, Departed}, step{leaves(peer(2), t0, t0), t0, Departed}, step{leaves(peer(3), t0, t0), t0, Departed},
			step{leaves(peer(4), t0, t0), t0, Full}, step{says(peer(4), t0, t0), t0, Added}, step{leaves(peer(4), t0, t0), t0, Departed})
	})
	// Identities cost nothing. An endless procession of peers that come and leave must not fill the memory.
	t.Run("procession", func(t *testing.T) {
		c := newCore(few)
		full := 0
		for n := range byte(200) {
			p := peer(n + 1)
			if c.Apply(says(p, t0, t0), t0).Verdict == Full {
				full++
			}
			c.Apply(leaves(p, t0, t0), t0)
		}
		if got := len(c.origins); got > 6 || full == 0 {
			t.Errorf("%d origins are remembered, %d were refused", got, full)
		}
	})
	t.Run("unsigned", func(t *testing.T) {
		c := newCore(few)
		for n := range byte(3) {
			if _, ok := c.Insert(entry(peer(n+1), t0, t0).Entry, t0); !ok {
				t.Fatalf("entry %d was refused", n)
			}
		}
		if _, ok := c.Insert(entry(peer(9), t0, t0).Entry, t0); ok {
			t.Error("a fourth was taken")
		}
		if _, ok := c.Insert(entry(peer(1), t0, t0+1).Entry, t0); !ok {
			t.Error("one that was there was not replaced")
		}
	})
}

func TestUnsigned(t *testing.T) {
	t.Parallel()
	c := newCore()
	p := peer(1)
	other := entry(p, t0, t0).Entry
	other.Network = id.Of("another")
	for what, e := range map[string]*wire.Entry{
		"this node": entry(self, t0, t0).Entry, "another network": other, "nobody": entry(id.PeerID{}, t0, t0).Entry,
	} {
		if _, ok := c.Insert(e, t0); ok {
			t.Errorf("an entry of %s was taken", what)
		}
	}
	c.Insert(entry(p, t0, t0).Entry, t0)
	if c.GetUnsigned(p) == nil || c.Get(p) != nil || c.Len() != 0 || len(c.Unsigned()) != 1 {
		t.Error("the entry is not where it should be")
	}
	if _, told := c.Lookup(p); told {
		t.Error("an unsigned entry is told to others")
	}
	out := c.Apply(says(p, t0, t0), t0)
	if out.Verdict != Added || out.Before == nil || out.Before.Signed != nil || c.GetUnsigned(p) != nil {
		t.Errorf("the signed entry did not replace it: %+v", out)
	}
	if _, ok := c.Insert(entry(p, t0, t0+9).Entry, t0); ok {
		t.Error("taken beside a signed entry")
	}
	c.Insert(entry(peer(2), t0, t0).Entry, t0)
	if c.Remove(peer(2)) == nil || c.Remove(peer(2)) != nil || c.Remove(p) != nil {
		t.Error("Remove does not remove exactly what is there and unsigned")
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	c := newCore()
	dropped := func(now int64) (out []id.PeerID) {
		for _, x := range c.Expire(now) {
			out = append(out, x.Entry.Peer)
		}
		return out
	}
	run(t, c,
		step{says(peer(1), t0, t0), t0, Added},
		step{says(peer(2), t0, t0), t0, Added},
		step{beats(peer(2), t0, t0, t0+10_000), t0, Refreshed},
		step{leaves(peer(3), t0, t0+2000), t0, Departed})
	c.Insert(entry(peer(4), t0, t0).Entry, t0+1000)
	if c.Next() > t0+purge+1 {
		t.Errorf("looks again at %d, the first expires after %d", c.Next(), t0+purge)
	}
	if got := dropped(t0 + purge); got != nil {
		t.Errorf("%v expired too early", got)
	}
	if got := dropped(t0 + purge + 1); !slices.Equal(got, []id.PeerID{peer(1)}) {
		t.Errorf("%v expired, want peer 1", got)
	}
	if got := dropped(t0 + 1000 + purge + 1); !slices.Equal(got, []id.PeerID{peer(4)}) {
		t.Errorf("%v expired, want the unsigned peer 4", got)
	}
	if c.Departures() != 1 {
		t.Error("the tombstone went too early")
	}
	if got := dropped(t0 + 2000 + purge + 1); got != nil || c.Departures() != 0 {
		t.Errorf("%v expired, %d tombstones are left", got, c.Departures())
	}
	if got := dropped(t0 + 10_000 + purge + 1); !slices.Equal(got, []id.PeerID{peer(2)}) {
		t.Errorf("%v expired, want peer 2", got)
	}
	if len(c.origins) != 0 || c.Next() != never {
		t.Errorf("%d origins are left, next look at %d", len(c.origins), c.Next())
	}
	run(t, c, step{says(peer(1), t0+purge, t0+purge), t0 + purge + 2, Added})
}

// A tombstone stays at least as long as anything that it must keep out would be accepted.
func TestTombstoneOutlivesWhatItKeepsOut(t *testing.T) {
	t.Parallel()
	c := newCore()
	p := peer(1)
	last := beats(p, t0, t0, t0+drift) // of a clock that is ahead as far as is allowed
	run(t, c, step{says(p, t0, t0), t0, Added}, step{last, t0, Refreshed}, step{leaves(p, t0, t0+1), t0, Departed})
	for now := t0; now < t0+2*purge; now += 1000 {
		c.Expire(now)
		both := says(p, t0, t0)
		both.Beat = last.Beat
		if v := c.Apply(both, now).Verdict; v != Gone && v != Outdated {
			t.Fatalf("%v ms after the departure the peer was %v", now-t0, v)
		}
	}
}

func TestEachTellsWhatOthersWouldTake(t *testing.T) {
	t.Parallel()
	c := newCore()
	run(t, c, step{says(peer(1), t0, t0), t0, Added}, step{leaves(peer(2), t0, t0+5000), t0, Departed})
	c.Insert(entry(peer(3), t0, t0).Entry, t0)
	told := func(now int64) (out []id.PeerID) {
		c.Each(now, func(u wire.Update) { out = append(out, u.Peer()) })
		slices.SortFunc(out, id.PeerID.Compare)
		return out
	}
	if got := told(t0); !slices.Equal(got, []id.PeerID{self, peer(1), peer(2)}) {
		t.Errorf("told of %v", got)
	}
	if got := told(t0 + purge + 1); !slices.Equal(got, []id.PeerID{self, peer(2)}) {
		t.Errorf("told of %v, peer 1 is too old", got)
	}
	for _, p := range told(t0) {
		if u, ok := c.Lookup(p); !ok || u.Peer() != p {
			t.Errorf("lookup of %v: %+v, %v", p, u, ok)
		}
	}
}

// What was handed out to readers is never written again.
func TestSnapshotsDoNotChange(t *testing.T) {
	t.Parallel()
	c := newCore()
	run(t, c, step{says(peer(5), t0, t0), t0, Added}, step{says(peer(7), t0, t0), t0, Added})
	before := c.Signed()
	kept := slices.Clone(before)
	run(t, c, step{says(peer(6), t0, t0), t0, Added}, step{says(peer(5), t0, t0+1), t0, Updated}, step{leaves(peer(7), t0, t0), t0, Departed})
	if !slices.Equal(before, kept) {
		t.Error("the list changed under its reader")
	}
	if now := c.Signed(); len(now) != 2 || now[0].Entry.Peer != peer(5) || now[1].Entry.Peer != peer(6) {
		t.Errorf("now %d records", len(now))
	}
}

func TestAnOriginThatChangesTooOftenIsSlowedDown(t *testing.T) {
	t.Parallel()
	c := newCore(func(c *Config) { c.Burst, c.Refill = 3, 1000 })
	p := peer(1)
	run(t, c,
		step{says(p, t0, t0), t0, Added}, step{says(p, t0, t0+1), t0, Updated}, step{says(p, t0, t0+2), t0, Updated},
		step{says(p, t0, t0+3), t0, Held}, step{says(p, t0, t0+5), t0, Held}, step{says(p, t0, t0+4), t0, Held},
		step{beats(p, t0, t0+2, t0+900), t0, Refreshed}, // life goes on
		step{says(peer(2), t0, t0), t0, Added})          // and others are not affected
	if due := c.Next(); due <= t0 || due > t0+1002 {
		t.Errorf("due again at %d, want within a second of %d", due, t0)
	}
	if out := c.Release(t0 + 900); out != nil {
		t.Errorf("released too early: %+v", out)
	}
	out := c.Release(t0 + 1002)
	if len(out) != 1 || out[0].Verdict != Updated || out[0].After.Entry.Update != t0+5 {
		t.Errorf("released %+v, want the latest version alone", out)
	}
	run(t, c, step{leaves(p, t0, t0+1100), t0 + 1100, Departed}) // leaving is never held back
	if out := c.Release(t0 + 60_000); out != nil {
		t.Errorf("released %+v after everything was", out)
	}
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	t.Parallel()
	c := newCore(func(c *Config) { c.Burst, c.MaxPeers = 1, 1<<20 })
	for n := range maxHeld + 100 {
		p := id.PeerID{byte(n), byte(n >> 8), 1}
		c.Apply(says(p, t0, t0), t0)
		c.Apply(says(p, t0, t0+1), t0)
	}
	if len(c.held) != maxHeld {
		t.Errorf("%d updates are held, want %d", len(c.held), maxHeld)
	}
}
