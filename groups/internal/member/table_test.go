package member

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

func drawOp(t *rapid.T, ids uint64) Op {
	return Op{
		Kind: rapid.SampledFrom([]OpKind{Add, Promote, Demote, Remove}).Draw(t, "kind"),
		Member: wire.Member{
			ID: rapid.Uint64Range(1, ids).Draw(t, "id"), Peer: id.PeerID{rapid.Byte().Draw(t, "peer")},
			Nonce: rapid.Uint64().Draw(t, "nonce"), Preference: rapid.Uint8Range(Normal, Observer).Draw(t, "preference"),
		},
	}
}

// Whatever is applied: there is a voter, an id that was removed never comes back, and an operation that is reported as
// ignored changed nothing.
func TestTableInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		founder := wire.Member{ID: 1, Peer: id.PeerID{1}}
		table, twin := founded(founder), founded(founder)
		gone := make(map[uint64]bool)
		for range rapid.IntRange(0, 60).Draw(t, "operations") {
			op := drawOp(t, 8)
			before := rows(table)
			was := table.Get(op.Member.ID) != nil
			did := table.Apply(op)
			if twin.Apply(op) != did {
				t.Fatal("two tables differ")
			}
			if !did && !reflect.DeepEqual(before, rows(table)) {
				t.Fatalf("%+v was ignored, and changed %v to %v", op, before, rows(table))
			}
			row := table.Get(op.Member.ID)
			if did {
				switch op.Kind {
				case Add:
					if was || gone[op.Member.ID] || row == nil || row.Voter || row.Member != op.Member {
						t.Fatalf("%+v gave %+v", op, row)
					}
				case Promote, Demote:
					if row == nil || row.Voter != (op.Kind == Promote) {
						t.Fatalf("%+v gave %+v", op, row)
					}
				case Remove:
					if row != nil || !table.WasRemoved(op.Member.ID) {
						t.Fatalf("%+v gave %+v", op, row)
					}
					gone[op.Member.ID] = true
				}
			}
			if table.Voters() < 1 {
				t.Fatalf("nobody votes after %+v", op)
			}
			if table.Len() != len(table.All()) {
				t.Fatal("the table cannot count")
			}
		}
		if !reflect.DeepEqual(rows(table), rows(twin)) {
			t.Fatal("two tables that saw the same differ")
		}
	})
}

func rows(t *Table) (out []Row) {
	for _, r := range t.All() {
		out = append(out, *r)
	}
	return out
}

// The table remembers who was removed, and only so many.
func TestRemovedAreRemembered(t *testing.T) {
	t.Parallel()
	table := founded(wire.Member{ID: 1})
	for id := uint64(2); id < removedKept+12; id++ {
		if !table.Apply(Op{Kind: Add, Member: wire.Member{ID: id}}) || !table.Apply(Op{Kind: Remove, Member: wire.Member{ID: id}}) {
			t.Fatal(id)
		}
	}
	if table.WasRemoved(2) || !table.WasRemoved(removedKept+11) || len(table.removed) != removedKept {
		t.Errorf("%d are remembered", len(table.removed))
	}
	if table.Apply(Op{Kind: Add, Member: wire.Member{ID: removedKept + 11}}) {
		t.Error("an id came back")
	}
}

// The order of All is by peer and id, and a peer that came back has two rows.
func TestAllIsOrdered(t *testing.T) {
	t.Parallel()
	table := founded(wire.Member{ID: 5, Peer: id.PeerID{2}})
	for _, m := range []wire.Member{{ID: 9, Peer: id.PeerID{1}}, {ID: 3, Peer: id.PeerID{2}}, {ID: 4, Peer: id.PeerID{0, 1}}} {
		table.Apply(Op{Kind: Add, Member: m})
	}
	var ids []uint64
	for _, r := range table.All() {
		ids = append(ids, r.ID)
	}
	if !slices.Equal(ids, []uint64{4, 9, 3, 5}) {
		t.Errorf("order %v", ids)
	}
	if !table.Has(id.PeerID{1}) || table.Has(id.PeerID{7}) {
		t.Error("the table does not know who it has")
	}
}

// Operations come back from their bytes, and nothing else does.
func TestOpEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		op := drawOp(t, 1<<60)
		b := Encode(op)
		got, err := Decode(b)
		if err != nil || got != op {
			t.Fatalf("%+v, %v, want %+v", got, err, op)
		}
		for n := range b {
			if _, err := Decode(b[:n]); err == nil {
				t.Fatalf("%d bytes are taken for an operation", n)
			}
		}
		if _, err := Decode(append(b, 0)); err == nil {
			t.Fatal("a byte too many is not noticed")
		}
	})
	for name, spoil := range map[string]func([]byte){
		"no kind":               func(b []byte) { b[0] = 0 },
		"an unknown kind":       func(b []byte) { b[0] = byte(Remove) + 1 },
		"no member":             func(b []byte) { clear(b[1:9]) },
		"an unknown preference": func(b []byte) { b[len(b)-1] = Observer + 1 },
	} {
		b := Encode(Op{Kind: Add, Member: wire.Member{ID: 1}})
		spoil(b)
		if op, err := Decode(b); err == nil {
			t.Errorf("%s: %+v", name, op)
		}
	}
}

func FuzzOp(f *testing.F) {
	f.Add(Encode(Op{Kind: Add, Member: wire.Member{ID: 1, Peer: id.PeerID{2}, Nonce: 3, Preference: Reluctant}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if op, err := Decode(b); err == nil && !slices.Equal(Encode(op), b) {
			t.Fatalf("%+v came from %x", op, b)
		}
	})
}

func founded(founder wire.Member) *Table {
	return NewTable([]wire.Member{founder}, NewSessions(0))
}
