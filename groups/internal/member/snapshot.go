package member

import (
	"encoding/binary"
)

// AppendTable appends the encoded table. Tables with equal content have equal encodings: members in order, each as a change
// that adds it, and its vote; then who was taken out; then the sessions by their last use, with the number of the last call.
func AppendTable(b []byte, t *Table) []byte {
	all := t.All()
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, r := range all {
		b = append(b, Encode(Op{Kind: Add, Member: r.Member})...)
		if r.Voter {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.removed)))
	for _, id := range t.removed {
		b = binary.AppendUvarint(b, id)
	}
	b = binary.AppendUvarint(b, uint64(t.Sessions.Len()))
	for id, calls := range t.Sessions.All {
		b = binary.AppendUvarint(b, id)
		b = binary.AppendUvarint(b, calls)
	}
	return b
}

// DecodeTable reads what AppendTable wrote and returns what follows it.
func DecodeTable(b []byte) (t *Table, rest []byte, err error) {
	bad := false
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	t = &Table{Sessions: NewSessions(0), rows: make(map[uint64]*Row)}
	for n := uvarint(); n > 0 && !bad; n-- {
		if len(b) < opSize+1 || b[opSize] > 1 {
			return nil, nil, errOp
		}
		op, err := Decode(b[:opSize])
		if err != nil {
			return nil, nil, err
		}
		r := &Row{Member: op.Member, Voter: b[opSize] == 1}
		b = b[opSize+1:]
		if t.rows[r.ID] != nil {
			return nil, nil, errOp
		}
		t.rows[r.ID] = r
	}
	n := uvarint()
	if n > removedKept {
		return nil, nil, errOp
	}
	for ; n > 0 && !bad; n-- {
		t.removed = append(t.removed, uvarint())
	}
	sessions := uvarint()
	if sessions > uint64(t.Sessions.most) {
		return nil, nil, errOp
	}
	for ; sessions > 0 && !bad; sessions-- {
		id, calls := uvarint(), uvarint()
		if id == 0 || calls == 0 || t.Sessions.Calls(id) != 0 {
			return nil, nil, errOp
		}
		t.Sessions.set(id, calls)
	}
	if bad {
		return nil, nil, errOp
	}
	return t, b, nil
}
