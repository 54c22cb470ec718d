package wire

import (
	"errors"
	"reflect"
	"testing"

	"github.com/mosaik-go/mosaik/id"
)

var (
	someMember = Member{ID: 7, Peer: id.PeerID{1}, Nonce: 9, Preference: 1}
	someOrigin = Origin{
		Genesis: Genesis{1}, Founders: []Member{someMember}, Forced: 2,
		Parents: []Parent{{Genesis: Genesis{2}, Raft: 30, Last: 31, Term: 4, Commands: 20, Reason: Ordered, Lossy: true}},
	}
)

var rivals = []Message{
	&Hello{Seq: 1, Heard: 2, Ask: true, Genesis: Genesis{1}, Nonce: 3, Member: 4, Leader: id.PeerID{5}, Commands: 6, Forced: 7, Cut: 8, Parents: []Parent{{Genesis: Genesis{9}, Raft: 1, Commands: 1, Reason: Ordered}},
		Gone: []Gone{{From: Genesis{8}, Into: Genesis{9}, Round: 7}}},
	&Accept{Origin: someOrigin, Member: 4},
	&Forward{Genesis: Genesis{1}, Member: 2, Session: 3, First: 4, Ack: true, Items: []Item{{Count: 1, Payload: []byte("x")}}},
	&Prepare{Ballot: Ballot{1, 2}},
	&Promise{Ballot: Ballot{1, 2}, Refused: true, Promised: Ballot{3, 4}, Voter: someMember, Voted: Ballot{5, 6}, Value: someOrigin},
	&Elect{Ballot: Ballot{1, 2}, Value: someOrigin},
	&Elected{Ballot: Ballot{1, 2}, Refused: true, Promised: Ballot{3, 4}},
	&Founded{Value: someOrigin},
	&Absorb{Genesis: Genesis{1}, From: Genesis{2}, Attempt: 3, Forced: 4, Commands: 5, Done: true},
	&Verdict{Genesis: Genesis{1}, Of: Genesis{2}, Attempt: 3, Verdict: Moved, Forced: 4, Commands: 5, Into: Genesis{6}, Parents: someOrigin.Parents},
	&Repropose{Genesis: Genesis{1}, From: Genesis{2}, Attempt: 3, At: 4, Items: []Again{{Session: 5, Number: 6, Item: Item{Count: 7, Payload: []byte("y")}}}},
	&Reproposed{Genesis: Genesis{1}, Of: Genesis{2}, Attempt: 3, At: 4},
	&Muster{Genesis: Genesis{1}, Round: 2, Reason: Availability, Peek: true, Known: 4, Ended: []uint64{5, 6}},
	&Dismiss{Genesis: Genesis{1}, Round: 2},
	&Standing{Genesis: Genesis{1}, Round: 2, Member: 3, Term: 4, Last: 5, Commands: 6, Refused: true},
	&Farewell{Genesis: Genesis{1}, Member: 2},
	&Transfer{Genesis: Genesis{1}, Member: 2},
	&Expel{Genesis: Genesis{1}, Peer: id.PeerID{2}},
	&Fork{Genesis: Genesis{1}, Round: 2, Reason: Ordered, Lossy: true},
}

func TestRivalMessages(t *testing.T) {
	t.Parallel()
	for _, m := range rivals {
		b := Append(nil, m)
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: %+v, %v, want %+v", m, got, err, m)
		}
		for n := range b {
			if _, err := Decode(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%T cut to %d bytes: %v", m, n, err)
			}
		}
		if _, err := Decode(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T with a byte too many: %v", m, err)
		}
	}
}

func FuzzDecodeRivals(f *testing.F) {
	for _, m := range rivals {
		f.Add(Append(nil, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(Append(nil, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

// Two histories have the same log up to where the first of them left the common line.
func TestCommon(t *testing.T) {
	t.Parallel()
	root := Origin{Genesis: Genesis{1}}
	child := root.Fork(Genesis{2}, someMember, Parent{Raft: 10, Reason: Ordered})
	sibling := root.Fork(Genesis{3}, someMember, Parent{Raft: 15, Reason: Proven})
	grandchild := child.Fork(Genesis{4}, someMember, Parent{Raft: 40, Reason: Availability})
	if child.Forced != 1 || sibling.Forced != 0 || grandchild.Forced != 2 {
		t.Errorf("forced %d, %d, %d", child.Forced, sibling.Forced, grandchild.Forced)
	}
	for _, c := range []struct {
		a, b *Origin
		want uint64
	}{
		{&root, &child, 10}, {&child, &sibling, 10}, {&grandchild, &sibling, 10}, {&grandchild, &root, 10},
		{&grandchild, &child, 40}, {&sibling, &root, 15}, {&root, &Origin{Genesis: Genesis{9}}, 0},
	} {
		if got := Common(c.a, c.b); got != c.want {
			t.Errorf("%v and %v have %d in common, want %d", c.a.Genesis[0], c.b.Genesis[0], got, c.want)
		}
		if got := Common(c.b, c.a); got != c.want {
			t.Errorf("%v and %v have %d in common, want %d", c.b.Genesis[0], c.a.Genesis[0], got, c.want)
		}
	}
}
