package discovery

import (
	"testing"
	"time"
)

// discovery: depart/stale_peers_are_purged
func TestStalePeersArePurged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		quick := w.start(nodeOptions{Config: Config{PurgeAfter: 4 * time.Second, AnnounceInterval: 2 * time.Second, AnnounceJitter: -1}})
		events := quick.listen(t)
		slow := w.start(nodeOptions{
			Config:    Config{PurgeAfter: 180 * time.Second, AnnounceInterval: 10 * time.Second, AnnounceJitter: -1},
			bootstrap: []*testNode{quick},
		})
		began := time.Now()
		events.got(t, time.Second, Discovered, slow)
		meet(t, time.Second, quick, slow)
		events.clear()
		e := events.got(t, time.Until(began.Add(5*time.Second)), Departed, slow)
		if e.Reason != Silent || e.Entry.ID() != slow.self {
			t.Errorf("departed with %+v", e)
		}
		if took := time.Since(began); took < 4*time.Second {
			t.Errorf("purged after %v", took)
		}
		if quick.Catalog().Len() != 0 || slow.Catalog().Len() != 1 {
			t.Errorf("%d and %d peers, want 0 and 1", quick.Catalog().Len(), slow.Catalog().Len())
		}
		events.clear()
		events.got(t, time.Until(began.Add(13*time.Second)), Discovered, slow) // with its next sign of life
		meet(t, 0, quick, slow)
	})
}

// A crash is noticed soon when connections break, and within 7 s when everything just falls silent. Nobody waits for
// PurgeAfter, and nobody brings the peer back.
func TestCrashesAreNoticed(t *testing.T) {
	for name, crash := range map[string]func(w *world, n *testNode) (within time.Duration){
		"killed": func(w *world, n *testNode) time.Duration { n.kill(); return 300 * time.Millisecond },
		"without power": func(w *world, n *testNode) time.Duration {
			w.fabric.Isolate(n.self)
			n.kill()
			return 7 * time.Second
		},
		"stopped": func(w *world, n *testNode) time.Duration { w.fabric.Pause(n.self); return 7 * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				nodes := w.nodes(4, nodeOptions{})
				time.Sleep(20 * time.Second)
				events := nodes[0].listen(t)
				within := crash(w, nodes[3])
				began := time.Now()
				for _, n := range nodes[:3] {
					eventually(t, within-time.Since(began), "the crash is noticed", func() bool { return !n.sees(nodes[3]) })
				}
				e := events.got(t, 0, Departed, nodes[3])
				if e.Reason != Lost {
					t.Errorf("departed with %+v", e)
				}
				lost := 0
				for p := range nodes[0].Catalog().Lost() {
					since, ok := p.LostSince()
					if lost++; p.ID() != nodes[3].self || !ok || since.Before(began) {
						t.Errorf("lost %v since %v", p, since)
					}
				}
				if s := nodes[0].Status(); lost != 1 || s.Lost != 1 || s.Peers != 2 || !hasAll(s.String(), "1 known peers cannot be reached") {
					t.Errorf("%d lost, status %+v", lost, s)
				}
				time.Sleep(10 * time.Minute)
				if n := events.count(func(e Event) bool { return e.Peer == nodes[3].self }); n != 1 {
					t.Errorf("events about it: %v", events)
				}
				if s := nodes[0].Status(); s.Lost != 0 {
					t.Errorf("%d are still remembered after PurgeAfter", s.Lost)
				}
			})
		})
	}
}

// A process that was stopped is found again when it goes on.
func TestStoppedProcessComesBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		events := nodes[0].listen(t)
		w.fabric.Pause(nodes[2].self)
		events.got(t, 7*time.Second, Departed, nodes[2])
		time.Sleep(time.Minute)
		w.fabric.Resume(nodes[2].self)
		events.got(t, 45*time.Second, Discovered, nodes[2])
		meet(t, 45*time.Second, nodes...)
	})
}

// Peers that this node was never connected to, and that died unseen, vanish when it tries to reach them in vain, as soon as
// they have been silent for longer than they should.
func TestStrangersThatDiedUnseen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(40, nodeOptions{})
		time.Sleep(5 * time.Second)
		for _, n := range nodes[1:] {
			n.kill()
		}
		last := nodes[0]
		eventually(t, 3*time.Minute, "the last one sees that it is alone", func() bool { return last.Catalog().Len() == 0 })
	})
}
