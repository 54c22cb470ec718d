package host

import (
	"testing"
	"testing/synctest"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// A removal has not happened because this member moves to another history, or begins anew, and knows of no members there
// yet. The leader is asked again until the peer is out there as well.
func TestRemovalThroughAMove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		peer := id.PeerID{1}
		with := []core.Member{{Peer: peer}}
		then := []core.Status{
			{Role: core.RoleBlank},
			{Role: core.RoleFollower, Genesis: core.GenesisID{2}},
			{Role: core.RoleFollower, Genesis: core.GenesisID{2}, Online: true, Members: with},
			{Role: core.RoleFollower, Genesis: core.GenesisID{2}, Online: true},
		}
		asked := 0
		e := &lineEngine{status: &core.Status{Role: core.RoleFollower, Genesis: core.GenesisID{1}, Online: true, Members: with}}
		e.before = func(out *core.Output) {
			for i := range out.Answers {
				out.Answers[i].Failure = ""
				if asked < len(then) {
					e.status = &then[asked]
				}
				asked++
			}
		}
		g := newTestGroup(t, e, &sumMachine{}, GroupConfig{})
		g.tick(0, new(bond.Round))
		synctest.Wait()
		if sent, err := g.Remove(t.Context(), nil, peer); !sent || err != nil || asked != len(then) {
			t.Errorf("after %d questions: sent %v, %v", asked, sent, err)
		}
	})
}
