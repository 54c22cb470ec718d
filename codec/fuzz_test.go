package codec_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/codec"
)

// canonical returns a check that what a codec accepts is what it writes.
func canonical[T any](c codec.Codec[T]) func(*testing.T, []byte) {
	return func(t *testing.T, src []byte) {
		var v T
		if c.Decode(src, &v) != nil {
			return
		}
		if again, err := c.Append(nil, &v); err != nil || !bytes.Equal(again, src) {
			t.Fatalf("%T: %x is accepted as %+v, which is encoded as %x, %v", v, src, v, again, err)
		}
	}
}

// Any bytes are either refused or the only encoding of a value, of whatever type they are taken for.
func FuzzDecode(f *testing.F) {
	u := codec.WithUnion(shapes()...)
	checks := []func(*testing.T, []byte){
		canonical(codec.Must(codec.For[mixed](u))),
		canonical(codec.Must(codec.For[everything]())),
		canonical(codec.Must(codec.For[[]drawing](u))),
		canonical(codec.Must(codec.For[shape](u))),
		canonical(codec.Must(codec.For[expr](language()...))),
		canonical(codec.Must(codec.For[tree]())),
		canonical(codec.Must(codec.For[dictionary]())),
		canonical(codec.Must(codec.For[map[float64]map[[2]string]*time.Time]())),
		canonical(codec.Must(codec.For[[]map[int16]bool]())),
		canonical(codec.Must(codec.For[string]())),
		canonical(codec.Must(codec.For[[]uint64]())),
	}
	v := mixedValue()
	raw, err := codec.Must(codec.For[mixed](u)).Append(nil, &v)
	if err != nil {
		f.Fatal(err)
	}
	for i := range checks {
		f.Add(byte(i), raw)
	}
	f.Add(byte(1), []byte("\x01\xc8\xac\x02\xf0\xa2\x04\x80\x80\x80\x80\x80\x20\xfe\xd7\x04"))
	f.Add(byte(3), []byte("\x04\x03\x00\x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(byte(6), []byte("\x02\x01a\x00\x01b\x01\x00\x00"))
	f.Add(byte(8), []byte("\x01\x03\x01\x00\x02\x01\x80\x01\x00"))
	f.Add(byte(10), bytes.Repeat([]byte{0xff}, 12))
	f.Fuzz(func(t *testing.T, which byte, src []byte) { checks[int(which)%len(checks)](t, src) })
}

// Any value comes back.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(0), int64(0), 0.0, "", []byte(nil), true, uint32(0))
	f.Add(uint64(math.MaxUint64), int64(math.MinInt64), math.Inf(1), "héllo", []byte{0, 255}, false, uint32(999_999_999))
	f.Add(uint64(128), int64(-65), math.Copysign(0, -1), "\xff", []byte("x"), true, uint32(128))
	type value struct {
		A uint64
		B int64
		C float64
		D string
		E []byte
		F bool
		G uint32
		H time.Time
		I *string
		J map[string]int64
		K []float64
		L shape
		M [2]uint16
		N map[int32]*bool
	}
	c := codec.Must(codec.For[value](codec.WithUnion(shapes()...)))
	f.Fuzz(func(t *testing.T, a uint64, b int64, x float64, d string, e []byte, flag bool, g uint32) {
		v := value{A: a, B: b, C: x, D: d, E: e, F: flag, G: g, H: time.Unix(b, int64(g%1e9)).UTC(), M: [2]uint16{uint16(a), uint16(g)},
			N: map[int32]*bool{int32(b): nil, int32(g): &flag}}
		if flag {
			v.I, v.J, v.K = &d, map[string]int64{d: b, "": int64(g)}, []float64{x, float64(a)}
		}
		switch g % 5 {
		case 0:
			v.L = nothing{}
		case 1:
			v.L = circle(x)
		case 2:
			v.L = &square{g, d}
		case 3:
			v.L = segment{point{int32(a), int32(b)}, point{}}
		default:
			v.L = group{group(nil), circle(x)}
		}
		raw, err := c.Append(nil, &v)
		if err != nil {
			return // not UTF-8
		}
		var back value
		if err := c.Decode(raw, &back); err != nil {
			t.Fatalf("%+v: %v", v, err)
		}
		again, err := c.Append(nil, &back)
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%+v came back as %+v, %v", v, back, err)
		}
		if len(v.E) == 0 {
			v.E = nil
		}
		if x == x && !same(back, v) {
			t.Fatalf("%+v came back as %+v", v, back)
		}
	})
}

// CBOR reads foreign encodings too, but what it writes it reads back to the same bytes.
func FuzzCBOR(f *testing.F) {
	c := codec.Must(codec.CBOR[account]())
	v := account{"x", -3, map[string]string{"b": "2", "a": "1"}, time.Unix(1, 2).UTC()}
	raw, err := c.Append(nil, &v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("\xa1dname\x61x"))
	f.Fuzz(func(t *testing.T, src []byte) {
		var v, back account
		if c.Decode(src, &v) != nil {
			return
		}
		raw, err := c.Append(nil, &v)
		if err != nil {
			return // a year that RFC 3339 cannot say
		}
		if err := c.Decode(raw, &back); err != nil {
			t.Fatalf("%x is read as %+v, written as %x and not read: %v", src, v, raw, err)
		}
		if again, err := c.Append(nil, &back); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%x and %x, %v", raw, again, err)
		}
	})
}
