package codec_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/codec"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// described checks the text that the fingerprint is made of.
func described[T any](t *testing.T, want string, opts ...codec.Option) {
	t.Helper()
	c, err := codec.For[T](opts...)
	if err != nil {
		t.Errorf("%T: %v", *new(T), err)
		return
	}
	if got := fmt.Sprint(c); got != want {
		t.Errorf("%T is described as\n%s, want\n%s", *new(T), got, want)
	}
}

func TestDescriptions(t *testing.T) {
	t.Parallel()
	described[bool](t, "bool")
	described[int](t, "i64")
	described[uint](t, "u64")
	described[int8](t, "i8")
	described[time.Duration](t, "i64")
	described[time.Time](t, "time")
	described[color](t, "u32")
	described[[]byte](t, "[]u8")
	described[[4]int8](t, "[4]i8")
	described[[][2]*string](t, "[][2]?string")
	described[map[float32][]float64](t, "map[f32][]f64")
	described[struct{}](t, "{}")
	described[point](t, "{X i32, Y i32}")
	described[line](t, "{From {X i32, Y i32}, To #1, Name ?string}")
	described[netip.Addr](t, "binary(netip.Addr)")
	described[[]netip.Addr](t, "[]binary(netip.Addr)")
	described[[]*timestamppb.Timestamp](t, "[]?proto(google.protobuf.Timestamp)")
	described[struct {
		A int    `mosaik:"x"`
		B func() `mosaik:"-"`
	}](t, "{x i64}")

	described[shape](t, "<0 {}, 1 f64, 2 {Side u32, Name string}, 3 {From {X i32, Y i32}, To #4}, 4 []#0>",
		codec.WithUnion(shapes()...))
	described[ring](t, "{Next ?#0}")
	described[tree](t, "{Name string, Children []#0, Index map[string]#0, Parent ?#0}")
	described[list](t, "[]#0")
	described[pointer](t, "?#0")
	described[dictionary](t, "map[string]#0")
	described[first](t, "{Second {First ?#0}, N i64}")
	described[struct{ A, B []list }](t, "{A []#1, B []#2}")
}

// The Go types' names, and which of them are shared, are no part of the fingerprint.
func TestFingerprintIsOfTheStructure(t *testing.T) {
	t.Parallel()
	type otherPoint struct{ X, Y int32 }
	type otherLine struct {
		From point
		To   otherPoint
		Name *string
	}
	equalPrints[line, otherLine](t)

	// A list that is unrolled once is the same list.
	type unrolled struct {
		Value byte
		Next  *node
	}
	equalPrints[node, unrolled](t)
	equalPrints[list, []list](t)
	equalPrints[struct{ N node }, struct{ N unrolled }](t)
	equalPrints[map[[2]float64]int, map[[2]float64]int64](t)

	type oldName struct{ Amount int }
	type newName struct {
		Total int `mosaik:"Amount"`
	}
	equalPrints[oldName, newName](t)
}

func equalPrints[A, B any](t *testing.T) {
	t.Helper()
	a, b := codec.Must(codec.For[A]()), codec.Must(codec.For[B]())
	if a.Fingerprint() != b.Fingerprint() {
		t.Errorf("%v and %v differ", a, b)
	}
}

// Whatever changes the bytes or the names changes the fingerprint.
func TestFingerprintsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]string{}
	add := func(c interface{ Fingerprint() [32]byte }) {
		f := c.Fingerprint()
		if other, ok := seen[f]; ok || f == ([32]byte{}) {
			t.Errorf("%v and %s have the fingerprint %x", c, other, f)
		}
		seen[f] = fmt.Sprint(c)
	}
	add(codec.Must(codec.For[bool]()))
	add(codec.Must(codec.For[uint8]()))
	add(codec.Must(codec.For[int8]()))
	add(codec.Must(codec.For[uint16]()))
	add(codec.Must(codec.For[int16]()))
	add(codec.Must(codec.For[uint32]()))
	add(codec.Must(codec.For[int32]()))
	add(codec.Must(codec.For[uint64]()))
	add(codec.Must(codec.For[int64]()))
	add(codec.Must(codec.For[float32]()))
	add(codec.Must(codec.For[float64]()))
	add(codec.Must(codec.For[string]()))
	add(codec.Must(codec.For[[]byte]()))
	add(codec.Must(codec.For[[]string]()))
	add(codec.Must(codec.For[[2]string]()))
	add(codec.Must(codec.For[[3]string]()))
	add(codec.Must(codec.For[*string]()))
	add(codec.Must(codec.For[time.Time]()))
	add(codec.Must(codec.For[struct{ A string }]()))
	add(codec.Must(codec.For[struct{ B string }]()))
	add(codec.Must(codec.For[struct{ A, B string }]()))
	add(codec.Must(codec.For[struct{ B, A string }]()))
	add(codec.Must(codec.For[struct {
		A struct{ B string }
	}]()))
	add(codec.Must(codec.For[map[string]int]()))
	add(codec.Must(codec.For[map[string]uint]()))
	add(codec.Must(codec.For[map[int]string]()))
	add(codec.Must(codec.For[node]()))
	add(codec.Must(codec.For[list]()))
	add(codec.Must(codec.For[[]netip.Addr]()))
	add(codec.Must(codec.For[[]netip.Prefix]()))
	add(codec.Must(codec.For[any](codec.WithUnion(codec.Member[any, int](0)))))
	add(codec.Must(codec.For[any](codec.WithUnion(codec.Member[any, int](1)))))
	add(codec.Must(codec.For[any](codec.WithUnion(codec.Member[any, string](1)))))
	add(codec.Must(codec.For[any](codec.WithUnion(codec.Member[any, string](1), codec.Member[any, int](0)))))
	// Three types in a circle, and the same with one link to another place.
	add(codec.Must(codec.For[circleA]()))
	add(codec.Must(codec.For[circleX]()))
}

type (
	circleA struct{ Next *circleB }
	circleB struct{ Next *circleC }
	circleC struct {
		Next *circleA
		N    int
	}
	circleX struct{ Next *circleY }
	circleY struct{ Next *circleZ }
	circleZ struct {
		Next *circleY
		N    int
	}
)

// The order in which members are listed is no part of a union.
func TestUnionOrder(t *testing.T) {
	t.Parallel()
	a, err1 := codec.Union(codec.Member[any, int](0), codec.Member[any, string](5))
	b, err2 := codec.Union(codec.Member[any, string](5), codec.Member[any, int](0))
	if err1 != nil || err2 != nil || a.Fingerprint() != b.Fingerprint() {
		t.Errorf("%v, %v and %v, %v", a, err1, b, err2)
	}
}

// Programs of different age compare fingerprints, so the same type has this one forever.
func TestGoldenFingerprint(t *testing.T) {
	t.Parallel()
	printed(t, codec.Must(codec.For[everything]()),
		"a130c74a3ebbf5c63255864ecbec7a09892d220619dc15afa646fbddce74e3fc")
	printed(t, codec.Must(codec.For[tree]()),
		"f6f776e17e6a1e7e5f5022618ecaf34226319d068e2d191fd584b192400563db")
	printed(t, codec.Must(codec.For[drawing](codec.WithUnion(shapes()...))),
		"0db4dc4b48c296d32b6cdf4795e6613b896981e445f3af93f54e8adc01e6ab1d")
	printed(t, codec.Must(codec.For[netip.Addr]()),
		"e6afff2fe75436580ab7b985a4315f6207b99ae2f633e70a1b5da378439d6983")
	printed(t, codec.Must(codec.For[int64]()),
		"dd8c97b98e55b1ce1358ea18a12bc4def6c9122392549f013e8757e6a9ea802f")
}

func printed[T any](t *testing.T, c codec.Codec[T], want string) {
	t.Helper()
	if f := c.Fingerprint(); hex.EncodeToString(f[:]) != want {
		t.Errorf("%v has fingerprint %x, want %s", c, f, want)
	}
}
