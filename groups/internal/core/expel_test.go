package core

import (
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// A leader takes nobody out that it has a bond with, whoever wants that, nor anybody that it does not know; one that is not
// there goes at once, and a wish is forgotten soon.
func TestExpel(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	var leader, asker, other *testNode
	for _, n := range c.nodes {
		switch {
		case n.eng.isLeader():
			leader = n
		case asker == nil:
			asker = n
		default:
			other = n
		}
	}
	r := leader.eng
	expel := func(g wire.Genesis, who id.PeerID) {
		r.Receive(c.now, asker.peer, &wire.Expel{Genesis: g, Peer: who})
		leader.flush()
	}
	gone := func() bool { return !r.table.Has(other.peer) }
	expel(r.genesis, other.peer)
	expel(r.genesis, leader.peer)
	expel(r.genesis, id.PeerID{9})
	expel(wire.Genesis{9}, other.peer)
	if len(r.leader.expelled) > 2 {
		t.Errorf("remembers %d wishes", len(r.leader.expelled))
	}
	if c.until(3*time.Second, gone) || r.table.Len() != 3 {
		t.Fatalf("a member that is there was taken out: %d are left", r.table.Len())
	}
	c.unbond(leader, other, true)
	if c.until(3*time.Second, gone) {
		t.Fatal("a wish from before was granted")
	}
	expel(r.genesis, other.peer)
	if !c.until(2*time.Second, gone) {
		t.Fatal("a member that is not there was not taken out")
	}
}
