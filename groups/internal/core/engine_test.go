package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// raft#354, raft#80, cockroach#106104: the library turns down a change of members without a word. The engine notices,
// makes it again, and its books are right.
func TestRefusedChangeIsMadeAgain(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	l := c.leader()
	d := c.start("d", nil)
	for _, n := range c.nodes[:3] {
		c.bond(n, d)
	}
	c.settle() // d has asked to join, and its change is applied
	if !c.until(5*time.Second, func() bool { return c.whole(4) }) {
		t.Fatal("no group of four")
	}
	// The engine forgets for a moment that one is under way, as if a bug or an upgrade had made it so.
	e := c.start("e", nil)
	for _, n := range c.nodes[:4] {
		c.bond(n, e)
	}
	l.eng.propose(member.Op{Kind: member.Demote, Member: wire.Member{ID: c.followers()[0].eng.self}})
	l.eng.leader.changing, l.eng.leader.changeAt = false, 0
	l.eng.propose(member.Op{Kind: member.Remove, Member: wire.Member{ID: d.eng.self}})
	if _, is := l.eng.leader.next[d.eng.self]; is {
		t.Fatal("the removal is not in the leader's books")
	}
	d.submit("d1", 1, false)
	if !c.until(10*time.Second, func() bool { return c.whole(5) && len(d.log) == 1 }) {
		for _, n := range c.nodes {
			t.Logf("%s: %+v %v", n.name, n.status, n.log)
		}
		t.Fatal("the group does not go on")
	}
}

// What was decided in a history is for the state machine of that history, and not for the next one, whatever arrives
// together; a read that waited for it is asked again.
func TestNothingDecidedBeforeReachesTheNewMachine(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	l := c.leader()
	f := c.followers()[0]
	c.followers()[1].submit("first", 1, false)
	c.settle()
	f.read("r")
	f.submit("own", 1, false)
	for len(c.queue) > 0 && f.eng.commits == f.eng.handed {
		// Everything arrives but the last message to f, which would show it that its call is committed.
		if p := c.queue[0]; p.to == f {
			if r, ok := p.m.(*wire.Raft); ok && r.Msg.GetCommit() > f.eng.commits {
				break
			}
		}
		c.deliver()
	}
	// In one mailbox: its call is committed, and it has been removed.
	var rest []packet
	for _, p := range c.queue {
		if p.to == f {
			p.arrive()
		} else {
			rest = append(rest, p)
		}
	}
	c.queue = rest
	f.eng.drainRaft()
	if len(f.eng.due.apply) == 0 {
		t.Fatal("nothing was decided: the test does not test what it says")
	}
	old := f.eng.self
	f.eng.Receive(c.now, l.peer, &wire.Removed{Genesis: l.eng.genesis, Member: old})
	f.flush()
	if f.resets != 1 || len(f.log) != 0 || f.eng.self == old {
		t.Fatalf("%d resets, log %q", f.resets, f.log)
	}
	if !slices.Contains(f.done, "own applied at 2") {
		t.Errorf("outcomes %q", f.done)
	}
	if !c.until(20*time.Second, func() bool { return c.whole(3) && len(f.log) == 2 && len(f.done) == 2 }) {
		t.Fatalf("it does not come back: %+v, log %q, outcomes %q", f.status, f.log, f.done)
	}
}

// A member that was taken in and out again before it heard of it asks under another id: the old one never comes back.
func TestJoinerThatWasRemovedBeforeItKnew(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	d := c.start("d", func(cfg *Config) { cfg.Expect = 99 }) // it founds nothing while it is cut off
	for _, n := range c.nodes[:3] {
		c.bond(n, d)
	}
	first := d.eng.self
	lost := func() {
		c.queue = slices.DeleteFunc(c.queue, func(p packet) bool {
			switch p.m.(type) {
			case *wire.Accept, *wire.Raft:
				return p.to == d
			}
			return false
		})
	}
	for len(c.queue) > 0 {
		lost()
		c.deliver()
	}
	if len(c.leader().status.Members) != 4 {
		t.Fatal("d was not taken in")
	}
	for _, n := range c.nodes[:3] {
		c.unbond(n, d, false)
	}
	if !c.until(30*time.Second, func() bool { return len(c.leader().status.Members) == 3 }) {
		t.Fatal("d was not taken out")
	}
	for _, n := range c.nodes[:3] {
		c.bond(n, d)
	}
	if !c.until(5*time.Second, func() bool { return c.whole(4) }) {
		t.Fatalf("d does not come in: %+v", d.status)
	}
	if d.eng.self == first {
		t.Error("d has its old id")
	}
}

// A member that was taken out knows that there is a history. It does not found another one while the catalog lists
// others, however long it is cut off.
func TestFormerMemberDoesNotFound(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	f := c.followers()[0]
	var others []id.PeerID
	for _, n := range c.nodes {
		if n != f {
			others = append(others, n.peer)
		}
	}
	f.eng.Listed(c.now, append(others, f.peer))
	l := c.leader()
	f.eng.Receive(c.now, l.peer, &wire.Removed{Genesis: l.eng.genesis, Member: f.eng.self})
	for _, n := range c.nodes {
		if n != f {
			c.unbond(n, f, true)
		}
	}
	c.pass(2 * time.Minute)
	if f.status.Role != RoleBlank {
		t.Fatalf("it founded: %+v", f.status)
	}
	f.eng.Listed(c.now, []id.PeerID{f.peer})
	c.pass(20 * time.Second)
	if f.status.Role != RoleLeader {
		t.Fatalf("nobody else is there any more, and it does not found: %+v", f.status)
	}
}

// Hellos that are lost are said again, as the first or as the latest, and those that are overtaken do not count.
func TestLostHellos(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster()
		a, b := c.start("a", nil), c.start("b", nil)
		c.bond(a, b)
		change := func(n *testNode) { n.eng.announce(); n.flush() }
		var late []packet
		for range rapid.IntRange(0, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				change(rapid.SampledFrom(c.nodes).Draw(rt, "who"))
			case 1:
				c.deliver()
			case 2:
				if len(c.queue) > 0 {
					c.queue = c.queue[1:]
				}
			case 3:
				if len(c.queue) > 0 {
					late = append(late, c.queue[0])
				}
			case 4:
				if len(late) > 0 {
					c.queue = append(c.queue, late[0])
					late = late[1:]
				}
			case 5:
				c.now += helloEvery
				for _, n := range c.nodes {
					n.eng.tickHello()
					n.flush()
				}
			}
		}
		c.queue = append(c.queue, late...)
		c.settle()
		for _, n := range c.nodes {
			n.eng.tickHello()
			n.flush()
		}
		c.settle()
		for i, n := range c.nodes {
			o := c.nodes[1-i]
			p := n.eng.peers[o.peer]
			if p.hello == nil || p.hello.Seq != o.eng.version || p.heard != n.eng.version {
				rt.Fatalf("%s has heard %+v of %s, whose version is %d; its own is %d and %d was heard", n.name, p.hello, o.name, o.eng.version, n.eng.version, p.heard)
			}
		}
		quiet := len(c.queue)
		c.now += helloEvery
		for _, n := range c.nodes {
			n.eng.tickHello()
			n.flush()
		}
		if len(c.queue) != quiet {
			rt.Fatal("hellos go on although all were heard")
		}
	})
}

// What a leader tells the sender of a feed, its user index, is what it comes to be, unless another leader comes between;
// all members apply the same calls, each once, each member's in the order in which it made them. Members come and go
// meanwhile, and messages of every kind are lost.
func TestFeedsAreAppliedWhereTheLeaderSaid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster()
		entry := rapid.SampledFrom([]int{100, 1 << 20}).Draw(rt, "entry")
		c.tune = func(cfg *Config) { cfg.MaxEntryBytes = entry }
		c.form("a", "b", "c", "d")
		said := make(map[string]Index) // of calls: index that the leader told
		where := make(map[string]Index)
		term := c.leader().status.Term
		for _, n := range c.nodes {
			n.onDone = func(call *Call, first Index) {
				text := call.Host.(string)
				if call.Feed {
					said[text] = first
				} else {
					where[text] = first
				}
			}
		}
		made := make(map[*testNode][]string)
		for i := range rapid.IntRange(1, 60).Draw(rt, "steps") {
			n := rapid.SampledFrom(c.nodes).Draw(rt, "node")
			switch what := rapid.IntRange(0, 9).Draw(rt, "what"); {
			case what < 5:
				if n.left || n.eng.leaving.asked {
					continue
				}
				text := fmt.Sprintf("%s%d", n.name, i)
				made[n] = append(made[n], text)
				n.submit(text, rapid.IntRange(1, 3).Draw(rt, "count"), what < 4)
			case what < 7:
				for range rapid.IntRange(1, 10).Draw(rt, "messages") {
					c.deliver()
				}
			case what == 7:
				if len(c.queue) > 0 && rapid.Bool().Draw(rt, "lose") {
					c.queue = c.queue[1:]
				}
			case what == 8 && n != c.leader() && n == c.nodes[3]:
				n.eng.Leave(c.now)
				n.flush()
			default:
				c.pass(testTick)
			}
		}
		c.pass(5 * time.Second)
		var longest *testNode
		for _, n := range c.nodes {
			if n.fatal != nil {
				rt.Fatal(n.fatal)
			}
			if longest == nil || len(n.log) > len(longest.log) {
				longest = n
			}
		}
		for _, n := range c.nodes {
			if !slices.Equal(n.log, longest.log[:len(n.log)]) || !n.left && len(n.log) != len(longest.log) {
				rt.Fatalf("%s applied %q, %s %q", n.name, n.log, longest.name, longest.log)
			}
			var own []string
			for _, text := range longest.log {
				if strings.HasPrefix(text, n.name) {
					own = append(own, text)
				}
			}
			want := made[n]
			if n.eng.leaving.asked {
				want = want[:min(len(want), len(own))] // a session ends with its member
			}
			if !slices.Equal(own, want) {
				rt.Fatalf("%s made %q, and %q is in the log", n.name, want, own)
			}
		}
		if c.leader().status.Term != term {
			return
		}
		at := make(map[string]Index)
		for _, e := range longest.entries {
			at[e.text] = e.first
		}
		for text, first := range said {
			if have, is := at[text]; is && have != first {
				rt.Fatalf("the leader said %d for %s, and it is at %d", first, text, have)
			}
		}
		for text := range maps.Keys(where) {
			if at[text] != where[text] {
				rt.Fatalf("%s was applied at %d and is at %d", text, where[text], at[text])
			}
		}
	})
}

// What an engine keeps of peers is bounded by those that are there or are members.
func TestPeersAreForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	for i := range 20 {
		n := c.start(fmt.Sprintf("x%d", i), func(cfg *Config) { cfg.Preference = Observer })
		for _, o := range c.nodes[:3] {
			c.bond(o, n)
		}
		c.pass(time.Second)
		c.crash(n, i%2 == 0)
		c.pass(15 * time.Second)
	}
	for _, n := range c.nodes[:3] {
		if len(n.eng.peers) != 2 || len(n.status.Members) != 3 {
			t.Errorf("%s keeps %d peers and %d members", n.name, len(n.eng.peers), len(n.status.Members))
		}
	}
}

// An engine that cannot write its log gives up, says why, and fails what waits.
func TestLogThatFails(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.form("a", "b", "c")
	l := c.leader()
	l.eng.log = brokenLog{l.eng.log}
	l.submit("x", 1, false)
	if l.fatal == nil || !strings.Contains(l.fatal.Error(), "the disk is on fire") {
		t.Fatalf("fatal %v", l.fatal)
	}
	if got := strings.Join(l.done, ";"); got != "x failed: unknown" {
		t.Errorf("outcomes %q", got)
	}
	if l.status.Online || !strings.Contains(l.status.Reason, "the disk is on fire") {
		t.Errorf("status %+v", l.status)
	}
	l.submit("y", 1, false)
	if got := l.done[len(l.done)-1]; got != "y failed: closed" {
		t.Errorf("a later call ends with %q", got)
	}
}

// Configurations that cannot work are refused.
func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no tick":                    func(c *Config) { c.Tick = 0 },
		"heartbeat below the tick":   func(c *Config) { c.Heartbeat = c.Tick / 2 },
		"election timeout too short": func(c *Config) { c.ElectionTimeout = c.Heartbeat },
		"no voters":                  func(c *Config) { c.MaxVoters = 0 },
		"no entries":                 func(c *Config) { c.MaxInflight = 0 },
		"no bytes":                   func(c *Config) { c.MaxEntryBytes = 0 },
		"no calls":                   func(c *Config) { c.MaxPendingCalls = 0 },
	} {
		cfg := testConfig(id.PeerID{1}, 1)
		change(&cfg)
		log, err := logstore.Memory().Open(cfg.Group, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(cfg, log); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
