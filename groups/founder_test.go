package groups_test

import (
	"testing"
	"testing/synctest"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// A founder that leaves at once leaves nothing behind: whoever waited for it founds the group in its place.
func TestFounderLeavesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 3)
		net.DiscoverAll(t.Context())
		key := groups.RandomKey()
		var members []*counterGroup
		online := make(chan int, 3)
		for i := range 3 {
			g := join(t, net.Node(i), key)
			members = append(members, g)
			go func() {
				if g.When().Online(t.Context()) == nil {
					online <- i
				}
			}()
		}
		founder := <-online
		net.Close(founder)
		for i, g := range members {
			if i != founder {
				execute(t, g, 3)
			}
		}
	})
}
