package codec_test

import (
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/codec"
)

// malformed checks that bytes are refused, and why.
func malformed[T any](t *testing.T, raw, why string, opts ...codec.Option) {
	t.Helper()
	src, err := hex.DecodeString(raw)
	if err != nil {
		t.Fatal(err)
	}
	c := codec.Must(codec.For[T](opts...))
	err = c.Decode(src, new(T))
	if !errors.Is(err, codec.ErrMalformed) || !strings.Contains(err.Error(), why) {
		t.Errorf("%T from %q: %v, want an error with %q", *new(T), raw, err, why)
	}
}

// A value has one encoding: these are others, or none at all.
func TestMalformed(t *testing.T) {
	t.Parallel()
	const (
		short, long, large = "ends early", "longer than needed", "too large"
	)
	malformed[bool](t, "", short)
	malformed[bool](t, "02", "bool is neither")
	malformed[uint8](t, "", short)
	malformed[uint8](t, "0102", "left over")
	malformed[uint16](t, "80", short)
	malformed[uint16](t, "8000", long)
	malformed[uint16](t, "808000", long)
	malformed[uint16](t, "808004", large)
	malformed[uint16](t, "80808000", long)
	malformed[int16](t, "ffff04", large)
	malformed[uint32](t, "ffffffff10", large)
	malformed[uint32](t, "ffffffff8f00", long)
	malformed[int32](t, "ffffffff1f", large)
	malformed[uint64](t, "ffffffffffffffffff02", large)
	malformed[uint64](t, "ffffffffffffffffffff01", large)
	malformed[uint64](t, "80808080808080808000", long)
	malformed[uint64](t, strings.Repeat("80", 100), large)
	malformed[int64](t, "ffffffffffffffffff03", large)
	malformed[float32](t, "000000", short)
	malformed[float64](t, "00000000000000", short)

	malformed[string](t, "0261", short)
	malformed[string](t, "8100", long)
	malformed[string](t, "01ff", "not UTF-8")
	malformed[string](t, "03eda080", "not UTF-8") // a surrogate
	malformed[string](t, "02c080", "not UTF-8")   // NUL in two bytes
	malformed[string](t, "21"+strings.Repeat("61", 32)+"80", "not UTF-8")
	malformed[[]byte](t, "0261", short)
	malformed[[3]byte](t, "0102", short)
	malformed[[]uint32](t, "0301", short)
	malformed[[2]uint16](t, "01", short)

	malformed[*uint8](t, "02", "option is neither")
	malformed[*uint8](t, "01", short)
	malformed[time.Time](t, "008094ebdc03", "more than 999999999 nanoseconds")
	malformed[time.Time](t, "00", short)

	malformed[map[uint8]uint8](t, "0202000100", "do not ascend")
	malformed[map[uint8]uint8](t, "0201000100", "do not ascend")
	malformed[map[uint8]uint8](t, "0201000100", "key twice", codec.AnyMapOrder())
	malformed[map[struct{}]uint8](t, "020102", "key twice")
	malformed[map[struct{}]struct{}](t, "02", "key twice")
	malformed[map[float64]uint8](t, "01000000000000008000", "-0 is no map key")
	malformed[map[float64]uint8](t, "01010000000000f87f00", "NaN is no map key")
	malformed[map[float32]uint8](t, "010000008000", "-0 is no map key")
	malformed[map[float32]uint8](t, "010000c07f00", "NaN is no map key")
	malformed[map[string]uint8](t, "0101ff00", "not UTF-8")

	malformed[shape](t, "05", "no member with this tag", codec.WithUnion(shapes()...))
	malformed[shape](t, "8000", long, codec.WithUnion(shapes()...))
	malformed[shape](t, "ffffffff1f", large, codec.WithUnion(shapes()...))
	malformed[shape](t, "01000000", short, codec.WithUnion(shapes()...))
}

// noEncoding checks that a value is refused, that the error says why, and that the buffer stays as it was.
func noEncoding[T any](t *testing.T, v T, why string, opts ...codec.Option) {
	t.Helper()
	c := codec.Must(codec.For[T](opts...))
	out, err := c.Append([]byte("head"), &v)
	if !errors.Is(err, codec.ErrValue) || !strings.Contains(err.Error(), why) || string(out) != "head" {
		t.Errorf("%T: %q, %v; want an error with %q", v, out, err, why)
	}
}

type ring struct{ Next *ring }

func TestNoEncoding(t *testing.T) {
	t.Parallel()
	noEncoding(t, "\xff", "not UTF-8")
	noEncoding(t, []string{"ok", "\xed\xa0\x80"}, "not UTF-8")
	noEncoding(t, map[string]int{"\xc0": 1}, "not UTF-8")
	noEncoding(t, map[float64]int{math.NaN(): 1}, "NaN is no map key")
	noEncoding(t, map[float32]int{float32(math.NaN()): 1}, "NaN is no map key")
	noEncoding(t, map[lossyKey]int{{1}: 1, {2}: 2}, "key twice")

	r := &ring{}
	r.Next = r
	noEncoding(t, r, "nested deeper than 32")
	d := dictionary{}
	d["self"] = d
	noEncoding(t, d, "nested deeper than 32")
	l := list{nil}
	l[0] = l
	noEncoding(t, l, "nested deeper than 32")
	p := new(pointer)
	*p = p
	noEncoding(t, *p, "nested deeper than 32")
	g := group{nil}
	g[0] = g
	noEncoding[shape](t, g, "nested deeper than 32", codec.WithUnion(shapes()...))

	noEncoding[shape](t, nil, "nil codec_test.shape", codec.WithUnion(shapes()...))
	noEncoding[shape](t, (*square)(nil), "nil *codec_test.square in codec_test.shape", codec.WithUnion(shapes()...))
	noEncoding[any](t, "text", "string is no member of union interface {}", codec.WithUnion(codec.Member[any, int](0)))
	noEncoding(t, failing{}, "will not")
	noEncoding(t, []failing{{}}, "will not")
	noEncoding(t, shrinking{}, "took bytes away")
}

// Encoded alike though not equal.
type lossyKey struct{ N int }

func (lossyKey) AppendBinary(b []byte) ([]byte, error) { return append(b, 1), nil }
func (*lossyKey) UnmarshalBinary([]byte) error         { return nil }

type failing struct{}

func (failing) AppendBinary(b []byte) ([]byte, error) {
	return append(b, "half"...), errors.New("will not")
}
func (*failing) UnmarshalBinary([]byte) error { return errors.New("will not either") }

type shrinking struct{}

func (shrinking) AppendBinary(b []byte) ([]byte, error) { return b[:0], nil }
func (*shrinking) UnmarshalBinary([]byte) error         { return nil }

// Errors say where.
func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	type record struct {
		A string
		B bool
	}
	err := codec.Must(codec.For[record]()).Decode([]byte("\x03abc\x07"), new(record))
	if want := "codec: malformed input: codec_test.record: byte 4 of 5: bool is neither 0 nor 1"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := codec.Must(codec.For[failing]()).Decode(nil, new(failing)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("error of UnmarshalBinary: %v", err)
	}
	if err := codec.Must(codec.For[[]failing]()).Decode([]byte{1, 0}, new([]failing)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("error of UnmarshalBinary in a slice: %v", err)
	}
}

// -0 and +0 are one map key, so they have one encoding in it.
func TestNegativeZeroKey(t *testing.T) {
	t.Parallel()
	c := codec.Must(codec.For[map[float64]bool]())
	plus, err1 := c.Append(nil, &map[float64]bool{0: true})
	minus, err2 := c.Append(nil, &map[float64]bool{math.Copysign(0, -1): true})
	if err1 != nil || err2 != nil || string(plus) != string(minus) {
		t.Errorf("%x, %v and %x, %v", plus, err1, minus, err2)
	}
}
