package core

import (
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// The note says of every other history in sight whether it is about to be merged or waits for a majority of its own.
func TestNoteOnRivals(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	r := c.node("a").eng
	for seq, led := range []bool{false, true} {
		h := &wire.Hello{Seq: 1<<20 + uint64(seq), Genesis: wire.Genesis{7}, Nonce: 1, Member: 9}
		if led {
			h.Leader = id.PeerID{8}
		}
		r.Receive(c.now, c.node("b").peer, h)
		note := r.note()
		if !strings.Contains(note, "0700000000") || strings.Contains(note, "(will be merged)") != led || strings.Contains(note, "has no leader") == led {
			t.Errorf("a history with a leader (%v): %q", led, note)
		}
	}
}
