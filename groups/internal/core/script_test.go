package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// TestScripts runs the scripts in testdata. Each is a story about a few engines; -rewrite writes down what happens now.
//
//	start <name>... [preference=p] [expect=n] [inflight=n] [calls=n] [voters=n]
//	bond <a> <b> | bond all | unbond <a> <b> [closed] | crash <a> [silent]
//	pass <duration>              time passes, and messages arrive without delay
//	tick <name>...               those engines tick once, and nothing arrives
//	deliver [n=count] [from=a] [to=b]   the oldest messages arrive, all if no count is given
//	drop [from=a] [to=b]         messages under way are lost
//	queue                        messages under way
//	submit <name> <text> [count=n] [feed] [times=n] | cancel <name> <text> | read <name> <text>
//	hold <name> | release <name> the state machine stands still
//	leave <name> | stop <name>
//	status | done | log | messages [kind=k]
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		cryptotest.SetGlobalRandom(t, 1) // of the library's election timeouts
		s := &script{cluster: newCluster(), calls: make(map[string]*Call), kinds: make(map[string]int)}
		s.watch = func(m wire.Message) { s.kinds[kindOf(m)]++ }
		datadriven.RunTest(t, path, s.run)
	})
}

type script struct {
	*cluster
	calls map[string]*Call
	kinds map[string]int
}

func kindOf(m wire.Message) string {
	if r, ok := m.(*wire.Raft); ok {
		return r.Msg.GetType().String()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "*wire.")
}

// names returns the positional arguments.
func names(d *datadriven.TestData) (out []string) {
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			out = append(out, a.Key)
		}
	}
	return out
}

func number(t *testing.T, d *datadriven.TestData, key string, or int) int {
	if d.HasArg(key) {
		d.ScanArgs(t, key, &or)
	}
	return or
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	arg := names(d)
	var from, to string
	d.MaybeScanArgs(t, "from", &from)
	d.MaybeScanArgs(t, "to", &to)
	between := func(p packet) bool {
		return (from == "" || p.from.name == from) && (to == "" || p.to.name == to)
	}
	switch d.Cmd {
	case "start":
		for _, name := range arg {
			s.start(name, func(c *Config) {
				c.Expect = number(t, d, "expect", 1)
				c.MaxInflight = number(t, d, "inflight", c.MaxInflight)
				c.MaxPendingCalls = number(t, d, "calls", c.MaxPendingCalls)
				c.MaxVoters = number(t, d, "voters", c.MaxVoters)
				var p string
				d.MaybeScanArgs(t, "preference", &p)
				c.Preference = map[string]Preference{"": Normal, "reluctant": Reluctant, "observer": Observer}[p]
			})
		}
	case "bond":
		if arg[0] == "all" {
			s.bondAll()
		} else {
			s.bond(s.node(arg[0]), s.node(arg[1]))
		}
	case "unbond":
		s.unbond(s.node(arg[0]), s.node(arg[1]), slices.Contains(arg, "closed"))
	case "crash":
		s.crash(s.node(arg[0]), !slices.Contains(arg, "silent"))
	case "pass":
		d, err := time.ParseDuration(arg[0])
		if err != nil {
			t.Fatal(err)
		}
		s.pass(d)
	case "tick":
		s.now += testTick
		for _, name := range arg {
			s.node(name).eng.Tick(s.now)
			s.node(name).flush()
		}
	case "deliver":
		for n := number(t, d, "n", 10_000); n > 0; n-- {
			i := slices.IndexFunc(s.queue, between)
			if i < 0 {
				break
			}
			p := s.queue[i]
			s.queue = slices.Delete(s.queue, i, i+1)
			p.arrive()
			p.to.flush()
		}
	case "drop":
		s.queue = slices.DeleteFunc(s.queue, between)
	case "queue":
		var b strings.Builder
		for _, p := range s.queue {
			fmt.Fprintf(&b, "%s -> %s %s\n", p.from.name, p.to.name, kindOf(p.m))
		}
		return b.String()
	case "submit":
		for i := range number(t, d, "times", 1) {
			text := arg[1]
			if i > 0 {
				text = fmt.Sprint(arg[1], ".", i+1)
			}
			s.calls[text] = s.node(arg[0]).submit(text, number(t, d, "count", 1), slices.Contains(arg, "feed"))
		}
	case "cancel":
		s.node(arg[0]).eng.Cancel(s.now, s.calls[arg[1]])
		s.node(arg[0]).flush()
	case "read":
		s.node(arg[0]).read(arg[1])
	case "hold":
		s.node(arg[0]).held = true
	case "release":
		n := s.node(arg[0])
		n.held = false
		n.apply()
		n.flush()
	case "leave":
		s.node(arg[0]).eng.Leave(s.now)
		s.node(arg[0]).flush()
	case "stop":
		s.node(arg[0]).eng.Stop(s.now)
		s.node(arg[0]).flush()
		s.node(arg[0]).dead = true
	case "status":
		return s.status()
	case "done":
		var b strings.Builder
		for _, n := range s.nodes {
			for _, line := range n.done {
				fmt.Fprintf(&b, "%s: %s\n", n.name, line)
			}
			n.done = nil
		}
		return b.String()
	case "log":
		var b strings.Builder
		for _, n := range s.nodes {
			if !n.dead {
				fmt.Fprintf(&b, "%s: %s\n", n.name, strings.Join(n.log, " "))
			}
		}
		return b.String()
	case "messages":
		var b strings.Builder
		for _, kind := range slices.Sorted(maps.Keys(s.kinds)) {
			fmt.Fprintf(&b, "%s %d\n", kind, s.kinds[kind])
		}
		clear(s.kinds)
		return b.String()
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return ""
}

var roleNames = [...]string{"blank", "learner", "follower", "candidate", "leader"}

// status shows what each engine shows.
func (s *script) status() string {
	var b strings.Builder
	name := make(map[string]string)
	for _, n := range s.nodes {
		name[n.peer.Short()] = n.name
	}
	for _, n := range s.nodes {
		if n.dead {
			continue
		}
		st := n.status
		fmt.Fprintf(&b, "%s: %s", n.name, roleNames[st.Role])
		if st.Online {
			b.WriteString(" online")
		}
		if len(st.Members) > 0 {
			var voters, others []string
			for _, m := range st.Members {
				who := s.at(m.Peer).name
				if !m.Reachable {
					who += "?"
				}
				if m.Voter {
					voters = append(voters, who)
				} else {
					others = append(others, who)
				}
			}
			slices.Sort(voters)
			slices.Sort(others)
			fmt.Fprintf(&b, " term=%d voters=%s", st.Term, strings.Join(voters, ","))
			if len(others) > 0 {
				fmt.Fprintf(&b, " others=%s", strings.Join(others, ","))
			}
		}
		if l := s.at(st.Leader); l != nil && l != n {
			fmt.Fprintf(&b, " led by %s", l.name)
		}
		if n.left {
			b.WriteString(" left")
		}
		if n.resets > 0 {
			fmt.Fprintf(&b, " resets=%d", n.resets)
		}
		if st.Reason != "" {
			reason := st.Reason
			for short, is := range name {
				reason = strings.ReplaceAll(reason, short, is)
			}
			fmt.Fprintf(&b, ": %s", reason)
		}
		b.WriteString("\n")
		if n.fatal != nil {
			fmt.Fprintf(&b, "%s gave up: %v\n", n.name, n.fatal)
		}
	}
	return b.String()
}
