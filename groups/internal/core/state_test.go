package core

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
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
		make2 := func() [2]*member.Table { return [2]*member.Table{tableOf(founder), tableOf(founder)} }
		tables := make2()
		conf := &raftpb.ConfState{Voters: []uint64{founder.ID}, AutoLeave: new(bool)}
		for range rapid.IntRange(0, 20).Draw(t, "members") {
			m := drawMember(t)
			promote, calls := rapid.Bool().Draw(t, "promote"), rapid.IntRange(0, 5).Draw(t, "calls")
			remove := rapid.IntRange(0, 3).Draw(t, "remove") == 0
			for _, table := range tables {
				apply(table, member.Op{Kind: member.Add, Member: m})
				if promote {
					apply(table, member.Op{Kind: member.Promote, Member: m})
				}
				for n := range calls {
					table.Sessions.Take(m.Nonce|1, uint64(n+1))
				}
				if remove {
					apply(table, member.Op{Kind: member.Remove, Member: m})
				}
			}
			conf.Learners = append(conf.Learners, m.ID)
		}
		s := &State{
			Origin: wire.Origin{Genesis: wire.Genesis{1, 2}, Founders: []wire.Member{founder}}, Line: drawLine(t), Index: rapid.Uint64Range(1, 1<<62).Draw(t, "index"),
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
		if !bytes.Equal(got.Encode(), raw) || got.User != s.User || !reflect.DeepEqual(got.Origin, s.Origin) || !reflect.DeepEqual(got.Line, s.Line) || got.Table.Len() != s.Table.Len() || !sameConf(got.Conf, conf) {
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

func tableOf(founder wire.Member) *member.Table {
	return member.NewTable([]wire.Member{founder}, member.NewSessions(0))
}

func drawLine(t *rapid.T) genesis.Line {
	l := genesis.Line{
		Phase: genesis.Phase(rapid.IntRange(0, 2).Draw(t, "phase")), Attempt: rapid.Uint64().Draw(t, "attempt"), Into: wire.Genesis{3},
		Key: genesis.Key{Forced: 1, Commands: rapid.Uint64().Draw(t, "commands"), ID: wire.Genesis{4}},
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "absorbed") {
		l.Absorbed = append(l.Absorbed, genesis.Absorption{From: wire.Genesis{byte(i)}, Attempt: 2, Booked: i%2 == 0, Commands: 5})
	}
	return l
}

func apply(t *member.Table, op member.Op) { t.Apply(op) }

func FuzzDecodeState(f *testing.F) {
	founder := wire.Member{ID: 7, Peer: id.PeerID{1}}
	s := &State{Origin: founded(wire.Genesis{1}, 7), Index: 5, Term: 2, Conf: &raftpb.ConfState{Voters: []uint64{7}}, User: 3, Table: tableOf(founder)}
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

// What the library would not survive is not taken from anybody.
func TestConfOK(t *testing.T) {
	t.Parallel()
	yes := true
	for name, c := range map[string]*raftpb.ConfState{
		"nothing":                    {},
		"nobody votes":               {Learners: []uint64{1}},
		"no member":                  {Voters: []uint64{0}},
		"a thread of the library's":  {Voters: []uint64{1, ^uint64(0)}},
		"twice a voter":              {Voters: []uint64{1, 1}},
		"a voter that is a learner":  {Voters: []uint64{1}, Learners: []uint64{1}},
		"between two configurations": {Voters: []uint64{1}, VotersOutgoing: []uint64{2}},
		"a learner to be":            {Voters: []uint64{1}, LearnersNext: []uint64{2}},
		"leaving by itself":          {Voters: []uint64{1}, AutoLeave: &yes},
	} {
		if confOK(c) {
			t.Errorf("%s: taken", name)
		}
	}
	if !confOK(&raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}}) {
		t.Error("a proper one: refused")
	}
}

func TestStateFits(t *testing.T) {
	t.Parallel()
	founder := wire.Member{ID: 7, Peer: id.PeerID{1}}
	table := tableOf(founder)
	table.Apply(member.Op{Kind: member.Add, Member: wire.Member{ID: 8, Peer: id.PeerID{2}}})
	for _, c := range []struct {
		conf *raftpb.ConfState
		want bool
	}{
		{&raftpb.ConfState{Voters: []uint64{7}, Learners: []uint64{8}}, true},
		{&raftpb.ConfState{Voters: []uint64{7, 8}}, false},
		{&raftpb.ConfState{Voters: []uint64{7}}, false},
		{&raftpb.ConfState{Voters: []uint64{7}, Learners: []uint64{9}}, false},
	} {
		if got := (&State{Conf: c.conf, Table: table}).fits(); got != c.want {
			t.Errorf("%v: %v", c.conf, got)
		}
	}
}
