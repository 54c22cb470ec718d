package sim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// input and output of an operation as the checker sees them.
type input struct {
	read bool
	do   []command
}

type output struct {
	known bool
	value string
}

// model is one register.
var model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		have, i, o := state.(string), in.(input), out.(output)
		answer := have
		for _, c := range i.do {
			have, answer = c.do(have)
		}
		return !o.known || o.value == answer, have
	},
}

// Linearizable checks a history with porcupine, each register by itself. An operation whose outcome is not known may
// have happened at any time after it began.
func Linearizable(history []*Op, limit time.Duration) porcupine.CheckResult {
	registers := make(map[string][]porcupine.Operation)
	for _, o := range history {
		x := porcupine.Operation{ClientId: o.Client, Input: input{read: o.Call == ""}, Call: int64(o.Begin), Return: int64(o.End)}
		if o.Call != "" {
			x.Input = input{do: commands(o.Call)}
		}
		switch {
		case o.OK:
			x.Output = output{!o.Mute, o.Out}
		case o.Call == "" || o.Done && !o.Maybe:
			continue // a read that failed, or what did not happen
		default:
			x.Output, x.Return = output{}, math.MaxInt64
		}
		registers[o.Name] = append(registers[o.Name], x)
	}
	worst := porcupine.Ok
	for _, name := range slices.Sorted(maps.Keys(registers)) {
		switch porcupine.CheckOperationsTimeout(model, registers[name], limit) {
		case porcupine.Illegal:
			return porcupine.Illegal
		case porcupine.Unknown:
			worst = porcupine.Unknown
		}
	}
	return worst
}

// observer compares what nodes show with each other while a scenario runs. All of it holds at any time, whatever fails.
type observer struct {
	logs    map[core.GenesisID]map[core.Index]Entry // what stands at each index, on whatever replica
	seen    map[*Node]seenLog
	leaders map[string]core.MemberID // by history and term
	in      map[*Node]core.GenesisID // the history that it is part of
	members map[*Node]map[core.MemberID]bool
	gone    map[*Node]map[core.MemberID]bool
	broken  error
}

type seenLog struct{ epoch, entries int }

func newObserver() *observer {
	return &observer{
		logs: make(map[core.GenesisID]map[core.Index]Entry), seen: make(map[*Node]seenLog),
		leaders: make(map[string]core.MemberID),
		in:      make(map[*Node]core.GenesisID),
		members: make(map[*Node]map[core.MemberID]bool), gone: make(map[*Node]map[core.MemberID]bool),
	}
}

func (b *observer) fail(format string, args ...any) {
	if b.broken == nil {
		b.broken = fmt.Errorf(format, args...)
	}
}

// notice looks at what a node shows: there is one leader in a term, and members that were taken out stay out.
func (b *observer) notice(n *Node) {
	if n.Fatal != nil {
		b.fail("%v gave up: %w", n, n.Fatal)
		return
	}
	st := n.Status
	if st == nil {
		return
	}
	if st.Role == core.RoleLeader {
		key := fmt.Sprintf("%x/%d", st.Genesis, st.Term)
		if have, ok := b.leaders[key]; ok && have != st.Member {
			b.fail("two leaders in term %d: members %x and %x", st.Term, have, st.Member)
		}
		b.leaders[key] = st.Member
	}
	if b.in[n] != st.Genesis {
		b.in[n] = st.Genesis // in which one that never began in the other may be a member under the same id
		delete(b.gone, n)
		delete(b.members, n)
	}
	now := make(map[core.MemberID]bool)
	for _, m := range st.Members {
		now[m.ID] = true
		if b.gone[n][m.ID] {
			b.fail("%v sees member %x again, which had been taken out", n, m.ID)
		}
	}
	for id := range b.members[n] {
		if !now[id] {
			if b.gone[n] == nil {
				b.gone[n] = make(map[core.MemberID]bool)
			}
			b.gone[n][id] = true
		}
	}
	b.members[n] = now
}

// compare looks at what the nodes have applied since the last time: the same at each index, without a gap.
func (b *observer) compare(nodes []*Node) {
	for _, n := range nodes {
		at := b.seen[n]
		if at.epoch != n.epoch {
			at = seenLog{epoch: n.epoch}
		}
		if len(n.Log) == at.entries {
			continue
		}
		log := b.logs[n.Status.Genesis]
		if log == nil {
			log = make(map[core.Index]Entry)
			b.logs[n.Status.Genesis] = log
		}
		next := core.Index(1)
		if at.entries > 0 {
			last := n.Log[at.entries-1]
			next = last.Index + core.Index(len(commands(last.Cmd)))
		}
		for _, e := range n.Log[at.entries:] {
			if e.Index != next {
				b.fail("%v applied index %d where %d was due", n, e.Index, next)
				return
			}
			next += core.Index(len(commands(e.Cmd)))
			if have, ok := log[e.Index]; ok && have != e {
				b.fail("%v applied %v at index %d, others %v", n, e, e.Index, have)
				return
			}
			log[e.Index] = e
		}
		b.seen[n] = seenLog{n.epoch, len(n.Log)}
	}
}

// sameMembers compares who the nodes take for members, and for voters, at the end.
func sameMembers(nodes []*Node) error {
	for _, n := range nodes[1:] {
		if len(n.Status.Members) != len(nodes[0].Status.Members) {
			return fmt.Errorf("%v has %d members, and %v has %d", n, len(n.Status.Members), nodes[0], len(nodes[0].Status.Members))
		}
		for i, m := range n.Status.Members {
			if o := nodes[0].Status.Members[i]; o.ID != m.ID || o.Voter != m.Voter {
				return fmt.Errorf("%v has member %x, voter=%v, and %v has %x, voter=%v", n, m.ID, m.Voter, nodes[0], o.ID, o.Voter)
			}
		}
	}
	return nil
}

// outcomes compares what callers were told with the log at the end, when all is quiet: every call that was acknowledged
// is in it once, what was refused is not in it, and the calls of a node are in the order in which they were made.
func outcomes(history []*Op, nodes []*Node) error {
	log := nodes[0].Log
	for _, n := range nodes {
		if len(n.Log) != len(log) || !maps.Equal(n.State, nodes[0].State) {
			return fmt.Errorf("%v ends with %d items and %v, %v with %d and %v", n, len(n.Log), n.State, nodes[0], len(log), nodes[0].State)
		}
	}
	at := make(map[int]Entry)
	var order []int
	for _, e := range log {
		number, _, _ := strings.Cut(e.Cmd, ":")
		op, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("item %q in the log", e.Cmd)
		}
		if have, twice := at[op]; twice {
			return fmt.Errorf("call %d is in the log twice, at %d and at %d", op, have.Index, e.Index)
		}
		at[op] = e
		order = append(order, op)
	}
	byID := make(map[int]*Op)
	for _, o := range history {
		if o.Call == "" {
			continue
		}
		byID[o.ID] = o
		e, is := at[o.ID]
		switch {
		case o.OK && !is:
			return fmt.Errorf("%v was acknowledged at index %d and is not in the log", o, o.Index)
		case o.OK && o.Index != 0 && e.Index != o.Index:
			return fmt.Errorf("%v was acknowledged at index %d and is at %d", o, o.Index, e.Index)
		case o.Done && !o.OK && !o.Maybe && is:
			return fmt.Errorf("%v was refused and is in the log at %d", o, e.Index)
		case o.Acked && is && e.Term == o.Term && e.Index != o.Index:
			return fmt.Errorf("%v was appended at index %d in term %d and is at %d", o, o.Index, o.Term, e.Index)
		case o.Acked && !is && o.Node.Alive && o.Node.epoch == 0 && !o.Node.Left:
			return fmt.Errorf("%v was appended, its node lives on, and it is not in the log", o)
		}
	}
	latest := make(map[*Node]int)
	for _, id := range order {
		o := byID[id]
		if o == nil {
			return fmt.Errorf("call %d in the log was never made", id)
		}
		if id < latest[o.Node] {
			return fmt.Errorf("%v comes after call %d of the same node", o, latest[o.Node])
		}
		latest[o.Node] = id
	}
	return nil
}
