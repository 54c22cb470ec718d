package core

import (
	"testing"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A rest takes the pulses and answers that are meant for it, and no others, and ends when a peer has been silent for too
// long.
func TestRestPulses(t *testing.T) {
	t.Parallel()
	a, b, c := id.PeerID{1}, id.PeerID{2}, id.PeerID{3}
	follower := &Rest{Term: 7, Member: 70, Peers: []id.PeerID{a}, limit: 5, heard: make([]int, 1), members: []uint64{70}}
	leader := &Rest{Leads: true, Term: 7, Member: 70, Peers: []id.PeerID{b, c}, limit: 5, heard: make([]int, 2), members: []uint64{71, 72}}
	for name, ok := range map[string]bool{
		"of another peer":             follower.Pulse(b, &wire.Pulse{Member: 70, Term: 7}),
		"of another member":           follower.Pulse(a, &wire.Pulse{Member: 71, Term: 7}),
		"of an earlier term":          follower.Pulse(a, &wire.Pulse{Member: 70, Term: 6}),
		"of a later term":             follower.Pulse(a, &wire.Pulse{Member: 70, Term: 8}),
		"to a leader":                 leader.Pulse(b, &wire.Pulse{Member: 70, Term: 7}),
		"answered by a stranger":      leader.Pulsed(a, &wire.Pulsed{Term: 7}),
		"answered in another term":    leader.Pulsed(b, &wire.Pulsed{Term: 8}),
		"answered to no leader":       follower.Pulsed(a, &wire.Pulsed{Term: 7}),
		"answered to an earlier term": leader.Pulsed(b, &wire.Pulsed{Term: 6}),
	} {
		if ok {
			t.Errorf("a pulse %s was taken", name)
		}
	}
	for range 100 {
		if follower.Tick() || leader.Tick() {
			t.Fatal("the rest ends though all are heard")
		}
		if !follower.Pulse(a, &wire.Pulse{Member: 70, Term: 7}) || !leader.Pulsed(b, &wire.Pulsed{Term: 7}) || !leader.Pulsed(c, &wire.Pulsed{Term: 7}) {
			t.Fatal("a pulse, or an answer, was not taken")
		}
	}
	for i := range 6 {
		leader.Pulsed(b, &wire.Pulsed{Term: 7})
		if late := i == 5; follower.Tick() != late || leader.Tick() != late {
			t.Fatalf("tick %d of silence, with a limit of 5: the rests end wrongly", i+1)
		}
	}
	alone := &Rest{Leads: true, Term: 7, Member: 70, limit: 5}
	for range 100 {
		if alone.Tick() {
			t.Fatal("the rest of a member that is alone ends")
		}
	}
}
