package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Machine is the state machine of the simulation: registers by name. "w name value" sets one and answers the old value,
// "a name n" adds to one and answers the sum.
type Machine map[string]string

// Apply applies a command and returns its answer.
func (m Machine) Apply(cmd string) string {
	part := strings.Fields(cmd)
	switch part[0] {
	case "w":
		old := m[part[1]]
		m[part[1]] = part[2]
		return old
	case "a":
		have, _ := strconv.Atoi(m[part[1]])
		n, _ := strconv.Atoi(part[2])
		m[part[1]] = strconv.Itoa(have + n)
		return m[part[1]]
	default:
		panic(fmt.Sprintf("command %q", cmd))
	}
}

// Op is one operation of a client, from its begin to its end.
type Op struct {
	Client int
	Cmd    string // "r name" for a strong read
	Begin  time.Duration
	End    time.Duration
	Done   bool // with an outcome
	OK     bool // it happened, and Out is its answer
	Maybe  bool // it may have happened
	Out    string
	Index  core.Index
	w      *World
	then   func()
	call   *core.Call
}

func (o *Op) finish() {
	if o.Done {
		return
	}
	o.Done, o.End = true, o.w.now
	if o.then != nil {
		o.then()
	}
}

func (o *Op) applied(index core.Index, out string) {
	if o.Done {
		return
	}
	o.OK, o.Index, o.Out = true, index, out
	o.finish()
}

func (o *Op) acked(index core.Index) {
	if o.Done {
		return
	}
	o.Maybe, o.Index = true, index
	o.finish()
}

func (o *Op) fail(why core.Failure) {
	if o.Done {
		return
	}
	o.Maybe = why == core.FailedUnknown
	o.finish()
}

// Execute begins a command at a node; then runs at its end.
func (w *World) Execute(n *Node, client int, cmd string, then func()) *Op {
	o := &Op{Client: client, Cmd: cmd, Begin: w.now, w: w, then: then}
	o.call = &core.Call{Count: 1, Payload: []byte(cmd), Host: o}
	if !n.Alive {
		o.finish()
		return o
	}
	n.eng.Submit(n.clock(), o.call)
	if w.faults.EarlyAck && w.Rng.IntN(20) == 0 {
		o.OK, o.Out = true, ""
		o.finish()
	}
	n.flush()
	return o
}

// Read begins a strong read of a register.
func (w *World) Read(n *Node, client int, name string, then func()) *Op {
	o := &Op{Client: client, Cmd: "r " + name, Begin: w.now, w: w, then: then}
	if !n.Alive {
		o.finish()
		return o
	}
	done := func(ok bool) {
		if ok && !o.Done {
			o.OK, o.Out = true, n.State[name]
		}
		o.finish()
	}
	if w.faults.StaleRead {
		done(true)
		return o
	}
	n.eng.Read(n.clock(), &core.Read{Host: done})
	n.flush()
	return o
}

// Abandon ends an operation whose node has died: nobody will ever learn how it ended.
func (o *Op) Abandon() {
	if !o.Done {
		o.Maybe = !strings.HasPrefix(o.Cmd, "r ")
		o.finish()
	}
}
