package groups_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// Nodes of one network name with different secrets found groups of their own. Both say why, once in the log, and in the
// status of groups and streams as long as the other is there.
func TestOtherSecretIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 0)
		var logs [2]record
		net.Add(mosaik.WithSecret("aaa"), mosaik.WithLogger(logs[0].logger()))
		net.Add(mosaik.WithSecret("bbb"), mosaik.WithLogger(logs[1].logger()), mosaik.WithBootstrap(net.Node(0).Addr()))
		var gs [2]*counterGroup
		var feeds [2]*streams.Consumer[int]
		for i := range gs {
			var err error
			if gs[i], err = groups.Join(net.Node(i), groups.KeyFrom("secret"), newCounter); err != nil {
				t.Fatal(err)
			}
			if feeds[i], err = streams.Consume[int](net.Node(i)); err != nil {
				t.Fatal(err)
			}
		}
		const note = "1 peer of this network is refused: another network secret"
		time.Sleep(15 * time.Minute)
		for i, g := range gs {
			if s := g.Status(); !s.Online || !strings.Contains(s.Note, note) || !strings.Contains(s.String(), note) {
				t.Errorf("group on node %d: %v", i, s)
			}
			if s := feeds[i].Status(); !strings.Contains(s.Note, note) || !strings.Contains(s.String(), note) {
				t.Errorf("stream on node %d: %v", i, s)
			}
			if s := net.Node(i).Discovery().Status(); len(s.Strangers) != 1 || s.Strangers[0].Peer != net.Node(1-i).ID() {
				t.Errorf("discovery on node %d: %v", i, s)
			}
			if n := logs[i].count(`"level":"WARN"`, "another network secret", net.Node(1-i).ID().Short()); n < 1 || n > 2 {
				t.Errorf("node %d warned %d times in 15 minutes, want at the beginning and perhaps again", i, n)
			}
		}
		net.Kill(1)
		time.Sleep(5 * time.Minute)
		if s := gs[0].Status(); s.Note != "" {
			t.Errorf("after the other is gone: %q", s.Note)
		}
	})
}
