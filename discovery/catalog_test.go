package discovery

import (
	"slices"
	"testing"
	"time"

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
