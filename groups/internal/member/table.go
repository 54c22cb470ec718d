// Package member holds who is in a group: the table that every replica builds from the log, and the policy by which a
// leader changes it. Both are pure.
package member

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Preference of a member, as in its row.
const (
	Normal uint8 = iota
	Reluctant
	Observer
)

// Row is one member.
type Row struct {
	wire.Member
	Voter bool
}

// Table is the members and sessions of a group at some position of its log. It depends on the log alone.
type Table struct {
	Sessions *Sessions

	rows    map[uint64]*Row
	removed []uint64 // the latest that were taken out, oldest first
}

// removedKept is how many removed members are remembered, to tell them if they come back.
const removedKept = 4096

// NewTable returns the table with which a history begins: its founders, who vote.
func NewTable(founders []wire.Member, sessions *Sessions) *Table {
	t := &Table{Sessions: sessions, rows: make(map[uint64]*Row)}
	for _, f := range founders {
		t.rows[f.ID] = &Row{Member: f, Voter: true}
	}
	return t
}

// Get returns a member's row, nil if there is none. The row belongs to the table.
func (t *Table) Get(member uint64) *Row { return t.rows[member] }

// Len returns the number of members.
func (t *Table) Len() int { return len(t.rows) }

// All returns all rows, by peer and then by member id.
func (t *Table) All() []*Row {
	out := make([]*Row, 0, len(t.rows))
	for _, r := range t.rows {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Row) int {
		return cmp.Or(a.Peer.Compare(b.Peer), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Voters returns the number of members that vote.
func (t *Table) Voters() int {
	n := 0
	for _, r := range t.rows {
		if r.Voter {
			n++
		}
	}
	return n
}

// Durable reports whether a member has a durable log.
func (t *Table) Durable() bool {
	for _, r := range t.rows {
		if r.Durable {
			return true
		}
	}
	return false
}

// Has reports whether a peer has a row. It has more than one when it came back before its old life was taken out.
func (t *Table) Has(p id.PeerID) bool {
	for _, r := range t.rows {
		if r.Peer == p {
			return true
		}
	}
	return false
}

// ByPeer returns the rows of a peer.
func (t *Table) ByPeer(p id.PeerID) []*Row {
	return slices.DeleteFunc(t.All(), func(r *Row) bool { return r.Peer != p })
}

// WasRemoved reports whether the member was taken out, as far as is remembered.
func (t *Table) WasRemoved(member uint64) bool { return slices.Contains(t.removed, member) }

// OpKind says what a change does with a member.
type OpKind uint8

const (
	Add     OpKind = iota + 1 // as a learner, which gets the log and does not vote
	Promote                   // to voter
	Demote                    // to learner
	Remove
)

// Op changes one member. One at a time is enough, and is safe without joint configurations: the majorities before and
// after it have a member in common (Ongaro, Consensus: Bridging Theory and Practice, §4.1).
type Op struct {
	Kind   OpKind
	Member wire.Member // only ID matters unless Kind is Add
}

// Apply changes the table and reports whether it did. An operation that does not fit is ignored, on all replicas alike;
// in particular a member that was taken out never comes back under its id, and the last voter stays.
func (t *Table) Apply(op Op) bool {
	r := t.rows[op.Member.ID]
	switch op.Kind {
	case Add:
		if r != nil || t.WasRemoved(op.Member.ID) {
			return false
		}
		t.rows[op.Member.ID] = &Row{Member: op.Member}
	case Promote:
		if r == nil || r.Voter {
			return false
		}
		r.Voter = true
	case Demote:
		if r == nil || !r.Voter || t.Voters() == 1 {
			return false
		}
		r.Voter = false
	case Remove:
		if r == nil || r.Voter && t.Voters() == 1 {
			return false
		}
		delete(t.rows, op.Member.ID)
		t.removed = append(t.removed, op.Member.ID)
		if len(t.removed) > removedKept {
			t.removed = slices.Delete(t.removed, 0, len(t.removed)-removedKept)
		}
	default:
		return false
	}
	return true
}

// opSize is the length of an encoded operation.
const opSize = 1 + 8 + id.Size + 8 + 1 + 1

// Encode returns an operation as it stands in the log.
func Encode(op Op) []byte {
	b := make([]byte, 0, opSize)
	b = append(b, byte(op.Kind))
	b = binary.BigEndian.AppendUint64(b, op.Member.ID)
	b = append(b, op.Member.Peer[:]...)
	b = binary.BigEndian.AppendUint64(b, op.Member.Nonce)
	b = append(b, op.Member.Preference)
	if op.Member.Durable {
		return append(b, 1)
	}
	return append(b, 0)
}

// errOp reports an operation in the log that cannot be read.
var errOp = errors.New("member: malformed change in the log")

// Decode reads what Encode wrote.
func Decode(b []byte) (Op, error) {
	if len(b) != opSize {
		return Op{}, errOp
	}
	op := Op{Kind: OpKind(b[0])}
	op.Member.ID = binary.BigEndian.Uint64(b[1:])
	copy(op.Member.Peer[:], b[9:])
	op.Member.Nonce = binary.BigEndian.Uint64(b[9+id.Size:])
	op.Member.Preference, op.Member.Durable = b[opSize-2], b[opSize-1] == 1
	if op.Kind < Add || op.Kind > Remove || op.Member.ID == 0 || op.Member.Preference > Observer || b[opSize-1] > 1 {
		return Op{}, errOp
	}
	return op, nil
}
