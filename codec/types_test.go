package codec_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mosaik-go/mosaik/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refused checks that For has no codec for a type, and that the error names what is wrong.
func refused[T any](t *testing.T, want string, opts ...codec.Option) {
	t.Helper()
	c, err := codec.For[T](opts...)
	if c != nil || !errors.Is(err, codec.ErrType) || !strings.Contains(err.Error(), want) {
		t.Errorf("For[%T]: %v, %v; want an error with %q", *new(T), c, err, want)
	}
}

type embedsTime struct {
	time.Time
	X int
}

type embedsTimePointer struct {
	X int
	*time.Time
}

type embedsDeeper struct {
	embedsTime
	Y int
}

type embedsInterface struct {
	X int
	binaryValue
}

type binaryValue interface {
	AppendBinary([]byte) ([]byte, error)
	UnmarshalBinary([]byte) error
}

type embedsMessage struct {
	*timestamppb.Timestamp
	X int
}

type hidden struct {
	Shown  int
	hidden int //lint:ignore U1000 it is there to be refused
}

type inflated struct {
	N     int
	Cache [4096]byte `mosaik:"-"`
}

type looped struct {
	Inner struct {
		List []map[string]*chan int
	}
}

func TestRefusedTypes(t *testing.T) {
	t.Parallel()
	refused[chan int](t, "chan int has no encoding")
	refused[func()](t, "func() has no encoding")
	refused[complex64](t, "complex64 has no encoding")
	refused[complex128](t, "complex128 has no encoding")
	refused[uintptr](t, "uintptr has no encoding")
	refused[unsafe.Pointer](t, "unsafe.Pointer has no encoding")
	refused[any](t, "interface {} has no encoding; list its members with WithUnion")
	refused[error](t, "interface error has no encoding")
	refused[struct{ R io.Reader }](t, "R: interface io.Reader has no encoding")
	refused[looped](t, "Inner.List[][]: chan int has no encoding")
	refused[map[string]func()](t, "[]: func() has no encoding")
	refused[sync.Mutex](t, "is not exported")

	refused[hidden](t, "hidden: is not exported; export it, or leave it out")
	refused[struct{ hidden }](t, "hidden: is not exported")
	refused[struct {
		A int `mosaik:""`
	}](t, "A: tag")
	refused[struct {
		A int `mosaik:"a b"`
	}](t, "A: tag")
	refused[struct {
		A int `mosaik:"B"`
		B int
	}](t, "B: has the same name as field A")

	// Methods of an embedded field would encode that field only.
	refused[embedsTime](t, "method AppendBinary of codec_test.embedsTime is that of the embedded field Time")
	refused[struct{ V []embedsTime }](t, "V[]: method AppendBinary")
	refused[embedsTimePointer](t, "embedded field Time")
	refused[embedsDeeper](t, "embedded field embedsTime")
	refused[embedsInterface](t, "embedded field binaryValue")
	refused[embedsMessage](t, "method ProtoReflect of codec_test.embedsMessage is that of the embedded field Timestamp")
	refused[struct{ M *embedsMessage }](t, "M: method ProtoReflect")
	refused[*dynamicpb.Message](t, "a protobuf message without generated code")

	// Keys must be equal exactly if their bytes are.
	refused[map[*int]int](t, "*int is no map key")
	refused[map[time.Time]int](t, "time.Time is no map key")
	refused[map[struct{ T time.Time }]int](t, "[key].T: time.Time is no map key")
	refused[map[any]int](t, "interface {} has no encoding")
	refused[map[any]int](t, "interface {} is no map key", codec.WithUnion(codec.Member[any, int](0)))
	refused[map[struct {
		A int
		B int `mosaik:"-"`
	}]int](t, "[key].B: a field that is left out makes different map keys equal")

	// Nothing in the input would bound the memory for these.
	refused[[]struct {
		A [64]int `mosaik:"-"`
	}](t, "takes 512 bytes of memory and can be encoded in 0")
	refused[[]*inflated](t, "codec_test.inflated in *codec_test.inflated takes 4104 bytes of memory and can be encoded in 1")
	refused[map[string]inflated](t, "codec_test.inflated in map[string]codec_test.inflated")
	refused[any](t, "codec_test.inflated in interface {}", codec.WithUnion(codec.Member[any, inflated](0)))
}

// Explicit methods count even if an embedded field has some of the same name.
type overrides struct {
	time.Time
	X byte
}

func (o overrides) AppendBinary(b []byte) ([]byte, error) { return append(b, o.X), nil }

func (o *overrides) UnmarshalBinary(b []byte) error {
	if len(b) != 1 {
		return errors.New("not one byte")
	}
	o.X = b[0]
	return nil
}

// Only one of two methods is its own.
type halfOverrides struct {
	time.Time
	X byte
}

func (o halfOverrides) AppendBinary(b []byte) ([]byte, error) { return append(b, o.X), nil }

// small has methods that are inlined into those that the compiler makes for the structs that embed it.
type smallBinary struct{ B byte }

func (s smallBinary) AppendBinary(b []byte) ([]byte, error) { return append(b, s.B), nil }
func (s *smallBinary) UnmarshalBinary(b []byte) error       { s.B = b[0]; return nil }

type embedsSmall struct {
	smallBinary
	X int
}

type embedsSmallPointer struct {
	*smallBinary
	X int
}

func TestPromotedMethods(t *testing.T) {
	t.Parallel()
	if c, err := codec.For[overrides](); err != nil || c.Name() != "binary/1" {
		t.Errorf("own methods over embedded ones: %v, %v", c, err)
	}
	refused[halfOverrides](t, "method UnmarshalBinary of codec_test.halfOverrides is that of the embedded field Time")
	refused[embedsSmall](t, "embedded field smallBinary")
	refused[embedsSmallPointer](t, "embedded field smallBinary")

	// The embedded field as a field with a name is no problem.
	type named struct {
		When time.Time
		X    int
	}
	roundTrip(t, named{time.Unix(1, 2).UTC(), 3})
}

// roundTrip checks that a value comes back, in a codec of its own and between other fields.
func roundTrip[T any](t *testing.T, v T, opts ...codec.Option) []byte {
	t.Helper()
	c, err := codec.For[T](opts...)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.Append([]byte("head"), &v)
	if err != nil {
		t.Fatalf("encode %+v: %v", v, err)
	}
	if string(raw[:4]) != "head" {
		t.Fatalf("what was in the buffer became %q", raw[:4])
	}
	var back T
	if err := c.Decode(raw[4:], &back); err != nil || !same(back, v) {
		t.Fatalf("%+v came back as %+v, %v", v, back, err)
	}

	type within struct {
		Before string
		Inner  T
		List   []T
		After  uint64
	}
	w, err := codec.For[within](opts...)
	if err != nil {
		t.Fatal(err)
	}
	outer := within{"before", v, []T{v, v}, 1 << 40}
	rawOuter, err := w.Append(nil, &outer)
	if err != nil {
		t.Fatalf("encode %+v within a struct: %v", v, err)
	}
	var backOuter within
	if err := w.Decode(rawOuter, &backOuter); err != nil || !same(backOuter, outer) {
		t.Fatalf("%+v came back as %+v, %v", outer, backOuter, err)
	}
	return raw[4:]
}

type tree struct {
	Name     string
	Children []tree
	Index    map[string]tree
	Parent   *tree
}

type (
	list       []list
	dictionary map[string]dictionary
	pointer    *pointer
)

// mutual recursion, by value on one way and by pointer on the other
type first struct {
	Second second
	N      int
}

type second struct{ First *first }

func TestAcceptedTypes(t *testing.T) {
	t.Parallel()
	roundTrip(t, tree{Name: "a", Children: []tree{{Name: "b"}, {Name: "c", Children: []tree{{}}}},
		Index: map[string]tree{"x": {Name: "y"}}, Parent: &tree{}})
	roundTrip(t, list{nil, {nil, {nil}}})
	roundTrip(t, dictionary{"a": nil, "b": {"c": nil}})
	roundTrip(t, pointer(new(pointer(nil))))
	roundTrip(t, second{&first{second{&first{N: 1}}, 2}})
	roundTrip(t, first{second{&first{second{nil}, 1}}, 2})

	roundTrip(t, netip.MustParseAddr("192.0.2.1"))
	roundTrip(t, map[netip.Addr]string{netip.MustParseAddr("::1"): "a", netip.MustParseAddr("10.0.0.1"): "b"})
	roundTrip(t, struct{ A *netip.AddrPort }{new(netip.MustParseAddrPort("[::1]:80"))})

	type key struct {
		A string
		B [2]float64
		C bool
	}
	roundTrip(t, map[key]string{{"x", [2]float64{0, -1.5}, true}: "1", {"", [2]float64{}, false}: "2"})
	roundTrip(t, map[float32]int8{0: 1, -3: 2, 1e30: -1})
	roundTrip(t, map[struct{}]string{{}: "only"})
	roundTrip(t, map[struct{}]struct{}{{}: {}})
	roundTrip(t, map[string]struct{}{"a": {}, "b": {}})
	roundTrip(t, map[int16]map[bool][]string{-5: {true: {"x"}}, 7: nil})
	roundTrip(t, [2][3]uint16{{1, 2, 3}, {400, 500, 600}})
	roundTrip(t, [3]struct{}{})
	roundTrip(t, [][0]int{{}, {}})
	roundTrip(t, []*[2]string{nil, {"a", "b"}})

	type bytes []byte
	type octet byte
	type text string
	roundTrip(t, bytes{1, 2})
	roundTrip(t, []octet{1, 200})
	roundTrip(t, [3]octet{1, 2, 255})
	roundTrip(t, []text{"a", "b"})
	roundTrip(t, fmt.Sprintf("%c", 0x10ffff))
}

// What has no bytes takes no time.
func TestHugeArrayOfNothing(t *testing.T) {
	t.Parallel()
	type huge [1 << 30]struct{}
	c := codec.Must(codec.For[[]huge]())
	v := make([]huge, 1<<30)
	raw, err := c.Append(nil, &v)
	var back []huge
	if err == nil {
		err = c.Decode(raw, &back)
	}
	if err != nil || len(back) != len(v) {
		t.Errorf("%d came back, %v", len(back), err)
	}
}

// Fields that are left out keep nothing.
func TestLeftOutFields(t *testing.T) {
	t.Parallel()
	type record struct {
		A     int
		Cache *sync.Mutex `mosaik:"-"`
		_     [3]byte
		quiet func() `mosaik:"-"`
		B     int    `mosaik:"b"`
	}
	c := codec.Must(codec.For[record]())
	raw, err := c.Append(nil, &record{A: 1, Cache: new(sync.Mutex), quiet: func() {}, B: 2})
	if err != nil || string(raw) != "\x02\x04" {
		t.Fatalf("encoded as %x, %v", raw, err)
	}
	var back record
	if err := c.Decode(raw, &back); err != nil || back.A != 1 || back.B != 2 || back.Cache != nil || back.quiet != nil {
		t.Errorf("decoded as %+v, %v", back, err)
	}
}

// The program for a type is made once.
func TestForIsCheapTheSecondTime(t *testing.T) {
	type once struct{ A, B []map[string]int }
	if _, err := codec.For[once](); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { codec.For[once]() }); n > 4 {
		t.Errorf("For takes %v allocations when the type is known", n)
	}
}

func TestMust(t *testing.T) {
	t.Parallel()
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, codec.ErrType) {
			t.Errorf("Must panics with %v", err)
		}
	}()
	codec.Must(codec.For[chan int]())
}
