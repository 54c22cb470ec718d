//go:build linux

package faultrun

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// verdict is what a check found.
type verdict struct {
	lost, doubled, risen, invented, misplaced, wrong int // commands
	reported                                         int // acknowledged, not in the state, and told as diverged
	histories                                        int // checked by porcupine
	violations                                       []string
}

func (v *verdict) violate(count *int, format string, args ...any) {
	if count != nil {
		if *count++; *count > 5 {
			return // of a kind, a few are enough to read
		}
	}
	v.violations = append(v.violations, fmt.Sprintf(format, args...))
}

// books asks all nodes for their states, once all have the same, and returns them. They must not be under load: what still
// comes then is commands of calls that have ended with an unknown outcome.
func (c *cluster) books() (out [kinds]*book, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	quiet := time.Now().Add(limit / 3)
	for k := range kinds {
		for again := true; again; {
			if out[k], err = c.book(ctx, 0, k); err != nil {
				return out, err
			}
			again = false
			for i := 1; i < len(c.nodes) && !again; i++ {
				b, err := c.book(ctx, i, k)
				if err != nil {
					return out, err
				}
				again = !slices.Equal(b.Log, out[k].Log) || !maps.Equal(b.Cells, out[k].Cells)
				if again && time.Now().After(quiet) {
					return out, fmt.Errorf("%s: nodes 0 and %d differ: %d and %d commands", kindNames[k], i, len(out[k].Log), len(b.Log))
				}
			}
		}
	}
	return out, nil
}

// book asks a node for the state of a group.
func (c *cluster) book(ctx context.Context, i, group int) (*book, error) {
	p := c.nodes[i].living()
	if p == nil {
		return nil, fmt.Errorf("node %d is dead", i)
	}
	for {
		r, err := p.ask(ctx, request{Ask: "all", Group: group, Within: 20 * time.Second})
		if err != nil {
			return nil, fmt.Errorf("node %d does not show its %s: %w", i, kindNames[group], err)
		}
		if r.Answer.All != nil {
			return r.Answer.All, nil
		}
	}
}

// check holds a history against what the nodes have in the end. With forked, histories of the groups may have diverged: what
// was acknowledged is there once, or was told as diverged, and nothing else is promised.
func (c *cluster) check(history []*op, final [kinds]*book, forked bool) *verdict {
	v := new(verdict)
	c.mu.Lock()
	told := c.diverged
	c.mu.Unlock()
	var all [kinds][]*op
	for _, o := range history {
		all[o.Group] = append(all[o.Group], o)
	}
	for k := range kinds {
		if !forked || !c.settings.Surface || k != counter {
			told[k] = nil // the others take everything over
		}
		v.account(k, all[k], final[k], told[k], forked)
		if !forked {
			v.linearize(k, all[k], final[k], time.Since(c.began))
		}
	}
	return v
}

// account looks for each command in the log.
func (v *verdict) account(group int, history []*op, b *book, told map[uint64]bool, forked bool) {
	name := kindNames[group]
	at := make(map[uint64]int) // place in the log, from one
	sent := make(map[uint64]*op)
	for _, o := range history {
		if !o.read() {
			sent[o.Command.ID] = o
		}
	}
	cells := make(map[uint32]int64)
	latest := make(map[uint64]uint64) // of each life of each client
	for i, what := range b.Log {
		o := sent[what]
		if o == nil {
			v.violate(&v.invented, "%s: command %x at %d was never sent", name, what, i+1)
			continue
		}
		if at[what] > 0 {
			v.violate(&v.doubled, "%s: %+v is in the log twice, at %d and %d", name, *o, at[what], i+1)
		}
		at[what] = i + 1
		if last := latest[what>>32]; last >= what && !forked {
			v.violate(&v.misplaced, "%s: %+v at %d comes after %x of the same caller", name, *o, i+1, last)
		}
		latest[what>>32] = what
		var answer int64
		cells[o.Key], answer = o.Command.do(cells[o.Key])
		if cells[o.Key] == 0 {
			delete(cells, o.Key)
		}
		if o.Outcome == yes && !forked && (answer != o.Value || o.Index != uint64(i+1)) {
			v.violate(&v.wrong, "%s: %+v is at %d and should have been answered %d", name, *o, i+1, answer)
		}
	}
	if !maps.Equal(cells, b.Cells) {
		v.violate(nil, "%s: the cells do not follow from the log", name)
	}
	for what, o := range sent {
		switch {
		case o.Outcome == yes && at[what] == 0 && told[what]:
			v.reported++
		case o.Outcome == yes && at[what] == 0:
			v.violate(&v.lost, "%s: %+v was acknowledged and is not in the log", name, *o)
		case o.Outcome == no && at[what] > 0:
			v.violate(&v.risen, "%s: %+v was said to have no effect and is in the log at %d", name, *o, at[what])
		}
	}
}

// event is an operation as the model sees it.
type event struct {
	read  bool
	do    command
	known bool // what it answered
	value int64
}

// model is one cell.
var model = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, in, _ any) (bool, any) {
		e, now := in.(event), state.(int64)
		answer := now
		if !e.read {
			now, answer = e.do.do(now)
		}
		return !e.known || e.value == answer, now
	},
	DescribeOperation: func(in, _ any) string { return fmt.Sprintf("%+v", in) },
}

// linearize gives the history of each cell to porcupine. A command whose outcome is unknown may have taken effect at any time
// after it began, if it is in the log; else it never did. What is there in the end is one more read.
func (v *verdict) linearize(group int, history []*op, b *book, end time.Duration) {
	in := make(map[uint64]bool, len(b.Log))
	for _, what := range b.Log {
		in[what] = true
	}
	cells := make(map[uint32][]porcupine.Operation)
	for _, o := range history {
		x := porcupine.Operation{
			ClientId: o.Client, Call: int64(o.Begin), Return: int64(o.End),
			Input: event{read: o.read(), do: o.Command, known: o.Outcome == yes, value: o.Value},
		}
		switch {
		case o.Outcome == yes:
		case o.read() || !in[o.Command.ID]:
			continue
		default:
			x.Return = int64(end)
		}
		cells[o.Key] = append(cells[o.Key], x)
	}
	for _, key := range slices.Sorted(maps.Keys(cells)) {
		ops := append(cells[key], porcupine.Operation{Call: int64(end), Return: int64(end + 1), Input: event{read: true, known: true, value: b.Cells[key]}})
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		v.histories++
		switch porcupine.CheckOperationsTimeout(model, ops, limit) {
		case porcupine.Illegal:
			v.violate(nil, "%s: the history of cell %d is not linearizable", kindNames[group], key)
		case porcupine.Unknown:
			v.violate(nil, "%s: the history of cell %d, %d operations, was not decided in %v", kindNames[group], key, len(ops), limit)
		}
	}
}

// save keeps a history for those who look into a failure.
func (c *cluster) save(history []*op, final [kinds]*book) error {
	f, err := os.Create(filepath.Join(c.out, "history.jsonl"))
	if err != nil {
		return err
	}
	out := json.NewEncoder(f)
	for _, o := range history {
		err = errors.Join(err, out.Encode(o))
	}
	for k, b := range final {
		if b != nil {
			err = errors.Join(err, out.Encode(map[string]any{"Final": kindNames[k], "Book": b}))
		}
	}
	return errors.Join(err, f.Close())
}
