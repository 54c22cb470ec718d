package core

import (
	"bytes"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

func drawMember(t *rapid.T) wire.Member {
	return wire.Member{
		ID: rapid.Uint64Range(1, 1<<60).Draw(t, "id"), Peer: id.PeerID{byte(rapid.IntRange(0, 5).Draw(t, "peer"))},
		Nonce: rapid.Uint64().Draw(t, "nonce"), Preference: uint8(rapid.IntRange(0, 2).Draw(t, "preference")),
	}
}

// A state survives encoding, equal states have equal bytes, and nothing else is taken for one.
func TestStateEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		founder := drawMember(t)
		make2 := func() [2]*member.Table { return [2]*member.Table{member.NewTable(founder), member.NewTable(founder)} }
		tables := make2()
		conf := &raftpb.ConfState{Voters: []uint64{founder.ID}, AutoLeave: new(bool)}
		for range rapid.IntRange(0, 20).Draw(t, "members") {
			m := drawMember(t)
			promote, calls := rapid.Bool().Draw(t, "promote"), rapid.Uint64().Draw(t, "calls")
			remove := rapid.IntRange(0, 3).Draw(t, "remove") == 0
			for _, table := range tables {
				apply(table, member.Op{Kind: member.Add, Member: m})
				if promote {
					apply(table, member.Op{Kind: member.Promote, Member: m})
				}
				if row := table.Get(m.ID); row != nil {
					row.Calls = calls
				}
				if remove {
					apply(table, member.Op{Kind: member.Remove, Member: m})
				}
			}
			conf.Learners = append(conf.Learners, m.ID)
		}
		s := &State{
			Genesis: wire.Genesis{1, 2}, Founder: founder, Index: rapid.Uint64Range(1, 1<<62).Draw(t, "index"),
			Term: rapid.Uint64Range(1, 1<<62).Draw(t, "term"), Conf: conf, User: rapid.Uint64().Draw(t, "user"), Table: tables[0],
		}
		twin := *s
		twin.Table = tables[1]
		raw := s.Encode()
		if !bytes.Equal(raw, twin.Encode()) {
			t.Fatal("equal states have different bytes")
		}
		got, err := DecodeState(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Encode(), raw) || got.User != s.User || got.Founder != s.Founder || got.Table.Len() != s.Table.Len() || !sameConf(got.Conf, conf) {
			t.Fatalf("got %+v, want %+v", got, s)
		}
		for _, row := range s.Table.All() {
			if x := got.Table.Get(row.ID); x == nil || *x != *row {
				t.Fatalf("member %+v became %+v", row, x)
			}
		}
		cut := rapid.IntRange(0, len(raw)-1).Draw(t, "cut")
		if _, err := DecodeState(raw[:cut]); err == nil {
			t.Fatalf("the first %d of %d bytes are a state", cut, len(raw))
		}
		if _, err := DecodeState(append(slices.Clone(raw), 0)); err == nil {
			t.Fatal("a byte too many")
		}
	})
}

func apply(t *member.Table, op member.Op) { t.Apply(op) }

func FuzzDecodeState(f *testing.F) {
	founder := wire.Member{ID: 7, Peer: id.PeerID{1}}
	s := &State{Genesis: wire.Genesis{1}, Founder: founder, Index: 5, Term: 2, Conf: &raftpb.ConfState{Voters: []uint64{7}}, User: 3, Table: member.NewTable(founder)}
	f.Add(s.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		if _, err := DecodeState(s.Encode()); err != nil {
			t.Fatal("does not survive encoding:", err)
		}
	})
}
