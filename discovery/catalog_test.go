package discovery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mosaik-go/mosaik/id"
)

// stranger returns the signed entry of a peer that is not on the simulated network.
func (w *world) stranger(t *testing.T, n int, tags ...string) SignedPeerEntry {
	t.Helper()
	key := numberedKey(n)
	e := newEntry(w.network, PeerAddr{ID: id.PeerIDOf(key), Addrs: []string{"/memory/0"}}, time.Now().UnixMilli())
	e, err := e.WithTags(tags...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ids(peers func(func(PeerInfo) bool)) (out []PeerID) {
	for p := range peers {
		out = append(out, p.ID())
	}
	return out
}

func TestCatalog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(nodeOptions{tags: []string{"own"}})
		c := a.Catalog()
		if c.Len() != 0 || len(ids(c.Peers())) != 0 || c.Local().ID() != a.self || c.NetworkID() != w.network {
			t.Errorf("at first %d peers, local %v", c.Len(), c.Local())
		}
		var signed []PeerID
		for n := range 5 {
			s := w.stranger(t, n, "x")
			signed = append(signed, s.ID())
			if got := a.Feed(s); got != FeedAdded {
				t.Fatalf("entry %d: %v", n, got)
			}
		}
		slices.SortFunc(signed, id.PeerID.Compare)
		unsigned := NewEntry(w.network, PeerAddr{ID: id.PeerIDOf(numberedKey(99))})
		if !a.Insert(unsigned) {
			t.Fatal("an unsigned entry was refused")
		}
		if c.Len() != 0 {
			t.Error("a snapshot changed")
		}
		c = a.Catalog()
		all := append(slices.Clone(signed), unsigned.ID())
		for name, got := range map[string]struct{ have, want []PeerID }{
			"Peers":    {ids(c.Peers()), all},
			"Signed":   {ids(c.Signed()), signed},
			"Unsigned": {ids(c.Unsigned()), all[5:]},
			"All":      {ids(c.All()), append([]PeerID{a.self}, all...)},
			"Tagged":   {ids(c.Tagged("x")), signed},
			"own tag":  {ids(c.Tagged("own")), nil},
			"Lost":     {ids(c.Lost()), nil},
			"InGroup":  {ids(c.InGroup(id.Of("g"))), nil},
		} {
			if !slices.Equal(got.have, got.want) {
				t.Errorf("%s: %v, want %v", name, got.have, got.want)
			}
		}
		if c.Len() != 6 {
			t.Errorf("%d peers, want 6", c.Len())
		}
		for _, p := range all {
			if got, ok := c.Get(p); !ok || got.ID() != p {
				t.Errorf("Get(%v) = %v, %v", p, got, ok)
			}
		}
		if got, ok := c.Get(a.self); !ok || !got.HasTag("own") {
			t.Errorf("Get of this node: %v, %v", got, ok)
		}
		if _, ok := c.Get(PeerID{1}); ok {
			t.Error("Get finds somebody who is not there")
		}
		for p := range c.Peers() { // stops when asked to
			_ = p
			break
		}
		p, _ := c.Get(signed[0])
		if e, ok := p.SignedEntry(); !ok || e.ID() != signed[0] || !p.Signed() {
			t.Error("the signature is missing")
		}
		if u, _ := c.Get(unsigned.ID()); u.Signed() || u.SeenAt().IsZero() {
			t.Error("an unsigned entry says it is signed")
		}
		var zero Catalog
		if _, ok := zero.Get(a.self); ok || zero.Len() != 0 || len(ids(zero.All())) != 0 || len(ids(zero.InGroup(id.ID{}))) != 0 {
			t.Error("the zero catalog is not empty")
		}
	})
}

func TestFeed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{Config: Config{MaxPeers: 4}})
		a, b := nodes[0], nodes[1]
		events := b.listen(t)
		s := w.stranger(t, 1)
		if got := a.Feed(s); got != FeedAdded || !got.Changed() {
			t.Errorf("a new entry: %v", got)
		}
		if _, ok := a.Catalog().Get(s.ID()); !ok {
			t.Error("the catalog does not show it when Feed returns")
		}
		if got := a.Feed(s); got != FeedKnown || got.Changed() {
			t.Errorf("the same entry: %v", got)
		}
		newer, err := s.Entry().WithTags("x")
		if err != nil {
			t.Fatal(err)
		}
		signed, err := newer.Sign(numberedKey(1))
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Feed(signed); got != FeedUpdated {
			t.Errorf("a newer entry: %v", got)
		}
		if got := a.Feed(s); got != FeedKnown {
			t.Errorf("an older entry: %v", got)
		}
		if got := a.Feed(SignedPeerEntry{}); got != FeedInvalid {
			t.Errorf("nothing: %v", got)
		}
		if got := a.Feed(a.MeSigned()); got != FeedSelf {
			t.Errorf("the own entry: %v", got)
		}
		a.Feed(w.stranger(t, 2))
		a.Feed(w.stranger(t, 3))
		if got := a.Feed(w.stranger(t, 4)); got != FeedFull {
			t.Errorf("a fifth peer: %v", got)
		}
		eventually(t, time.Second, "neighbours hear of it", func() bool {
			p, ok := b.Catalog().Get(s.ID())
			return ok && p.HasTag("x")
		})
		if n := events.count(func(e Event) bool { return e.Peer == s.ID() }); n == 0 {
			t.Error("no event tells of it")
		}
		for r := FeedAdded; r <= FeedInvalid; r++ {
			if r.String() == "" || r.String() == "unknown" {
				t.Errorf("result %d has no name", r)
			}
		}
		if FeedResult(0).String() != "unknown" {
			t.Error("no result has a name")
		}
	})
}

func TestUnsignedEntries(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		a, b := nodes[0], nodes[1]
		c := w.node() // nobody knows it
		events := a.listen(t)
		if !a.InsertAddr(c.host.Addr()) {
			t.Fatal("refused")
		}
		if a.Insert(b.Me()) || a.Insert(a.Me()) || a.Insert(NewEntry(id.Of("another"), PeerAddr{ID: PeerID{1}})) || a.Insert(PeerEntry{}) {
			t.Error("an entry was taken that should not be")
		}
		events.got(t, time.Second, Discovered, c)
		time.Sleep(10 * time.Second)
		if b.sees(c) || b.Catalog().Len() != 1 {
			t.Error("an unsigned entry was passed on")
		}
		// A signed one replaces it.
		if err := a.SyncWith(context.Background(), PeerAddr{ID: c.self}); err != nil {
			t.Fatal(err)
		}
		if len(ids(a.Catalog().Unsigned())) != 0 || !a.sees(c) {
			t.Error("the signed entry did not replace it")
		}
		events.got(t, time.Second, Updated, c)
		if n := events.count(func(e Event) bool { return e.Kind == Discovered && e.Peer == c.self }); n != 1 {
			t.Errorf("discovered %d times", n)
		}
		if a.Remove(c.self) {
			t.Error("a signed entry was removed by hand")
		}

		x, y := PeerAddr{ID: PeerID{1}}, PeerAddr{ID: PeerID{2}}
		a.InsertAddr(x)
		a.InsertAddr(y)
		if !a.Remove(x.ID) || a.Remove(x.ID) || !a.ClearUnsigned() || a.ClearUnsigned() {
			t.Error("Remove and ClearUnsigned do not say what was there")
		}
		time.Sleep(time.Second)
		if n := events.count(func(e Event) bool { return e.Kind == Departed && e.Reason == Removed }); n != 2 {
			t.Errorf("%d removals were told: %v", n, events)
		}
		// Nobody confirms it, so it does not stay for ever.
		a.InsertAddr(x)
		time.Sleep(6 * time.Minute)
		if len(ids(a.Catalog().Unsigned())) != 0 {
			t.Error("an unsigned entry outlives PurgeAfter")
		}
	})
}

// discovery: rtt/rtt_below_optimistic, rtt/rtt_below_checks_threshold, rtt/peer_info_derefs…
func TestPeerInfo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const ms = time.Millisecond
		a := w.node()
		s := w.stranger(t, 1, "x")
		a.Feed(s)
		p, _ := a.Catalog().Get(s.ID())
		if rtt, known := p.RTT(); known || rtt != 0 || !p.RTTBelow(ms) {
			t.Errorf("without samples: %v, %v, below 1 ms: %v", rtt, known, p.RTTBelow(ms))
		}
		a.ObserveRTT(s.ID(), 150*ms)
		a.ObserveRTT(s.ID(), -ms)       // no such thing
		a.ObserveRTT(PeerID{9}, 150*ms) // nobody
		eventually(t, time.Second, "it is shown", func() bool {
			p, _ = a.Catalog().Get(s.ID())
			_, known := p.RTT()
			return known
		})
		if rtt, _ := p.RTT(); rtt != 150*ms || !p.RTTBelow(200*ms) || p.RTTBelow(100*ms) || p.RTTBelow(150*ms) {
			t.Errorf("of 150 ms: %v, below 200 %v, below 100 %v", rtt, p.RTTBelow(200*ms), p.RTTBelow(100*ms))
		}
		if !p.HasTag("x") || p.ID() != s.ID() || p.NetworkID() != w.network {
			t.Errorf("the entry cannot be reached through it: %v", p)
		}
		if _, lost := p.LostSince(); lost {
			t.Error("a peer that is there is lost")
		}
	})
}

// Round-trip times come from live connections, and from a few probes.
func TestRTTIsMeasured(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		far := w.start(nodeOptions{Config: Config{RTTProbes: -1}, bootstrap: nodes[:1]})
		meet(t, time.Second, append(nodes, far)...)
		eventually(t, 2*time.Minute, "all are measured", func() bool {
			for p := range nodes[1].Catalog().Peers() {
				if rtt, ok := p.RTT(); !ok || rtt < time.Millisecond || rtt > 10*time.Millisecond {
					return false
				}
			}
			return true
		})
	})
}

// Peers that are too far away are hidden, until they come nearer. Those that were never measured are shown.
func TestMaxRTT(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(nodeOptions{Config: Config{MaxRTT: 100 * time.Millisecond}})
		s, other := w.stranger(t, 1, "x"), w.stranger(t, 2, "x")
		a.Feed(s)
		a.Feed(other)
		u := NewEntry(w.network, PeerAddr{ID: PeerID{7}})
		a.Insert(u)
		changed, cancel := a.Watch()
		defer cancel()
		a.ObserveRTT(s.ID(), 300*time.Millisecond)
		<-changed
		c := a.Catalog()
		if _, ok := c.Get(s.ID()); ok || c.Len() != 2 || slices.Contains(ids(c.Peers()), s.ID()) || slices.Contains(ids(c.Signed()), s.ID()) || len(ids(c.Tagged("x"))) != 1 {
			t.Errorf("a far peer is shown: %v", ids(c.Peers()))
		}
		for range 40 {
			a.ObserveRTT(s.ID(), 20*time.Millisecond)
		}
		eventually(t, time.Second, "it is shown when it has come nearer", func() bool {
			_, ok := a.Catalog().Get(s.ID())
			return ok
		})
	})
}

func TestEvents(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(nodeOptions{Config: Config{EventBacklog: 5}})
		a.Feed(w.stranger(t, 0)) // before anybody listens
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		slow, quick := a.Events(ctx), a.Events(context.Background())
		for n := range 3 {
			a.Feed(w.stranger(t, n+1))
		}
		// A loop that is broken off goes on where it stopped.
		var got []PeerID
		for e := range quick {
			got = append(got, e.Peer)
			if e.Kind != Discovered || e.Entry.ID() != e.Peer {
				t.Errorf("event %+v", e)
			}
			break
		}
		for e := range quick {
			if got = append(got, e.Peer); len(got) == 3 {
				break
			}
		}
		for n := range 3 {
			if want := w.stranger(t, n+1).ID(); got[n] != want {
				t.Errorf("event %d is about %v, want %v", n, got[n], want)
			}
		}
		// The slow one has missed some and is told how many.
		for n := range 6 {
			a.Feed(w.stranger(t, n+10))
		}
		var kinds []string
		for e := range slow {
			kinds = append(kinds, e.String())
			if e.Kind == Lagged && e.Missed != 4 {
				t.Errorf("%d events were missed, want 4", e.Missed)
			}
			if len(kinds) == 6 {
				break
			}
		}
		if kinds[0] != "lagged, 4 events missed" || !strings.HasPrefix(kinds[1], "discovered ") {
			t.Errorf("the slow one got %q", kinds)
		}
		// The end of the context ends the sequence, as does that of the node; what came before is delivered.
		a.Feed(w.stranger(t, 30))
		cancel()
		n := 0
		for range slow {
			n++
		}
		if n != 1 {
			t.Errorf("%d events after the context ended, want the one that waited", n)
		}
		done := make(chan int)
		go func() {
			n := 0
			for range quick {
				n++
			}
			done <- n
		}()
		time.Sleep(time.Second)
		a.stop()
		if n := <-done; n < 5 {
			t.Errorf("%d events until the node closed", n)
		}
	})
}

// A catalog that is taken after an event shows at least what the event says.
func TestEventsComeAfterTheirCatalog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		ctx, cancel := context.WithCancel(context.Background())
		seq := a.Events(ctx)
		done := make(chan struct{})
		kinds := map[EventKind]int{}
		go func() {
			defer close(done)
			for e := range seq {
				kinds[e.Kind]++
				p, ok := a.Catalog().Get(e.Peer)
				switch e.Kind {
				case Discovered, Updated:
					if ok && e.Entry.Version().NewerThan(p.Version()) { // it may have left again
						t.Errorf("the catalog does not show %v yet", e)
					}
				case Departed:
					if ok {
						t.Errorf("the catalog still shows %v", e)
					}
				}
			}
		}()
		for n := range 20 {
			b := w.node(a)
			meet(t, time.Second, a, b)
			if err := b.AddTags("x"); err != nil {
				t.Error(n, err)
			}
			b.stop()
		}
		cancel()
		<-done
		if kinds[Discovered] != 20 || kinds[Departed] != 20 {
			t.Errorf("events: %v", kinds)
		}
	})
}

func TestEventNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for k := Discovered; k <= DuplicateIdentity; k++ {
		if s := k.String(); s == "" || seen[s] || strings.HasPrefix(s, "event") {
			t.Errorf("kind %d is called %q", k, s)
		} else {
			seen[s] = true
		}
	}
	for r := Left; r <= Removed; r++ {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d is called %q", r, s)
		} else {
			seen[s] = true
		}
	}
	if EventKind(99).String() != "event 99" || DepartReason(99).String() != "" {
		t.Error("unknown kinds and reasons have odd names")
	}
	if s := (Event{Kind: Departed, Peer: PeerID{1}, Reason: Left}).String(); s != "departed 0100000000 (left)" {
		t.Errorf("printed as %q", s)
	}
}

func TestWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.node()
		changed, cancel := a.Watch()
		for n := range 10 {
			a.Feed(w.stranger(t, n))
		}
		<-changed
		select {
		case <-changed:
			t.Error("tokens add up")
		default:
		}
		if err := a.AddTags("x"); err != nil {
			t.Fatal(err)
		}
		<-changed // changes of the own entry count
		time.Sleep(time.Minute)
		select {
		case <-changed:
			t.Error("the own signs of life are a change")
		default:
		}
		cancel()
		a.Feed(w.stranger(t, 77))
		select {
		case <-changed:
			t.Error("told after the end")
		default:
		}
	})
}

func TestStatus(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		time.Sleep(time.Second)
		s := nodes[1].Status()
		if s.Self.ID != nodes[1].self || s.Peers != 2 || s.Tombstones != 0 || s.Announce != 15*time.Second || s.Version != nodes[1].Me().Version() {
			t.Errorf("%+v", s)
		}
		if len(s.Neighbours) != 2 || !s.AloneSince.IsZero() || s.Neighbours[0].Since.IsZero() {
			t.Errorf("neighbours %+v, alone since %v", s.Neighbours, s.AloneSince)
		}
		if len(s.Contacts) != 1 || s.Contacts[0].Addr.ID != nodes[0].self || !s.Contacts[0].Known || s.Contacts[0].Err != nil {
			t.Errorf("contacts %+v", s.Contacts)
		}
		if s.Drift != nil || s.Duplicate != nil || s.Registry.Err != nil || s.Registry.Dirs != nil {
			t.Errorf("troubles in a quiet network: %+v", s)
		}
		if text := s.String(); text != "2 peers, 2 neighbours\n" {
			t.Errorf("in words: %q", text)
		}
	})
}

func TestMetrics(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		reg := prometheus.NewPedanticRegistry()
		a := w.start(nodeOptions{metrics: reg})
		b := w.node(a)
		meet(t, time.Second, a, b)
		if err := b.AddTags("x"); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, "the tag is there", func() bool {
			p, _ := a.Catalog().Get(b.self)
			return p.HasTag("x")
		})
		a.Feed(w.node().MeSigned()) // discovered, and never reached
		far := newEntry(id.Of("another"), PeerAddr{ID: id.PeerIDOf(numberedKey(1))}, time.Now().UnixMilli())
		foreign, err := far.Sign(numberedKey(1))
		if err != nil {
			t.Fatal(err)
		}
		a.Feed(foreign)
		if err := a.SyncWith(context.Background(), b.host.Addr()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		check := func(want map[string]float64) {
			t.Helper()
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					name := f.GetName()
					for _, l := range m.GetLabel() {
						switch l.GetName() {
						case "network":
							if l.GetValue() != w.network.Short() {
								t.Errorf("%s has the network %s", name, l.GetValue())
							}
						default:
							name += " " + l.GetValue()
						}
					}
					got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
			for name, v := range want {
				if got[name] != v {
					t.Errorf("%s is %v, want %v; all: %v", name, got[name], v, got)
				}
			}
		}
		check(map[string]float64{
			"mosaik_discovery_catalog_size": 2, "mosaik_discovery_gossip_neighbors": 2, "mosaik_discovery_peers_discovered": 2,
			"mosaik_discovery_peers_updated": 1, "mosaik_discovery_peers_departed": 0, "mosaik_discovery_refused foreign": 1,
			"mosaik_discovery_catalog_syncs_failed": 0,
		})
		if n := testutil.ToFloat64(a.count.syncs); n < 1 {
			t.Errorf("%v comparisons", n)
		}
		b.stop()
		time.Sleep(time.Second)
		check(map[string]float64{"mosaik_discovery_catalog_size": 1, "mosaik_discovery_peers_departed": 1, "mosaik_discovery_gossip_neighbors": 1})

		// Another node on the same registerer adds to the same series, and takes its share away when it closes.
		second := w.start(nodeOptions{metrics: reg, bootstrap: []*testNode{a}})
		meet(t, time.Second, a, second)
		time.Sleep(time.Second)
		check(map[string]float64{"mosaik_discovery_catalog_size": 4})
		second.stop()
		a.stop()
		check(map[string]float64{"mosaik_discovery_catalog_size": 0, "mosaik_discovery_gossip_neighbors": 0, "mosaik_discovery_peers_lost": 0})
	})
}

// Errors at the start name what is wrong and leave nothing behind.
func TestStartFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		host := w.raw(w.newKey())
		var many []string
		for n := range MaxTags + 1 {
			many = append(many, fmt.Sprint(n))
		}
		for want, env := range map[string]Env{
			"PurgeAfter": {Host: host, Key: keyOf(1), Network: w.network},
			"tags":       {Host: host, Key: keyOf(1), Network: w.network, Tags: many},
			"key":        {Host: host, Key: keyOf(9), Network: w.network},
		} {
			cfg := Config{}
			if want == "PurgeAfter" {
				cfg.PurgeAfter = time.Second
			}
			if d, err := Start(env, cfg); err == nil || d != nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
	})
}
