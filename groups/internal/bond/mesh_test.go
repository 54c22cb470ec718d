package bond

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

func bonded(sinks ...*testSink) func() bool {
	return func() bool {
		for _, s := range sinks {
			if up, _, _, _ := s.count(); up != len(sinks)-1 {
				return false
			}
		}
		return true
	}
}

// Overlapping groups share trunks and each sees its own members.
func TestBondsOfSeveralGroups(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n := []*testNode{w.node(), w.node(), w.node(), w.node()}
		a, b, c := id.Of("a"), id.Of("b"), id.Of("c")
		a0, a1 := n[0].join(a, nil), n[1].join(a, nil)
		b0, b2, b3 := n[0].join(b, nil), n[2].join(b, nil), n[3].join(b, nil)
		c1, c2 := n[1].join(c, nil), n[2].join(c, nil)
		w.within(time.Second, "all bonds are up", func() bool {
			return bonded(a0, a1)() && bonded(b0, b2, b3)() && bonded(c1, c2)()
		})
		time.Sleep(time.Minute)
		for _, s := range []*testSink{a0, a1, b0, b2, b3, c1, c2} {
			if _, ups, downs, refused := s.count(); downs != 0 || refused != 0 {
				t.Errorf("%d ups, %d downs, %d refusals in a quiet network", ups, downs, refused)
			}
		}
	})
}

// Messages arrive in order, each in its group.
func TestMessages(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		a, b := id.Of("a"), id.Of("b")
		a0, a1, b0, b1 := n0.join(a, nil), n1.join(a, nil), n0.join(b, nil), n1.join(b, nil)
		w.within(time.Second, "bonds are up", func() bool { return bonded(a0, a1)() && bonded(b0, b1)() })
		var want []string
		for i := range 1000 {
			for _, s := range []struct {
				sink *testSink
				name string
			}{{a0, "a"}, {b0, "b"}} {
				if !s.sink.bond(n1).Send(note(fmt.Sprint(s.name, i))) {
					t.Fatal("not sent")
				}
			}
			want = append(want, fmt.Sprint("a", i))
		}
		w.within(time.Second, "all messages are there", func() bool { return len(a1.notes())+len(b1.notes()) == 2000 })
		if got := a1.notes(); !slices.Equal(got, want) {
			t.Errorf("group a got %d messages, first %v", len(got), got[:3])
		}
		if got := b1.notes(); got[0] != "b0" || got[999] != "b999" {
			t.Errorf("group b got %s … %s", got[0], got[999])
		}
	})
}

// Whoever does not know the key is refused by name on both sides, is not tried in a loop, and disturbs nobody.
func TestWrongKey(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1, n2 := w.node(), w.node(), w.node()
		g := id.Of("g")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		wrong := n2.join(g, func(l *Local) { l.Secret = id.Of("guess") })
		w.within(time.Second, "the honest bond is up", bonded(s0, s1))
		time.Sleep(10 * time.Minute)
		for _, s := range []*testSink{s0, s1} {
			if up, ups, downs, _ := s.count(); up != 1 || ups != 1 || downs != 0 {
				t.Errorf("honest side: %d bonds, %d ups, %d downs", up, ups, downs)
			}
		}
		if up, ups, _, _ := wrong.count(); up != 0 || ups != 0 {
			t.Errorf("wrong key: %d bonds, %d ups", up, ups)
		}
		for _, at := range []*testNode{n0, n2} {
			rs := at.mesh.Refusals(g)
			if len(rs) == 0 || rs[0].Code != link.CodeGroupInvalidProof || rs[0].String() == "" {
				t.Fatalf("refusals: %+v", rs)
			}
			// In ten minutes with pauses that double up to five there is time for about a dozen tries of each side.
			if last := rs[len(rs)-1]; last.Tries < 3 || last.Tries > 30 {
				t.Errorf("%d tries in ten minutes", last.Tries)
			}
		}
		if _, _, _, refused := wrong.count(); refused != 2 {
			t.Errorf("%d refusals were reported, want one for each peer", refused)
		}
	})
}

// Members whose commands are encoded differently are told so.
func TestSchemaMismatch(t *testing.T) {
	for name, edit := range map[string]func(*Local){
		"codec":  func(l *Local) { l.Codec = "other/2" },
		"schema": func(l *Local) { l.Fingerprint = id.Of("other schema") },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
				n0, n1 := w.node(), w.node()
				g := id.Of("g")
				s0 := n0.join(g, nil)
				s1 := n1.join(g, edit)
				time.Sleep(3 * time.Second)
				for _, s := range []*testSink{s0, s1} {
					if _, ups, _, refused := s.count(); ups != 0 || refused != 1 {
						t.Errorf("%d ups, %d refusals", ups, refused)
					}
				}
				r := n0.mesh.Refusals(g)[0]
				if r.Code != link.CodeGroupSchemaMismatch || !strings.Contains(r.Reason, "test/1") {
					t.Errorf("refusal: %v", r)
				}
			})
		})
	}
}

// If both sides dial at once, the trunk of the smaller identity stays and the bond settles.
func TestCrossingDials(t *testing.T) {
	// Dialling takes longer than the larger identity waits.
	inWorld(t, simnet.Options{Link: simnet.Link{Delay: 450 * time.Millisecond}}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		g := id.Of("g")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		w.within(15*time.Second, "the bond is up", bonded(s0, s1))
		time.Sleep(5 * time.Second)
		_, _, before, _ := s0.count()
		time.Sleep(5 * time.Minute)
		if up, _, downs, _ := s0.count(); up != 1 || downs != before {
			t.Errorf("%d bonds, %d downs after it settled", up, downs-before)
		}
		n0.mesh.mu.Lock()
		defer n0.mesh.mu.Unlock()
		if tr := n0.mesh.peers[n1.host.ID()].trunk; !tr.dialed {
			t.Error("the trunk of the larger identity stayed")
		}
	})
}

// The larger identity dials when the smaller one does not know of it.
func TestLargerDialsWhenAlone(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		n0.blind = true
		g := id.Of("g")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		w.within(yieldTime+time.Second, "the bond is up", bonded(s0, s1))
	})
}

// A crash is seen as closed, a silent partition as not closed; both heal without help.
func TestFaults(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		g := id.Of("g")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		w.within(time.Second, "the bond is up", bonded(s0, s1))

		w.Reset(n0.host.ID(), n1.host.ID())
		w.within(100*time.Millisecond, "the reset is seen", func() bool { _, _, d, _ := s0.count(); return d == 1 })
		w.within(3*time.Second, "the bond is up again", bonded(s0, s1))

		w.Isolate(n1.host.ID())
		w.within(10*time.Second, "the silence is seen", func() bool { _, _, d, _ := s0.count(); return d == 2 })
		if s0.downs[0] != "closed=true" || s0.downs[1] != "closed=false" {
			t.Errorf("downs: %v", s0.downs)
		}
		time.Sleep(20 * time.Second)
		w.Rejoin(n1.host.ID())
		w.within(40*time.Second, "the bond is up after the partition", bonded(s0, s1))
	})
}

// A node that leaves a group and joins it again is bonded anew, with the other group undisturbed.
func TestLeaveAndJoinAgain(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		g, other := id.Of("g"), id.Of("other")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		o0, o1 := n0.join(other, nil), n1.join(other, nil)
		w.within(time.Second, "bonds are up", func() bool { return bonded(s0, s1)() && bonded(o0, o1)() })
		for range 3 {
			n1.mesh.Remove(g)
			w.within(time.Second, "the other side sees it", func() bool { return s0.bond(n1) == nil })
			s1 = n1.join(g, nil)
			w.within(time.Second, "the bond is up again", bonded(s0, s1))
		}
		if _, ups, downs, _ := o0.count(); ups != 1 || downs != 0 {
			t.Errorf("the other group: %d ups, %d downs", ups, downs)
		}
		// At once, without the other side having noticed in between.
		n1.mesh.Remove(g)
		s1 = n1.join(g, nil)
		w.within(time.Second, "the bond is up again", bonded(s0, s1))
	})
}

// A peer that is listed before it has joined is bonded as soon as it has.
func TestListedTooEarly(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		g := id.Of("g")
		n1.list(g, nil)
		s0 := n0.join(g, nil)
		time.Sleep(30 * time.Second)
		s1 := n1.join(g, nil)
		w.within(100*time.Millisecond, "the bond is up", bonded(s0, s1))
	})
}

// A peer that does not read costs a bounded amount of memory, then messages, and nothing else.
func TestSlowPeer(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1, n2 := w.node(), w.node(), w.node()
		g := id.Of("g")
		s0, s1, s2 := n0.join(g, nil), n1.join(g, nil), n2.join(g, nil)
		w.within(time.Second, "bonds are up", bonded(s0, s1, s2))
		s1.mu.Lock()
		s1.stalled = true
		s1.mu.Unlock()
		big := strings.Repeat("x", 1<<20)
		sent, lost := 0, 0
		for range 64 {
			if s0.bond(n1).Send(note(big)) {
				sent++
			} else {
				lost++
			}
			if !s0.bond(n2).Send(note("small")) {
				t.Error("a message to the other peer was lost")
			}
			synctest.Wait()
		}
		if lost == 0 || sent < 20 || sent > 40 {
			t.Errorf("%d sent, %d lost", sent, lost)
		}
		w.within(time.Second, "the other peer has its messages", func() bool { return len(s2.notes()) == 64 })
		s1.mu.Lock()
		s1.stalled = false
		s1.cond.Broadcast()
		s1.mu.Unlock()
		w.within(10*time.Second, "what was sent arrives", func() bool { return len(s1.notes()) == sent })
		if _, ups, downs, _ := s1.count(); ups != 2 || downs != 0 {
			t.Errorf("%d ups, %d downs", ups, downs)
		}
	})
}

// Trunks without a use are closed.
func TestIdleTrunkEnds(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		g := id.Of("g")
		s0, s1 := n0.join(g, nil), n1.join(g, nil)
		w.within(time.Second, "the bond is up", bonded(s0, s1))
		n0.mesh.Remove(g)
		n1.mesh.Remove(g)
		w.who[g] = nil
		time.Sleep(2 * idleAfter)
		synctest.Wait()
		for _, n := range []*testNode{n0, n1} {
			n.mesh.mu.Lock()
			if len(n.mesh.peers) != 0 {
				t.Errorf("%d peers are remembered", len(n.mesh.peers))
			}
			n.mesh.mu.Unlock()
		}
	})
}
