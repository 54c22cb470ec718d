package core

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// alive checks that a group still works.
func (c *cluster) alive(t testing.TB, nodes int) {
	t.Helper()
	for _, n := range c.nodes {
		if n.fatal != nil {
			t.Fatalf("%s gave up: %v", n.name, n.fatal)
		}
	}
	if !c.until(30*time.Second, func() bool { return c.whole(nodes) }) {
		for _, n := range c.nodes {
			t.Logf("%s: %+v", n.name, n.status)
		}
		t.Fatal("the group is broken")
	}
	before := c.nodes[0].index
	c.nodes[0].submit("alive?", 1, false)
	if !c.until(5*time.Second, func() bool { return c.nodes[len(c.nodes)-1].index > before }) {
		t.Fatal("the group takes no commands")
	}
}

func ctxOf(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// Messages that the library would not survive, or that nobody may send, are refused before it sees them. The member that
// gets them leads in half of the cases.
func TestHostileRaftMessages(t *testing.T) {
	t.Parallel()
	typ := func(x raftpb.MessageType) *raftpb.MessageType { return &x }
	change := func(op member.Op) []byte { b, _ := proto.Marshal(encodeChange(op)); return b }
	conf := raftpb.EntryConfChangeV2
	for name, msg := range map[string]*raftpb.Message{
		// memo, pitfalls: the leader panics on a heartbeat context of the wrong length or value (found in v3.7.0).
		"heartbeat response with a short context":     {Type: typ(raftpb.MsgHeartbeatResp), Context: []byte{1}},
		"heartbeat response with a long context":      {Type: typ(raftpb.MsgHeartbeatResp), Context: make([]byte, 9)},
		"heartbeat response to a round in the future": {Type: typ(raftpb.MsgHeartbeatResp), Context: ctxOf(math.MaxUint64)},
		"heartbeat response to the next round":        {Type: typ(raftpb.MsgHeartbeatResp), Context: ctxOf(1)},
		"heartbeat with a short context":              {Type: typ(raftpb.MsgHeartbeat), Context: []byte{1, 2, 3}},
		// etcd#12483: "tocommit is out of range" on a member whose log is shorter than the leader believes.
		"heartbeat beyond the log":       {Type: typ(raftpb.MsgHeartbeat), Commit: new(uint64(1 << 40))},
		"acknowledgement beyond the log": {Type: typ(raftpb.MsgAppResp), Index: new(uint64(1 << 40))},
		"refusal beyond the log":         {Type: typ(raftpb.MsgAppResp), Index: new(uint64(1 << 40)), Reject: new(true), RejectHint: new(uint64(1 << 40))},
		"refusal before the log":         {Type: typ(raftpb.MsgAppResp), Index: new(uint64(2)), Reject: new(true), RejectHint: new(uint64(0))},
		"append at the end of numbers":   {Type: typ(raftpb.MsgApp), Index: new(uint64(math.MaxUint64)), LogTerm: new(uint64(1))},
		"append without a position":      {Type: typ(raftpb.MsgApp), Commit: new(uint64(math.MaxUint64))},
		"append of a term above its own": {Type: typ(raftpb.MsgApp), Index: new(uint64(1)), LogTerm: new(uint64(math.MaxUint64))},
		"append over what is committed": {Type: typ(raftpb.MsgApp), Index: new(uint64(1)), LogTerm: new(uint64(1)), Entries: []*raftpb.Entry{
			{Index: new(uint64(2)), Term: new(uint64(1))}}},
		"append of an entry that cannot be read": {Type: typ(raftpb.MsgApp), Entries: []*raftpb.Entry{{Data: []byte("garbage")}}},
		"append of a change that cannot be read": {Type: typ(raftpb.MsgApp), Entries: []*raftpb.Entry{{Type: &conf, Data: []byte("garbage")}}},
		"append of a change without meaning":     {Type: typ(raftpb.MsgApp), Entries: []*raftpb.Entry{{Type: &conf}}},
		"append of a member with a reserved id": {Type: typ(raftpb.MsgApp), Entries: []*raftpb.Entry{{Type: &conf,
			Data: change(member.Op{Kind: member.Add, Member: wire.Member{ID: raft.LocalAppendThread}})}}},
		"vote with entries":                 {Type: typ(raftpb.MsgVote), Entries: []*raftpb.Entry{{}}},
		"vote in the last term":             {Type: typ(raftpb.MsgVote), Term: new(uint64(math.MaxUint64))},
		"pre-vote in an absurd term":        {Type: typ(raftpb.MsgPreVote), Term: new(uint64(1 << 50))},
		"vote granted without being asked":  {Type: typ(raftpb.MsgVoteResp)},
		"pre-vote granted in a future term": {Type: typ(raftpb.MsgPreVoteResp), Term: new(uint64(100))},
		"message without a term":            {Type: typ(raftpb.MsgApp), Term: new(uint64(0))},
		"order to stand for election":       {Type: typ(raftpb.MsgTimeoutNow)},
	} {
		for _, leads := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := newCluster()
				c.form("a", "b", "c")
				target := c.leader()
				from := c.followers()[0]
				if !leads {
					target, from = from, target
				}
				m := proto.Clone(msg).(*raftpb.Message)
				m.To, m.From = &target.eng.self, &from.eng.self
				if m.Term == nil {
					m.Term = new(target.eng.term)
				}
				for i, e := range m.Entries {
					if e.Index == nil {
						last, _ := target.eng.log.LastIndex()
						term, _ := target.eng.log.Term(last)
						m.Index, m.LogTerm, e.Index, e.Term = new(last), new(term), new(last+1+uint64(i)), new(target.eng.term)
					}
				}
				target.eng.Receive(c.now, from.peer, &wire.Raft{Genesis: target.eng.genesis, Msg: m})
				target.flush()
				if target.fatal != nil {
					t.Fatal(target.fatal)
				}
				if target.eng.term > 1000 {
					t.Errorf("term %d", target.eng.term)
				}
				c.alive(t, 3)
			})
		}
	}
}

// Nobody speaks for another member, and strangers are not heard.
func TestWrongSenders(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	l := c.leader()
	f, g := c.followers()[0], c.followers()[1]
	term := l.eng.term
	vote := func(from, to uint64) *wire.Raft {
		return &wire.Raft{Genesis: l.eng.genesis, Msg: &raftpb.Message{
			Type: raftpb.MsgAppResp.Enum(), From: &from, To: &to, Term: new(term + 1),
		}}
	}
	for name, x := range map[string]struct {
		from *testNode
		m    wire.Message
	}{
		"a follower in another's name":         {f, vote(g.eng.self, l.eng.self)},
		"the leader in its own name to itself": {l, vote(l.eng.self, l.eng.self)},
		"a stranger's id":                      {f, vote(12345, l.eng.self)},
		"no id":                                {f, vote(0, l.eng.self)},
		"to somebody else":                     {f, vote(f.eng.self, g.eng.self)},
		"of another history":                   {f, &wire.Raft{Genesis: wire.Genesis{1}, Msg: vote(f.eng.self, l.eng.self).Msg}},
		"leave for another":                    {f, &wire.Leave{Genesis: l.eng.genesis, Member: g.eng.self}},
		"death of another":                     {f, &wire.Left{Genesis: l.eng.genesis, Member: g.eng.self}},
		"calls of another":                     {f, &wire.Forward{Genesis: l.eng.genesis, Member: g.eng.self, Session: 1, First: 1, Items: []wire.Item{{Count: 1}}}},
		"a join with a reserved id":            {f, &wire.Join{Genesis: l.eng.genesis, Member: math.MaxUint64}},
		"a join with another's id":             {f, &wire.Join{Genesis: l.eng.genesis, Member: g.eng.self}},
		"an answer to no question":             {f, &wire.ReadIndex{Genesis: l.eng.genesis, ID: 1, Index: 1 << 60}},
		"an acceptance of a member":            {f, &wire.Accept{Origin: founded(l.eng.genesis, 1), Member: l.eng.self}},
		"removal by another history":           {f, &wire.Removed{Genesis: wire.Genesis{1}, Member: l.eng.self}},
		"an acknowledgement from no leader":    {f, &wire.Ack{Genesis: l.eng.genesis, First: 1, Calls: math.MaxUint64, Index: 1}},
		"a pulse in the leader's name":         {f, &wire.Pulse{Member: l.eng.self, Term: term}},
		"a pulse in another's name":            {f, &wire.Pulse{Member: g.eng.self, Term: term + 1}},
		"a pulse of a stranger":                {f, &wire.Pulse{Member: 12345, Term: term + 1}},
		"a pulse without a term":               {f, &wire.Pulse{Member: f.eng.self}},
		"an answer to a pulse of the future":   {f, &wire.Pulsed{Term: term + 1}},
		"a demand from no leader":              {f, &wire.Expect{Genesis: l.eng.genesis, Next: math.MaxUint64}},
	} {
		l.eng.Receive(c.now, x.from.peer, x.m)
		l.flush()
		c.settle()
		if l.fatal != nil || l.status.Role != RoleLeader || l.eng.term != term || len(l.status.Members) != 3 || l.resets > 0 {
			t.Fatalf("%s: fatal %v, status %+v", name, l.fatal, l.status)
		}
	}
	c.alive(t, 3)
	if len(c.leader().log) != 1 {
		t.Errorf("log %q", c.leader().log)
	}
}

// A blank member takes no acceptance that it did not ask for, nor one that would make it the only voter.
func TestUnaskedAcceptance(t *testing.T) {
	t.Parallel()
	c := newCluster()
	a := c.start("a", func(cfg *Config) { cfg.Expect = 3 })
	b := c.start("b", func(cfg *Config) { cfg.Expect = 3 })
	c.bond(a, b)
	c.settle()
	g := wire.Genesis{7}
	a.eng.Receive(c.now, b.peer, &wire.Hello{Seq: 9, Genesis: g, Member: 77})
	for name, m := range map[string]*wire.Accept{
		"no member":         {Origin: founded(g, 5)},
		"another member":    {Origin: founded(g, 5), Member: 6},
		"itself as founder": {Origin: founded(g, a.eng.self), Member: a.eng.self},
		"no founder":        {Origin: wire.Origin{Genesis: g}, Member: a.eng.self},
		"reserved founder":  {Origin: founded(g, math.MaxUint64), Member: a.eng.self},
		"another history":   {Origin: founded(wire.Genesis{8}, 5), Member: a.eng.self},
		"no history":        {Origin: founded(wire.Genesis{}, 5), Member: a.eng.self},
	} {
		a.eng.Receive(c.now, b.peer, m)
		a.flush()
		if a.fatal != nil || a.status.Role != RoleBlank {
			t.Fatalf("%s: fatal %v, role %d", name, a.fatal, a.status.Role)
		}
	}
}

// hostileRaft draws a message that a member could send if it were not what it seems.
func hostileRaft(rt *rapid.T, to *Replica, from uint64) *raftpb.Message {
	near := func(label string, v uint64) uint64 {
		return rapid.OneOf(
			rapid.Map(rapid.Uint64Range(0, 6), func(d uint64) uint64 { return max(v, 3) + d - 3 }),
			rapid.SampledFrom([]uint64{0, 1, 2, math.MaxUint64 - 1, math.MaxUint64, 1 << 32, 1 << 62, 1<<62 + 1}),
			rapid.Uint64(),
		).Draw(rt, label)
	}
	last, _ := to.log.LastIndex()
	types := []raftpb.MessageType{
		raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow,
	}
	m := &raftpb.Message{
		Type: rapid.SampledFrom(types).Draw(rt, "type").Enum(), From: &from, To: &to.self,
		Term: new(near("term", to.term)), LogTerm: new(near("logterm", to.term)), Index: new(near("index", last)), Commit: new(near("commit", last)),
	}
	if rapid.Bool().Draw(rt, "reject") {
		m.Reject, m.RejectHint = new(true), new(near("hint", last))
	}
	switch rapid.IntRange(0, 3).Draw(rt, "context") {
	case 0:
		m.Context = rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(rt, "bytes")
	case 1:
		m.Context = ctxOf(near("round", to.reads.rounds))
	}
	for range rapid.IntRange(0, 2).Draw(rt, "entries") {
		e := &raftpb.Entry{Term: new(near("entry term", to.term)), Index: new(m.GetIndex() + 1 + uint64(len(m.Entries)))}
		switch rapid.IntRange(0, 3).Draw(rt, "entry") {
		case 0:
			e.Data = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "data")
		case 1:
			e.Data = appendRun(nil, &run{session: from, first: near("first", 1), items: []wire.Item{{Count: 1, Payload: []byte("x")}}})
		case 2:
			op := member.Op{Kind: rapid.SampledFrom([]member.OpKind{member.Add, member.Promote, member.Demote, member.Remove}).Draw(rt, "op")}
			op.Member.ID = rapid.SampledFrom([]uint64{to.self, from, 7, math.MaxUint64}).Draw(rt, "member")
			e.Type = raftpb.EntryConfChangeV2.Enum()
			e.Data, _ = proto.Marshal(encodeChange(op))
		}
		m.Entries = append(m.Entries, e)
	}
	return m
}

// Whatever members send, an engine neither panics nor gives up. (A member that lies can stop a group, or make it lose what
// it holds: members are trusted. It cannot end the process, or the group on another node.)
func TestHostileMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster()
		c.form("a", "b", "c")
		for range rapid.IntRange(1, 12).Draw(rt, "messages") {
			to := c.nodes[rapid.IntRange(0, 2).Draw(rt, "to")]
			from := c.nodes[rapid.IntRange(0, 2).Draw(rt, "from")]
			if to == from || to.eng.rn == nil || to.fatal != nil {
				continue
			}
			m := hostileRaft(rt, to.eng, from.eng.self)
			to.eng.Receive(c.now, from.peer, &wire.Raft{Genesis: to.eng.genesis, Msg: m})
			to.flush()
			if rapid.Bool().Draw(rt, "settle") {
				c.settle()
			}
			if rapid.IntRange(0, 4).Draw(rt, "pass") == 0 {
				c.pass(300 * time.Millisecond)
			}
			for _, n := range c.nodes {
				if n.fatal != nil {
					rt.Fatalf("%s gave up: %v", n.name, n.fatal)
				}
			}
		}
	})
}

// FuzzReceive gives an engine the bytes of messages, as they come from a bond.
func FuzzReceive(f *testing.F) {
	c := newCluster()
	c.codec = false
	var seen []wire.Message
	c.watch = func(m wire.Message) { seen = append(seen, m) }
	c.form("a", "b", "c")
	c.nodes[1].submit("call", 2, true)
	c.nodes[2].read("read")
	c.settle()
	kinds := make(map[byte]int)
	for _, m := range seen {
		b := wire.Append(nil, m)
		if kinds[b[0]]++; kinds[b[0]] < 4 {
			f.Add(b)
		}
	}
	for _, n := range c.nodes {
		f.Add(wire.Append(nil, &wire.Pulse{Member: n.eng.self, Term: n.eng.term}))
		f.Add(wire.Append(nil, &wire.Pulsed{Term: n.eng.term}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.Decode(b)
		if err != nil {
			return
		}
		c := newCluster()
		c.form("a", "b", "c") // the same ids as those of the messages above
		for _, to := range c.nodes {
			for _, from := range c.nodes {
				if to != from {
					to.eng.Receive(c.now, from.peer, m)
					to.flush()
				}
			}
		}
		c.pass(testTick)
		for _, n := range c.nodes {
			if n.fatal != nil {
				t.Fatal(n.fatal)
			}
		}
	})
}

// A peer that is bonded and never says hello, or says it for ever, costs no more than a hello each half second.
func TestSilentAndTalkativePeers(t *testing.T) {
	t.Parallel()
	c := newCluster()
	a := c.start("a", func(cfg *Config) { cfg.Expect = 2 })
	mute := id.PeerID(id.Of("mute"))
	a.eng.PeerUp(c.now, mute)
	a.flush()
	sent := 0
	c.watchAll = func(e Envelope) {
		if e.To == mute {
			sent++
		}
	}
	c.pass(10 * time.Second)
	if sent > 21 {
		t.Errorf("%d messages to a peer that says nothing", sent)
	}
	sent = 0
	for i := range 1000 {
		a.eng.Receive(c.now, mute, &wire.Hello{Seq: uint64(i), Heard: 1, Member: 5, Nonce: 6})
		a.flush()
	}
	if sent > 0 {
		t.Errorf("%d answers to hellos that ask for none", sent)
	}
	if len(a.eng.peers) != 1 || slices.Contains(a.eng.bonded(), a.peer) {
		t.Errorf("peers %v", a.eng.bonded())
	}
}

// founded is the origin of a history with one founder.
func founded(g wire.Genesis, founder uint64) wire.Origin {
	return wire.Origin{Genesis: g, Founders: []wire.Member{{ID: founder}}}
}
