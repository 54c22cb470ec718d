package codec_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/mosaik-go/mosaik/codec"
)

// expr and stmt are two unions that need each other.
type (
	expr interface{ expr() }
	stmt interface{ stmt() }

	number int64
	sum    struct{ Left, Right expr }
	block  struct {
		Steps []stmt
		Last  expr
	}
	let struct {
		Name  string
		Value expr
	}
	print struct{ Values map[string]expr }
)

func (number) expr() {}
func (*sum) expr()   {}
func (block) expr()  {}
func (let) stmt()    {}
func (print) stmt()  {}

func language() []codec.Option {
	return []codec.Option{
		codec.WithUnion(codec.Member[expr, number](0), codec.Member[expr, *sum](1), codec.Member[expr, block](7)),
		codec.WithUnion(codec.Member[stmt, let](0), codec.Member[stmt, print](1000)),
	}
}

func TestUnions(t *testing.T) {
	t.Parallel()
	var program expr = block{
		Steps: []stmt{
			let{"x", &sum{number(1), &sum{number(2), number(3)}}},
			print{map[string]expr{"a": number(1), "b": block{Last: number(-1)}}},
		},
		Last: number(5),
	}
	roundTrip(t, program, language()...)
	roundTrip[stmt](t, let{"y", number(0)}, language()...)
	roundTrip(t, []expr{number(1)}, language()...)
	roundTrip(t, new(expr(number(1))), language()...) // an expr that may be missing
	roundTrip(t, (*expr)(nil), language()...)
}

// The codec of Union is that of For.
func TestUnionIsShort(t *testing.T) {
	t.Parallel()
	short, err := codec.Union(shapes()...)
	if err != nil {
		t.Fatal(err)
	}
	long := codec.Must(codec.For[shape](codec.WithUnion(shapes()...)))
	if short.Name() != long.Name() || short.Fingerprint() != long.Fingerprint() {
		t.Errorf("%v and %v", short, long)
	}
	var v shape = group{circle(1), &square{2, "x"}}
	raw, err := short.Append(nil, &v)
	var back shape
	if err == nil {
		err = long.Decode(raw, &back)
	}
	if err != nil || !same(back, v) {
		t.Errorf("%v, %v", back, err)
	}
}

func TestRefusedUnions(t *testing.T) {
	t.Parallel()
	refused[shape](t, "has no members", codec.WithUnion[shape]())
	refused[shape](t, "does not implement it", codec.WithUnion(codec.Member[shape, int](0)))
	refused[shape](t, "codec_test.square does not implement it", codec.WithUnion(codec.Member[shape, square](0)))
	refused[shape](t, "does not implement it", codec.WithUnion(codec.Member[shape, shape](0)))
	refused[shape](t, "was not made by Member", codec.WithUnion(codec.Case[shape]{}))
	refused[shape](t, "same tag 1", codec.WithUnion(codec.Member[shape, circle](1), codec.Member[shape, nothing](1)))
	refused[shape](t, "two tags, 1 and 2", codec.WithUnion(codec.Member[shape, circle](1), codec.Member[shape, circle](2)))
	refused[int](t, "needs an interface type, int is none", codec.WithUnion(codec.Member[int, int](0)))
	refused[shape](t, "given twice", codec.WithUnion(shapes()...), codec.WithUnion(shapes()...))
	refused[expr](t, ".(codec_test.block).Steps[]: interface codec_test.stmt has no encoding", language()[0])
	refused[any](t, ".(chan int): chan int has no encoding", codec.WithUnion(codec.Member[any, chan int](0)))
}

// A member that is no pointer is copied into the interface: what is decoded next does not show in it.
func TestUnionValuesAreCopies(t *testing.T) {
	t.Parallel()
	c, err := codec.Union(codec.Member[any, benchSet](0), codec.Member[any, []string](1))
	if err != nil {
		t.Fatal(err)
	}
	encode := func(v any) []byte {
		raw, err := c.Append(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var a, b any
	if err := errors.Join(c.Decode(encode(benchSet{"a", []byte("1")}), &a), c.Decode(encode(benchSet{"b", nil}), &b)); err != nil {
		t.Fatal(err)
	}
	if !same[any](a, benchSet{"a", []byte("1")}) || !same[any](b, benchSet{"b", nil}) {
		t.Errorf("decoded %v and %v", a, b)
	}
}

// A codec may be used from many goroutines, also where it keeps scratch space.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	c := codec.Must(codec.For[mixed](codec.WithUnion(shapes()...)))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			v := mixedValue()
			v.Everything.L = strings.Repeat("x", g)
			v.Sets[v.Everything.L] = map[uint16]struct{}{uint16(g): {}}
			for range 200 {
				raw, err := c.Append(nil, &v)
				var back mixed
				if err == nil {
					err = c.Decode(raw, &back)
				}
				if err != nil || !same(back, v) {
					t.Errorf("%+v came back as %+v, %v", v, back, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
