package core

import (
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

func drawOrigin(t *rapid.T, label string) wire.Origin {
	return wire.Origin{
		Genesis:  wire.Genesis{byte(rapid.IntRange(1, 255).Draw(t, label)), 2},
		Founders: []wire.Member{drawMember(t)},
	}
}

// A record says all that it was made of, and no part of it is taken for a whole one.
func TestRecordEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := &Replica{self: rapid.Uint64Range(1, 1<<60).Draw(t, "self"), former: rapid.Bool().Draw(t, "former")}
		r.cfg.BootNonce = rapid.Uint64().Draw(t, "nonce")
		for i := range rapid.IntRange(0, goneMost).Draw(t, "gone") {
			r.addGone(wire.Gone{From: wire.Genesis{byte(i + 1)}, Into: wire.Genesis{99}, Round: rapid.Uint64().Draw(t, "round")})
		}
		var h heirloom
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 1:
			r.origin = drawOrigin(t, "history")
			r.genesis = r.origin.Genesis
			if rapid.Bool().Draw(t, "heirloom") {
				h = heirloom{wire.Genesis{7}, rapid.Uint64Range(1, 1<<60).Draw(t, "index")}
				r.snaps.images = []*image{{index: h.index, of: h.of, written: true}}
			}
		case 2:
			r.ballot.Promised = wire.Ballot{Round: rapid.Uint64Range(1, 1<<60).Draw(t, "round"), Who: 3}
			if rapid.Bool().Draw(t, "voted") {
				r.ballot.Voted, r.ballot.Value = wire.Ballot{Round: 1, Who: 2}, drawOrigin(t, "vote")
			}
		}
		b := r.record()
		var got Replica
		have, err := got.remember(b)
		if err != nil {
			t.Fatal(err)
		}
		if have != h || got.self != r.self || got.cfg.BootNonce != r.cfg.BootNonce || got.former != r.former || got.genesis != r.genesis ||
			!reflect.DeepEqual(got.gone, r.gone) || !reflect.DeepEqual(got.origin, r.origin) || !reflect.DeepEqual(got.ballot, r.ballot) {
			t.Fatalf("%+v became %+v", r, &got)
		}
		cut := rapid.IntRange(1, len(b)-1).Draw(t, "cut")
		var none Replica
		if _, err := none.remember(b[:cut]); !errors.Is(err, logstore.ErrCorrupt) || !reflect.DeepEqual(none, Replica{}) {
			t.Fatalf("the first %d of %d bytes are a record: %v", cut, len(b), err)
		}
		if _, err := none.remember(append(b, 0)); !errors.Is(err, logstore.ErrCorrupt) {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}

// A member that has promised something and restarts is the one that it was, and keeps its promise.
func TestBlankResume(t *testing.T) {
	t.Parallel()
	l := newSlowLog(t)
	cfg := durableConfig(1)
	cfg.Expect = 3
	r, err := New(cfg, l)
	if err != nil {
		t.Fatal(err)
	}
	r.at(0)
	other := wire.Member{ID: 5, Peer: r.cfg.Self, Nonce: 6}
	r.peers[other.Peer] = &peer{up: true}
	prepare := &wire.Prepare{Ballot: wire.Ballot{Round: 4, Who: 9}}
	r.onPrepare(other.Peer, prepare)
	if len(r.due.send) != 0 {
		t.Fatal("promised before it was safe")
	}
	r.Persisted(0, l.seq, nil)
	if len(r.due.send) != 1 {
		t.Fatalf("sent %+v", r.due.send)
	}
	value := wire.Origin{Genesis: wire.Genesis{1}, Founders: []wire.Member{other}}
	r.onElect(other.Peer, &wire.Elect{Ballot: prepare.Ballot, Value: value})
	self := r.self
	cfg.BootNonce, cfg.Seed = 2, 2
	if r, err = New(cfg, l); err != nil {
		t.Fatal(err)
	}
	want := genesis.Ballot{Promised: prepare.Ballot, Voted: prepare.Ballot, Value: value}
	if r.self != self || r.cfg.BootNonce != 1 || !r.genesis.IsZero() || !reflect.DeepEqual(r.ballot, want) {
		t.Errorf("member %x with nonce %d and ballot %+v; was %x, 1, %+v", r.self, r.cfg.BootNonce, r.ballot, self, want)
	}
}
