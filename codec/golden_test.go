package codec_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/codec"
)

// The bytes in this file were written by Rust programs with serde 1.0 and postcard 1.1 (to_stdvec). The comment or the
// name says the Rust type; the Rust types that are not in Rust's library are:
//
//	struct Unit;
//	struct Meters(f64);
//	struct Pair(u16, String);
//	struct Point { x: i32, y: i32 }
//	struct Line { from: Point, to: Point, name: Option<String> }
//	struct Node { value: u8, next: Option<Box<Node>> }
//	enum Color { Red, Green, Blue }
//	enum Shape { Empty, Circle(f64), Square { side: u32, name: String }, Segment(Point, Point), Group(Vec<Shape>) }
//	struct Drawing { title: String, shapes: Vec<Shape>, main: Option<Shape> }
//	struct Everything { a: bool, b: u8, c: u16, d: u32, e: u64, f: i8, g: i16, h: i32, i: i64, j: f32, k: f64,
//		l: String, m: Vec<u8>, n: [u8; 4], o: Option<u32>, p: Option<u32>, q: Vec<String>, r: [i16; 3],
//		s: BTreeMap<String, u32>, t: Point, u: (u8, bool), v: Vec<Option<i64>>, w: Unit }

type unit struct{}

type pair struct {
	First  uint16
	Second string
}

type point struct{ X, Y int32 }

type line struct {
	From, To point
	Name     *string
}

type node struct {
	Value byte
	Next  *node
}

type color uint32

const (
	red color = iota
	green
	blue
)

type shape interface{ isShape() }

type (
	nothing struct{}
	circle  float64
	square  struct {
		Side uint32
		Name string
	}
	segment struct{ From, To point }
	group   []shape
)

func (nothing) isShape() {}
func (circle) isShape()  {}
func (*square) isShape() {}
func (segment) isShape() {}
func (group) isShape()   {}

func shapes() []codec.Case[shape] {
	return []codec.Case[shape]{
		codec.Member[shape, nothing](0),
		codec.Member[shape, circle](1),
		codec.Member[shape, *square](2),
		codec.Member[shape, segment](3),
		codec.Member[shape, group](4),
	}
}

type drawing struct {
	Title  string
	Shapes []shape
	Main   *shape
}

type everything struct {
	A bool
	B uint8
	C uint16
	D uint32
	E uint64
	F int8
	G int16
	H int32
	I int64
	J float32
	K float64
	L string
	M []byte
	N [4]byte
	O *uint32
	P *uint32
	Q []string
	R [3]int16
	S map[string]uint32
	T point
	U struct {
		A uint8
		B bool
	}
	V []*int64
	W unit
}

// golden checks that a value has these bytes, and that they are read as that value.
func golden[T any](t *testing.T, name, want string, v T, opts ...codec.Option) {
	t.Helper()
	c, err := codec.For[T](opts...)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	got, err := c.Append(nil, &v)
	if err != nil || hex.EncodeToString(got) != want {
		t.Errorf("%s: encoded as %x, %v; want %s", name, got, err, want)
	}
	raw, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := c.Decode(raw, &back); err != nil || !same(back, v) {
		t.Errorf("%s: decoded as %+v, %v; want %+v", name, back, err, v)
	}
	for n := range raw {
		if err := c.Decode(raw[:n], new(T)); err == nil {
			t.Errorf("%s: the first %d of %d bytes are accepted", name, n, len(raw))
		}
	}
	if err := c.Decode(append(raw, 0), new(T)); err == nil {
		t.Errorf("%s: a trailing byte is accepted", name)
	}
}

// same compares values; NaN is the same as NaN of the same bits.
func same[T any](a, b T) bool {
	switch x := any(a).(type) {
	case float32:
		return math.Float32bits(x) == math.Float32bits(any(b).(float32))
	case float64:
		return math.Float64bits(x) == math.Float64bits(any(b).(float64))
	}
	return reflect.DeepEqual(a, b)
}

func TestGoldenIntegers(t *testing.T) {
	t.Parallel()
	golden(t, "bool", "00", false)
	golden(t, "bool", "01", true)
	golden(t, "u8", "00", uint8(0))
	golden(t, "u8", "7f", uint8(127))
	golden(t, "u8", "80", uint8(128))
	golden(t, "u8", "ff", uint8(255))
	golden(t, "i8", "80", int8(-128))
	golden(t, "i8", "ff", int8(-1))
	golden(t, "i8", "7f", int8(127))

	golden(t, "u16", "00", uint16(0))
	golden(t, "u16", "01", uint16(1))
	golden(t, "u16", "7f", uint16(127))
	golden(t, "u16", "8001", uint16(128))
	golden(t, "u16", "ff7f", uint16(16383))
	golden(t, "u16", "808001", uint16(16384))
	golden(t, "u16", "ffff03", uint16(math.MaxUint16))

	golden(t, "u32", "00", uint32(0))
	golden(t, "u32", "7f", uint32(127))
	golden(t, "u32", "8001", uint32(128))
	golden(t, "u32", "ffff03", uint32(65535))
	golden(t, "u32", "ffff7f", uint32(1<<21-1))
	golden(t, "u32", "80808001", uint32(1<<21))
	golden(t, "u32", "ffffff7f", uint32(1<<28-1))
	golden(t, "u32", "8080808001", uint32(1<<28))
	golden(t, "u32", "ffffffff0f", uint32(math.MaxUint32))

	golden(t, "u64", "00", uint64(0))
	golden(t, "u64", "ac02", uint64(300))
	golden(t, "u64", "808080808001", uint64(1<<35))
	golden(t, "u64", "ffffffffffffff7f", uint64(1<<56-1))
	golden(t, "u64", "808080808080808001", uint64(1<<56))
	golden(t, "u64", "ffffffffffffffff7f", uint64(1<<63-1))
	golden(t, "u64", "80808080808080808001", uint64(1<<63))
	golden(t, "u64", "ffffffffffffffffff01", uint64(math.MaxUint64))
	golden(t, "u64", "ffffffffffffffffff01", uint(math.MaxUint))

	golden(t, "i16", "00", int16(0))
	golden(t, "i16", "01", int16(-1))
	golden(t, "i16", "02", int16(1))
	golden(t, "i16", "7e", int16(63))
	golden(t, "i16", "8001", int16(64))
	golden(t, "i16", "7f", int16(-64))
	golden(t, "i16", "8101", int16(-65))
	golden(t, "i16", "feff03", int16(math.MaxInt16))
	golden(t, "i16", "ffff03", int16(math.MinInt16))

	golden(t, "i32", "8001", int32(64))
	golden(t, "i32", "8101", int32(-65))
	golden(t, "i32", "feffffff0f", int32(math.MaxInt32))
	golden(t, "i32", "ffffffff0f", int32(math.MinInt32))

	golden(t, "i64", "00", int64(0))
	golden(t, "i64", "d804", int64(300))
	golden(t, "i64", "d704", int64(-300))
	golden(t, "i64", "feffffffffffffffff01", int64(math.MaxInt64))
	golden(t, "i64", "ffffffffffffffffff01", int64(math.MinInt64))
	golden(t, "i64", "d704", int(-300))
	golden(t, "i64", "ffffffffffffffffff01", int(math.MinInt))
}

func TestGoldenFloats(t *testing.T) {
	t.Parallel()
	golden(t, "f32", "00000000", float32(0))
	golden(t, "f32", "00000080", float32(math.Copysign(0, -1)))
	golden(t, "f32", "0000803f", float32(1))
	golden(t, "f32", "000600c2", float32(-32.005859375))
	golden(t, "f32", "ffff7f7f", float32(math.MaxFloat32))
	golden(t, "f32", "0000807f", float32(math.Inf(1)))
	golden(t, "f32", "0000c07f", math.Float32frombits(0x7fc00000))

	golden(t, "f64", "0000000000000000", 0.0)
	golden(t, "f64", "0000000000000080", math.Copysign(0, -1))
	golden(t, "f64", "000000000000f03f", 1.0)
	golden(t, "f64", "00000000c00040c0", -32.005859375)
	golden(t, "f64", "0000000000001000", 0x1p-1022)
	golden(t, "f64", "000000000000f0ff", math.Inf(-1))
	golden(t, "f64", "010000000000f87f", math.Float64frombits(0x7ff8000000000001))
}

func TestGoldenSequences(t *testing.T) {
	t.Parallel()
	golden(t, "&str", "00", "")
	golden(t, "&str", "0568656c6c6f", "hello")
	golden(t, "&str", "1768c3a96c6c6f2c2077c3b6726c6420e29c9320f09f8e89", "héllo, wörld ✓ 🎉")
	golden(t, "&str", "c801"+strings.Repeat("78", 200), strings.Repeat("x", 200))
	golden(t, "char", "02c39f", "ß")

	golden(t, "Vec<u8>", "00", []byte(nil))
	golden(t, "Vec<u8>", "0500017f80ff", []byte{0, 1, 127, 128, 255})
	golden(t, "Vec<i8>", "03ff0001", []int8{-1, 0, 1})
	golden(t, "Vec<u16>", "03018001ffff03", []uint16{1, 128, 65535})
	golden(t, "Vec<bool>", "020100", []bool{true, false})
	golden(t, "Vec<()>", "03", make([]struct{}, 3))
	golden(t, "Vec<&str>", "0301610003626364", []string{"a", "", "bcd"})
	golden(t, "Vec<Vec<u32>>", "030101000202ac02", [][]uint32{{1}, nil, {2, 300}})

	golden(t, "[u8; 4]", "010280ff", [4]byte{1, 2, 128, 255})
	golden(t, "[i8; 2]", "ff01", [2]int8{-1, 1})
	golden(t, "[u16; 3]", "018001ffff03", [3]uint16{1, 128, 65535})
	golden(t, "[u8; 0]", "", [0]byte{})

	golden(t, "BTreeMap<u8, u8>", "00", map[uint8]uint8(nil))
	golden(t, "BTreeMap<u16, String>", "0201036f6e65020374776f", map[uint16]string{1: "one", 2: "two"})
	golden(t, "BTreeMap<String, u32>", "020161010162ac02", map[string]uint32{"a": 1, "b": 300})
	golden(t, "BTreeMap<(u8, u8), ()>", "0201020103", map[[2]uint8]struct{}{{1, 2}: {}, {1, 3}: {}})
}

// A BTreeMap orders integers by value and strings by their text, which is not the order of the encoded keys.
func TestGoldenMapOrder(t *testing.T) {
	t.Parallel()
	foreign[map[uint16]string](t, "BTreeMap<u16, String>",
		"0601036f6e65020374776f7f016180010162ac0201648080010163",
		"0601036f6e65020374776f7f0161800101628080010163ac020164")
	foreign[map[string]uint32](t, "BTreeMap<String, u32>", "03016101026161020162ac02", "030161010162ac0202616102")
}

// foreign checks that bytes are refused unless map entries may have any order, and that Append writes them in ours.
func foreign[T any](t *testing.T, name, theirs, ours string) {
	t.Helper()
	raw, err := hex.DecodeString(theirs)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	strict := codec.Must(codec.For[T]())
	if err := strict.Decode(raw, &v); err == nil {
		t.Errorf("%s: keys that do not ascend are accepted", name)
	}
	tolerant := codec.Must(codec.For[T](codec.AnyMapOrder()))
	if err := tolerant.Decode(raw, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if tolerant.Fingerprint() != strict.Fingerprint() {
		t.Errorf("%s: fingerprints differ", name)
	}
	if got, err := tolerant.Append(nil, &v); err != nil || hex.EncodeToString(got) != ours {
		t.Errorf("%s: encoded as %x, %v; want %s", name, got, err, ours)
	}
}

func TestGoldenOptions(t *testing.T) {
	t.Parallel()
	golden(t, "Option<u32>", "00", (*uint32)(nil))
	golden(t, "Option<u32>", "01ac02", new(uint32(300)))
	golden(t, "Option<Option<u8>>", "0100", new((*uint8)(nil)))
	golden(t, "Option<Option<u8>>", "010107", new(new(uint8(7))))
	golden(t, "Option<()>", "01", new(struct{}))
}

func TestGoldenStructs(t *testing.T) {
	t.Parallel()
	golden(t, "()", "", struct{}{})
	golden(t, "Unit", "", unit{})
	golden(t, "Meters", "0000000000000440", struct{ Meters float64 }{2.5})
	golden(t, "Pair", "ac02026869", pair{300, "hi"})
	golden(t, "(u8, i32, &str)", "01010178", struct {
		A uint8
		B int32
		C string
	}{1, -1, "x"})
	golden(t, "Point", "01d804", point{-1, 300})
	golden(t, "Line", "0204050701026162", line{point{1, 2}, point{-3, -4}, new("ab")})
	golden(t, "Node", "01010200", node{1, &node{2, nil}})
	golden(t, "Everything",
		"01c8ac02f0a204808080808020fed704dfc508ffffffffff3f0000c03f00000000000002c0047465787402090801020304000180010201"+
			"7802797a01000201016b090a09010002010100",
		everything{A: true, B: 200, C: 300, D: 70000, E: 1 << 40, F: -2, G: -300, H: -70000, I: -(1 << 40), J: 1.5,
			K: -2.25, L: "text", M: []byte{9, 8}, N: [4]byte{1, 2, 3, 4}, P: new(uint32(128)), Q: []string{"x", "yz"},
			R: [3]int16{-1, 0, 1}, S: map[string]uint32{"k": 9}, T: point{5, -5},
			U: struct {
				A uint8
				B bool
			}{1, false},
			V: []*int64{new(int64(-1)), nil}})
}

func TestGoldenEnums(t *testing.T) {
	t.Parallel()
	golden(t, "Color", "00", red)
	golden(t, "Color", "02", blue)
	golden(t, "Vec<Color>", "020100", []color{green, red})

	u := codec.WithUnion(shapes()...)
	golden[shape](t, "Shape::Empty", "00", nothing{}, u)
	golden[shape](t, "Shape::Circle", "01000000000000f83f", circle(1.5), u)
	golden[shape](t, "Shape::Square", "02ac02027371", &square{300, "sq"}, u)
	golden[shape](t, "Shape::Segment", "0302040608", segment{point{1, 2}, point{3, 4}}, u)
	golden[shape](t, "Shape::Group", "0403000400010000000000000000",
		group{nothing{}, group(nil), circle(0)}, u)
	golden(t, "Drawing", "01640201000000000000f03f0001020100",
		drawing{"d", []shape{circle(1), nothing{}}, new(shape(&square{Side: 1}))}, u)

	type ok struct{ V uint8 }
	type fail struct{ E string }
	result := codec.WithUnion(codec.Member[any, ok](0), codec.Member[any, fail](1))
	golden[any](t, "Result<u8, String>", "0005", ok{5}, result)
	golden[any](t, "Result<u8, String>", "01026e6f", fail{"no"}, result)

	type seven struct{ V uint8 }
	for tag, want := range map[uint32]string{127: "7f07", 128: "800107", math.MaxUint32: "ffffffff0f07"} {
		golden[any](t, "enum with many variants", want, seven{7}, codec.WithUnion(codec.Member[any, seven](tag)))
	}
}

func TestGoldenTimes(t *testing.T) {
	t.Parallel()
	golden(t, "(i64, u32)", "80c49fd50c959aef3a", time.Unix(1700000000, 123456789).UTC())
	golden(t, "(i64, u32)", "01ff93ebdc03", time.Unix(-1, 999999999).UTC())
	golden(t, "i64", "80bcc1960b", 1500*time.Millisecond)

	// The zone and the monotonic clock are left behind.
	c := codec.Must(codec.For[time.Time]())
	now := time.Now().In(time.FixedZone("here", 3600))
	raw, err := c.Append(nil, &now)
	var back time.Time
	if err == nil {
		err = c.Decode(raw, &back)
	}
	if err != nil || back != now.Round(0).UTC() {
		t.Errorf("%v came back as %v, %v", now, back, err)
	}
	// The zero time stays zero.
	var zero time.Time
	raw, _ = c.Append(nil, &zero)
	if err := c.Decode(raw, &back); err != nil || !back.IsZero() {
		t.Errorf("zero time came back as %v, %v", back, err)
	}
}

// Nil and empty are one value.
func TestEmpty(t *testing.T) {
	t.Parallel()
	type lists struct {
		A []byte
		B []string
		C map[string]int
		D []struct{}
	}
	c := codec.Must(codec.For[lists]())
	raw, err := c.Append(nil, &lists{A: []byte{}, B: []string{}, C: map[string]int{}, D: []struct{}{}})
	if err != nil || !bytes.Equal(raw, make([]byte, 4)) {
		t.Fatalf("encoded as %x, %v", raw, err)
	}
	var v lists
	if err := c.Decode(raw, &v); err != nil || !reflect.DeepEqual(v, lists{}) {
		t.Errorf("decoded as %#v, %v", v, err)
	}
	// What was there before does not stay.
	v = lists{A: []byte{1}, B: []string{"x"}, C: map[string]int{"x": 1}, D: make([]struct{}, 2)}
	if err := c.Decode(raw, &v); err != nil || !reflect.DeepEqual(v, lists{}) {
		t.Errorf("decoded over old values as %#v, %v", v, err)
	}
}
