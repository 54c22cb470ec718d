package core

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// What a member hears to be committed it takes over if its own log holds that very entry, and if nobody leads it or has it
// stand still. It does not take for its leader who says so.
func TestLearnCommitted(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		follows bool   // the member has a leader
		still   bool   // it stands still for somebody else's muster
		musters bool   // its own muster is under way
		beyond  uint64 // how far behind the end of the log the entry is that the other one names
		term    uint64 // added to that of the entry
		learns  bool
	}{
		"the entry is here":      {learns: true},
		"musters":                {musters: true, learns: true},
		"stands still":           {still: true},
		"follows a leader":       {follows: true},
		"the entry is not here":  {beyond: 1},
		"another entry is here":  {term: 1},
		"an older entry is here": {term: ^uint64(0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			c.form("a", "b", "c")
			one, other := c.followers()[0], c.followers()[1]
			for i, n := range c.nodes {
				for _, o := range c.nodes[i+1:] {
					if !x.follows {
						c.unbond(n, o, true)
					}
				}
			}
			r := one.eng
			if !x.follows {
				if !c.until(10*time.Second, func() bool { return r.lead == 0 }) {
					t.Fatal("there is a leader without a majority")
				}
				c.bond(one, other)
			}
			// An entry comes from the leader of old, and nothing after it.
			last, err := r.log.LastIndex()
			if err != nil {
				t.Fatal(err)
			}
			term, lead := r.term, other.eng.self
			if !x.follows {
				e := &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: &term, Index: proto.Uint64(last + 1)}
				before, err := r.log.Term(last)
				if err != nil {
					t.Fatal(err)
				}
				r.Receive(c.now, other.peer, &wire.Raft{Genesis: r.genesis, Msg: &raftpb.Message{
					Type: raftpb.MsgApp.Enum(), From: &lead, To: &r.self, Term: &term, Index: &last, LogTerm: &before,
					Entries: []*raftpb.Entry{e}, Commit: proto.Uint64(r.commits),
				}})
				one.flush()
				_ = r.rn.ForgetLeader()
				r.stirred = true
				one.flush()
				last++
			}
			if have, err := r.log.LastIndex(); err != nil || have != last || !x.follows && (r.commits >= last || r.lead != 0) {
				t.Fatalf("the log ends at %d, %d is committed, led by %d", have, r.commits, r.lead)
			}
			switch {
			case x.still:
				r.seal(7)
			case x.musters:
				r.callMuster(wire.Proven, []id.PeerID{other.peer}, nil)
			case x.follows:
				r.commits-- // as if it were behind
			}
			before := r.commits
			r.Receive(c.now, other.peer, &wire.Hello{
				Seq: 1 << 20, Genesis: r.genesis, Nonce: other.eng.cfg.BootNonce, Member: lead, Committed: last + x.beyond, CommittedTerm: term + x.term,
			})
			one.flush()
			if learned := r.commits >= last && r.handed >= last && r.commits > before; learned != x.learns {
				t.Errorf("%d is committed, was %d before, the log ends at %d", r.commits, before, last)
			}
			if !x.follows && r.lead != 0 {
				t.Error("the other one is taken for the leader")
			}
			if x.musters && r.recovery.muster != nil {
				t.Error("still musters")
			}
		})
	}
}
