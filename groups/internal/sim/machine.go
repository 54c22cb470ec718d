package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Machine is the state machine of the simulation: registers by name. A command is "w name value", which sets one and
// answers the old value, or "a name n", which adds to one and answers the sum. A call is commands between semicolons,
// and begins with a number that no other call has.
type Machine map[string]string

// Apply applies a call and returns the answer of its last command.
func (m Machine) Apply(call string) (answer string) {
	for _, cmd := range commands(call) {
		m[cmd.name], answer = cmd.do(m[cmd.name])
	}
	return answer
}

// command is one command on a register.
type command struct{ verb, name, arg string }

// do returns the register's value after the command, and the answer.
func (c command) do(have string) (value, answer string) {
	switch c.verb {
	case "w":
		return c.arg, have
	case "a":
		a, _ := strconv.Atoi(have)
		b, _ := strconv.Atoi(c.arg)
		sum := strconv.Itoa(a + b)
		return sum, sum
	default:
		panic(fmt.Sprintf("command %v", c))
	}
}

// commands splits a call.
func commands(call string) (out []command) {
	_, text, _ := strings.Cut(call, ":")
	for part := range strings.SplitSeq(text, ";") {
		f := strings.Fields(part)
		out = append(out, command{f[0], f[1], f[2]})
	}
	return out
}

// Op is one operation of a client, from its begin to its end: a call, a feed or a strong read of one register.
type Op struct {
	ID     int // of calls and feeds: their number
	Client int
	Node   *Node
	Name   string // of the register
	Call   string // as the machine gets it, empty for a read
	Feed   bool
	Begin  time.Duration
	End    time.Duration

	Done  bool // with an outcome
	OK    bool // it happened, and Out is its answer, unless it is Mute
	Mute  bool
	Maybe bool // it may have happened
	Acked bool // a feed that is in the leader's log
	Out   string
	Index core.Index
	Term  uint64         // in which it was acked
	In    core.GenesisID // the history in which it happened

	w    *World
	then func()
	call *core.Call
}

func (o *Op) String() string {
	what := o.Call
	if what == "" {
		what = "read " + o.Name
	}
	return fmt.Sprintf("client %d at %v: %s", o.Client, o.Node, what)
}

func (o *Op) finish() {
	o.Done, o.End = true, o.w.now
	o.w.mix([]byte(o.Out), o.ID, int(o.Index))
	o.w.tracef("%v: ok=%v maybe=%v answer=%q index=%d", o, o.OK, o.Maybe, o.Out, o.Index)
	if o.w.Ended != nil {
		o.w.Ended(o)
	}
	if o.then != nil {
		o.w.After(0, o.then)
	}
}

func (o *Op) applied(index core.Index, out string) {
	if !o.Done {
		o.OK, o.Index, o.Out = true, index, out
		o.finish()
	}
}

func (o *Op) acked(n *Node, index core.Index) {
	if !o.Done {
		if o.w.Bugs.AckAppended {
			o.OK, o.Mute = true, true
			o.finish()
			return
		}
		o.Maybe, o.Acked, o.Index, o.Term = true, true, index, n.Status.Term
		o.finish()
	}
}

func (o *Op) fail(why core.Failure) {
	if !o.Done {
		o.Maybe = why == core.FailedUnknown
		o.finish()
	}
}

func (o *Op) read(n *Node, ok bool) {
	if !o.Done {
		o.OK = ok
		if ok {
			o.Out, o.In = n.State[o.Name], n.Status.Genesis
		}
		o.finish()
	}
}

// Abandon ends an operation whose node has died: nobody will ever learn how it ended.
func (o *Op) Abandon() {
	if !o.Done {
		o.Maybe = o.Call != ""
		o.finish()
	}
}

// Submit begins a call or a feed at a node; then runs at its end. All its commands are on the named register.
func (w *World) Submit(n *Node, o *Op, then func()) {
	o.Node, o.Begin, o.w, o.then = n, w.now, w, then
	o.call = &core.Call{Count: len(commands(o.Call)), Payload: []byte(o.Call), Feed: o.Feed || w.Bugs.AckAppended, Host: o}
	if !n.Alive {
		o.finish()
		return
	}
	n.do(func() { n.eng.Submit(n.clock(), o.call) })
	if w.Bugs.EarlyAck && !o.Feed && w.Rng.IntN(20) == 0 && !o.Done {
		o.OK, o.Mute = true, true
		o.finish()
	}
}

// Read begins a strong read of a register.
func (w *World) Read(n *Node, o *Op, then func()) {
	o.Node, o.Begin, o.w, o.then = n, w.now, w, then
	switch {
	case !n.Alive:
		o.finish()
	case w.Bugs.LocalRead:
		o.read(n, true)
	default:
		n.do(func() { n.eng.Read(n.clock(), &core.Read{Host: o}) })
	}
}

// Mourn gives an operation up when its machine goes down.
func (w *World) Mourn(o *Op) {
	switch {
	case o.Done:
	case !o.Node.Alive:
		o.Abandon()
	default:
		w.After(100*time.Millisecond, func() { w.Mourn(o) })
	}
}

// Cancel takes an operation back, as a caller does whose patience ends.
func (w *World) Cancel(o *Op) {
	if o.call != nil && !o.Done {
		o.Node.do(func() { o.Node.eng.Cancel(o.Node.clock(), o.call) })
	}
}
