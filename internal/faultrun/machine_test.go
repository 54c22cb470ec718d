//go:build linux

package faultrun

import (
	"bufio"
	"encoding/binary"
	"io"
	"maps"
	"slices"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// The three machines. Each keeps numbers in cells, which are zero at first, and the ids of all commands in their order.
const (
	register = iota // write, swap
	counter         // add
	mapping         // put, remove
	kinds
)

var kindNames = [kinds]string{"register", "counter", "map"}

// What a command does with its cell.
const (
	write  = iota + 1 // sets New and answers what was there
	swap              // sets New if Old is there; answers what was there
	add               // adds New and answers the sum
	put               // as write; nothing that is put is zero
	remove            // empties the cell and answers what was there
)

type command struct {
	ID       uint64
	Do       uint8
	Key      uint32
	Old, New int64
	Pad      []byte `json:"-"` // means nothing
}

// do applies a command to what is in its cell.
func (c command) do(have int64) (now, answer int64) {
	switch c.Do {
	case swap:
		if have != c.Old {
			return have, have
		}
		return c.New, have
	case add:
		return have + c.New, have + c.New
	case remove:
		return 0, have
	default:
		return c.New, have
	}
}

type question struct {
	Key uint32
	All bool // everything
}

type answer struct {
	Value int64
	All   *book `json:",omitempty"`
}

// book is the whole state of a machine.
type book struct {
	Log   []uint64
	Cells map[uint32]int64
}

type machine struct {
	kind int
	book book
}

func newMachine(kind int) func() *machine {
	return func() *machine { return &machine{kind, book{Cells: make(map[uint32]int64)}} }
}

func (m *machine) Signature() id.ID { return id.Of("fault run " + kindNames[m.kind]) }

func (m *machine) Apply(_ groups.ApplyContext, c command) answer {
	now, a := c.do(m.book.Cells[c.Key])
	if m.book.Cells[c.Key] = now; now == 0 {
		delete(m.book.Cells, c.Key)
	}
	m.book.Log = append(m.book.Log, c.ID)
	return answer{Value: a}
}

func (m *machine) Query(q question) answer {
	if !q.All {
		return answer{Value: m.book.Cells[q.Key]}
	}
	return answer{All: &book{slices.Clone(m.book.Log), maps.Clone(m.book.Cells)}}
}

// imaged is a machine that writes out its state, so that its group cuts the log.
type imaged struct{ *machine }

func newImaged(kind int) func() imaged { return func() imaged { return imaged{newMachine(kind)()} } }

func (m imaged) Signature() id.ID { return id.Of("fault run, with images, " + kindNames[m.kind]) }

func (m imaged) Snapshot() (groups.View, error) {
	b := binary.AppendUvarint(nil, uint64(len(m.book.Log)))
	for _, what := range m.book.Log {
		b = binary.AppendUvarint(b, what)
	}
	b = binary.AppendUvarint(b, uint64(len(m.book.Cells)))
	for _, key := range slices.Sorted(maps.Keys(m.book.Cells)) {
		b = binary.AppendUvarint(b, uint64(key))
		b = binary.AppendVarint(b, m.book.Cells[key])
	}
	return groups.BytesView(b), nil
}

func (m imaged) Restore(r io.Reader) error {
	in := bufio.NewReader(r)
	n, err := binary.ReadUvarint(in)
	for ; n > 0 && err == nil; n-- {
		var what uint64
		what, err = binary.ReadUvarint(in)
		m.book.Log = append(m.book.Log, what)
	}
	if err != nil {
		return err
	}
	n, err = binary.ReadUvarint(in)
	for ; n > 0 && err == nil; n-- {
		var key uint64
		if key, err = binary.ReadUvarint(in); err == nil {
			m.book.Cells[uint32(key)], err = binary.ReadVarint(in)
		}
	}
	return err
}
