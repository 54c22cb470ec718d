package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// tape is a machine for commands of any type, always with the same signature. It remembers what they look like.
type tape[C any] struct{ lines []string }

func newTape[C any]() *tape[C] { return new(tape[C]) }

func (*tape[C]) Signature() id.ID { return id.Of("tape") }

func (m *tape[C]) Apply(_ groups.ApplyContext, cmd C) []string {
	m.lines = append(m.lines, fmt.Sprint(cmd))
	return nil
}

func (m *tape[C]) Query(struct{}) []string { return slices.Clone(m.lines) }

// Versions of a program's commands.
type (
	move     struct{ From, To, Amount uint32 }
	transfer struct {
		Source uint32 `mosaik:"From"`
		Target uint32 `mosaik:"To"`
		Amount uint32
	}
	moveWithNote struct {
		From, To, Amount uint32
		Note             string
	}
	moveBack struct{ To, From, Amount uint32 }

	action interface{ action() }
	set    struct{ Key, Value string }
	unset  struct{ Key string }
)

func (set) action()   {}
func (unset) action() {}

func actions(cases ...codec.Case[action]) groups.Option {
	return groups.WithCodec(codec.Must(codec.Union(cases...)))
}

// desk is a node with a store, that joins one group as different programs would.
type desk struct {
	t     *testing.T
	net   *testnet.Net
	store logstore.Store
	key   groups.Key
}

func newDesk(t *testing.T) *desk {
	s := &desk{t: t, net: testnet.Loopback(t, 0), key: groups.RandomKey(), store: open(t, t.TempDir())}
	t.Cleanup(func() {
		if len(s.net.Up()) > 0 {
			s.net.Close(0)
		}
		s.store.Close()
	})
	s.net.Add(mosaik.WithStorage(s.store))
	return s
}

func (s *desk) context() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

func joinTape[C any](s *desk, opts ...groups.Option) (*groups.Group[C, struct{}, []string], error) {
	opts = append([]groups.Option{groups.WithConsensus(groups.Consensus{BootstrapDelay: 200 * time.Millisecond, Patience: time.Minute})}, opts...)
	return groups.Join(s.net.Node(0), s.key, newTape[C], opts...)
}

// runs has a program of that version join, which must work and find what was written before, and write something more.
func runs[C any](s *desk, had []string, cmd C, opts ...groups.Option) {
	s.t.Helper()
	ctx := s.context()
	g, err := joinTape[C](s, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer g.Close()
	if _, err := g.Execute(ctx, cmd); err != nil {
		s.t.Fatalf("%v\n%s", err, g.Status())
	}
	if got, err := g.Query(ctx, struct{}{}, groups.Strong); err != nil || !slices.Equal(got.Value, append(had, fmt.Sprint(cmd))) {
		s.t.Fatalf("%T reads %q, %v, want %q and one more", cmd, got.Value, err, had)
	}
}

// refusedAs has a program of that version join, which must fail and change nothing. The error says what differs.
func refusedAs[C any](s *desk, says []string, opts ...groups.Option) {
	s.t.Helper()
	before := stored(s.t, s.store)
	_, err := joinTape[C](s, opts...)
	if !errors.Is(err, groups.ErrSchemaMismatch) {
		s.t.Fatalf("%T: %v", *new(C), err)
	}
	for _, x := range says {
		if !strings.Contains(err.Error(), x) {
			s.t.Errorf("%q does not say %q", err, x)
		}
	}
	if after := stored(s.t, s.store); !reflect.DeepEqual(after, before) {
		s.t.Errorf("the store had %+v, and then %+v", before, after)
	}
}

// A log is not read with another command type than it was written with, though the signature is the same; the program with
// the right one goes on with it, whatever its types are called.
func TestAnotherCommandTypeIsRefused(t *testing.T) {
	t.Parallel()
	s := newDesk(t)
	runs(s, nil, move{1, 2, 3})
	if got := stored(t, s.store).Schema; got != "postcard/1 {From u32, To u32, Amount u32}" {
		t.Errorf("the store says %q", got)
	}
	refusedAs[moveBack](s, []string{"{From u32, To u32, Amount u32}", "{To u32, From u32, Amount u32}", "another Signature"}) // which is read without an error
	refusedAs[moveWithNote](s, []string{"Note string"})
	refusedAs[[3]uint32](s, []string{"[3]u32"}) // the same bytes
	refusedAs[string](s, []string{"string"})
	refusedAs[move](s, []string{"cbor/1"}, groups.WithCodec(codec.Must(codec.CBOR[move]())))
	s.net.Close(0)
	s.net.Restart(0)
	refusedAs[moveBack](s, nil)
	runs(s, []string{"{1 2 3}"}, transfer{4, 5, 6})
	runs(s, []string{"{1 2 3}", "{4 5 6}"}, move{7, 8, 9})
}

// A union may get more members, but not lose them or change what they are.
func TestUnionsOfCommandsMayGrow(t *testing.T) {
	t.Parallel()
	s := newDesk(t)
	sets := codec.Member[action, set](0)
	runs[action](s, nil, set{"a", "1"}, actions(sets))
	runs[action](s, []string{"{a 1}"}, unset{"a"}, actions(sets, codec.Member[action, unset](4)))
	refusedAs[action](s, []string{"<0 {Key string, Value string}, 4 {Key string}>"}, actions(sets))
	refusedAs[action](s, nil, actions(sets, codec.Member[action, unset](5)))
	refusedAs[action](s, nil, actions(codec.Member[action, unset](0), codec.Member[action, set](4)))
	runs[action](s, []string{"{a 1}", "{a}"}, unset{"b"}, actions(sets, codec.Member[action, unset](4)))
}

// A tolerant codec is one whose types may change.
func TestTolerantCommandsMayChange(t *testing.T) {
	t.Parallel()
	s := newDesk(t)
	runs(s, nil, move{1, 2, 3}, groups.WithCodec(codec.Must(codec.CBOR[move]())))
	runs(s, []string{"{1 2 3 }"}, moveWithNote{4, 5, 6, "for lunch"}, groups.WithCodec(codec.Must(codec.CBOR[moveWithNote]())))
	refusedAs[move](s, []string{"they are cbor/1,", "postcard/1 {"})
}

// Who leaves a group leaves no log behind, and so nothing that must be read.
func TestLeftGroupMayChange(t *testing.T) {
	t.Parallel()
	s := newDesk(t)
	g, err := joinTape[move](s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Execute(s.context(), move{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if err := g.Leave(s.context()); err != nil {
		t.Fatal(err)
	}
	runs(s, nil, "a line")
}

// forgetful is a store of a version that did not write down what the commands are.
type forgetful struct{ logstore.Store }

func (s forgetful) Open(group id.ID, notify func(uint64, error)) (logstore.Log, error) {
	l, err := s.Store.Open(group, notify)
	return forgetfulLog{l}, err
}

type forgetfulLog struct{ logstore.Log }

func (l forgetfulLog) Schema() []byte { return nil }

func (l forgetfulLog) Submit(b logstore.Batch) (uint64, bool, error) {
	b.Schema = nil
	return l.Log.Submit(b)
}

// A log of before schemas were written down is that of whoever opens it first.
func TestLogsWithoutSchemaGetOne(t *testing.T) {
	t.Parallel()
	s := newDesk(t)
	runs(s, nil, move{1, 2, 3}, groups.WithStorage(forgetful{s.store}))
	if got := stored(t, s.store).Schema; got != "" {
		t.Errorf("the store says %q", got)
	}
	runs(s, []string{"{1 2 3}"}, move{4, 5, 6})
	refusedAs[moveBack](s, nil)
}
