package demo

import (
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// add is the command of the demo's state machine: a process adds an amount under its own name.
type add struct {
	By     string
	Amount int64
}

// tally is what commands and queries answer: the sum of everything and the sum of one process.
type tally struct {
	Total int64
	Of    int64
}

// ledger is the state machine of the demo: a counter that remembers who added what, so that the end of the demo can
// check each process's acknowledged commands on their own.
type ledger struct {
	total int64
	by    map[string]int64
}

func newLedger() *ledger { return &ledger{by: make(map[string]int64)} }

func (*ledger) Signature() id.ID { return id.Of("mosaik demo ledger v1") }

func (l *ledger) Apply(_ groups.ApplyContext, c add) tally {
	l.total += c.Amount
	l.by[c.By] += c.Amount
	return tally{Total: l.total, Of: l.by[c.By]}
}

// Query answers for the process of the given name.
func (l *ledger) Query(name string) tally {
	return tally{Total: l.total, Of: l.by[name]}
}
