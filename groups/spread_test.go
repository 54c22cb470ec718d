package groups_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
)

// Each of three nodes leads its part of sixty groups: when they came one after the other, so that the first led all; after
// one has left; and after it is back. Once it is so, it stays so.
func TestLeadersSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const nodes, count = 3, 60
		net := testnet.Simulated(t, nodes, testnet.Patience(5*time.Minute))
		net.DiscoverAll(t.Context())
		var keys []groups.Key
		for i := range count {
			keys = append(keys, groups.KeyFrom(fmt.Sprint("group ", i)))
		}
		all := make([][]*counterGroup, nodes)
		enter := func(node int) {
			all[node] = nil
			for _, key := range keys {
				all[node] = append(all[node], join(t, net.Node(node), key, quick))
			}
		}
		leads := func() (n [nodes]int) {
			for _, i := range net.Up() {
				for _, g := range all[i] {
					if g.IsLeader() {
						n[i]++
					}
				}
			}
			return n
		}
		// A node that leads four more than its part gives nothing away.
		spread := func(least, most int) {
			t.Helper()
			net.WaitUntil("the leaders are spread", func() error {
				n := leads()
				for _, i := range net.Up() {
					if n[i] < least || n[i] > most {
						return fmt.Errorf("the nodes lead %v", n)
					}
					for _, g := range all[i] {
						if g.Status().Voters != len(net.Up()) {
							return fmt.Errorf("node %d:\n%v", i, g.Status())
						}
					}
				}
				return nil
			})
			time.Sleep(10 * time.Second) // until handing over that is under way is over
			before := leads()
			t.Logf("the nodes lead %v", before)
			time.Sleep(2 * time.Minute)
			if after := leads(); after != before {
				t.Errorf("the nodes led %v, and two minutes later %v", before, after)
			}
		}
		enter(0)
		net.WaitFor("the first node leads all", func() bool { return leads() == [nodes]int{count, 0, 0} })
		enter(1)
		enter(2)
		spread(count/3-10, count/3+4)

		net.Close(0)
		spread(count/2-15, count/2+4)

		net.Restart(0)
		enter(0)
		spread(count/3-10, count/3+4)
	})
}
