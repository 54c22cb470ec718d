package codec_test

import (
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/mosaik-go/mosaik/codec"
)

type account struct {
	Name    string `cbor:"name"`
	Balance int64  `cbor:"balance"`
	Tags    map[string]string
	Since   time.Time
}

func TestCBOR(t *testing.T) {
	t.Parallel()
	c := codec.Must(codec.CBOR[account]())
	if c.Name() != "cbor/1" || c.Fingerprint() != ([32]byte{}) {
		t.Errorf("name %q, fingerprint %x", c.Name(), c.Fingerprint())
	}
	v := account{"x", -3, map[string]string{"b": "2", "a": "1"}, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	raw, err := c.Append([]byte("head"), &v)
	// Keys are sorted by their bytes; the time is text, because 64-bit floats are too short for nanoseconds.
	want := "68656164" + "a4" + "64546167" + "73" + "a2" + "6161" + "6131" + "6162" + "6132" + "646e616d65" + "6178" +
		"6553696e6365" + "c0" + "781e" + hex.EncodeToString([]byte("2026-01-02T03:04:05.000000006Z")) + "6762616c616e6365" + "22"
	if err != nil || hex.EncodeToString(raw) != want {
		t.Fatalf("encoded as %x, %v; want %s", raw, err, want)
	}
	var back account
	if err := c.Decode(raw[4:], &back); err != nil || !same(back, v) {
		t.Errorf("%+v, %v", back, err)
	}
}

// Types may differ: fields that are missing are zero, unknown ones are ignored.
func TestCBORTolerates(t *testing.T) {
	t.Parallel()
	type newer struct {
		Name  string `cbor:"name"`
		Email string
	}
	v := account{Name: "x", Balance: 1}
	raw, err := codec.Must(codec.CBOR[account]()).Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	var n newer
	if err := codec.Must(codec.CBOR[newer]()).Decode(raw, &n); err != nil || n != (newer{Name: "x"}) {
		t.Errorf("%+v, %v", n, err)
	}
	type narrow struct {
		Balance int8 `cbor:"balance"`
	}
	v.Balance = 300
	raw, _ = codec.Must(codec.CBOR[account]()).Append(nil, &v)
	if err := codec.Must(codec.CBOR[narrow]()).Decode(raw, new(narrow)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("300 in an int8: %v", err)
	}
}

func TestCBORMalformed(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"empty":                "",
		"trailing":             "a000",
		"field twice":          "a2646e616d656161646e616d656162",
		"indefinite length":    "bfff",
		"a list":               "80",
		"short":                "a1646e616d65",
		"33 levels":            "a16454616773" + strings.Repeat("81", 33) + "00",
		"a tag on a wrong one": "a16553696e6365c06101",
	} {
		src, _ := hex.DecodeString(raw)
		if err := codec.Must(codec.CBOR[account]()).Decode(src, new(account)); !errors.Is(err, codec.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A name in other letters is another name.
	var v account
	src, _ := hex.DecodeString("a1644e414d456178")
	if err := codec.Must(codec.CBOR[account]()).Decode(src, &v); err != nil || v.Name != "" {
		t.Errorf("other letters: %+v, %v", v, err)
	}
}

// What is encoded is decoded.
func TestCBORRoundTrips(t *testing.T) {
	t.Parallel()
	cborRoundTrip(t, "\xff not UTF-8")
	cborRoundTrip(t, make([]int64, 200_000))
	cborRoundTrip(t, struct{ A [4]byte }{[4]byte{1, 2}})
	cborRoundTrip(t, map[[2]int]string{{1, 2}: "a"})
	cborRoundTrip[any](t, map[any]any{"a": []any{uint64(1), "x", nil, true, 1.5}})
	cborRoundTrip(t, *big.NewInt(1).Lsh(big.NewInt(1), 100))
	cborRoundTrip(t, overridesCBOR{5})
	cborRoundTrip(t, tree{Name: "a", Children: []tree{{Name: "b"}}, Index: map[string]tree{"x": {Name: "y"}}, Parent: &tree{}})
	cborRoundTrip(t, embedding{inner{1, 2}, 3})
	cborRoundTrip(t, struct {
		_ struct{} `cbor:",toarray"`
		A int
		B string
	}{A: 1, B: "x"})
	cborRoundTrip(t, struct {
		A int
		b func() `cbor:"-"`
		c func() `json:"-"`
		d func() `mosaik:"-"`
		E func() `cbor:"-"`
	}{A: 1})
}

type inner struct{ A, B int }

type embedding struct {
	inner
	C int
}

type overridesCBOR struct{ x byte }

func (o overridesCBOR) MarshalCBOR() ([]byte, error) { return []byte{o.x}, nil }
func (o *overridesCBOR) UnmarshalCBOR(b []byte) error {
	o.x = b[0]
	return nil
}

func cborRoundTrip[T any](t *testing.T, v T) {
	t.Helper()
	c, err := codec.CBOR[T]()
	if err != nil {
		t.Errorf("%T: %v", v, err)
		return
	}
	raw, err := c.Append(nil, &v)
	var back T
	if err == nil {
		err = c.Decode(raw, &back)
	}
	if err != nil || !same(back, v) {
		t.Errorf("%T came back as %+v, %v", v, back, err)
	}
}

func cborRefused[T any](t *testing.T, want string) {
	t.Helper()
	c, err := codec.CBOR[T]()
	if c != nil || !errors.Is(err, codec.ErrType) || !strings.Contains(err.Error(), want) {
		t.Errorf("CBOR[%T]: %v, %v; want an error with %q", *new(T), c, err, want)
	}
}

type onlyMarshals struct{ A int }

func (onlyMarshals) MarshalBinary() ([]byte, error) { return nil, nil }

type onlyUnmarshals struct{ A int }

func (*onlyUnmarshals) UnmarshalCBOR([]byte) error { return nil }

type embedsCBOR struct {
	overridesCBOR
	B int
}

// What the library would drop without a word.
func TestCBORRefusedTypes(t *testing.T) {
	t.Parallel()
	cborRefused[chan int](t, "chan int has no encoding")
	cborRefused[[]func()](t, "[]: func() has no encoding")
	cborRefused[struct{ A map[string]*complex128 }](t, "A[]: complex128 has no encoding")
	cborRefused[error](t, "interface error cannot be decoded")
	cborRefused[hidden](t, "hidden: is not exported")
	cborRefused[struct{ H hidden }](t, "H.hidden: is not exported")
	cborRefused[struct{ hidden }](t, "hidden.hidden: is not exported")
	cborRefused[struct{ *inner }](t, "inner: is a pointer to an unexported struct")
	cborRefused[map[*int]int](t, "*int is no map key")
	cborRefused[map[chan int]int](t, "[key]: chan int")
	cborRefused[embedsTime](t, "embedded field Time")
	cborRefused[embedsCBOR](t, "embedded field overridesCBOR")
	cborRefused[onlyMarshals](t, "has MarshalBinary and no UnmarshalBinary")
	cborRefused[onlyUnmarshals](t, "has UnmarshalCBOR and no MarshalCBOR")
	cborRefused[struct {
		inner
		A int
	}](t, "A: has the same name")
	cborRefused[struct {
		A int `cbor:"x"`
		B int `json:"x"`
	}](t, "B: has the same name")
}

func TestCBORCycles(t *testing.T) {
	t.Parallel()
	r := &ring{}
	r.Next = r
	cborNoEncoding(t, r)
	d := dictionary{}
	d["self"] = d
	cborNoEncoding(t, d)
	l := list{nil}
	l[0] = l
	cborNoEncoding(t, l)
	p := new(pointer)
	*p = p
	cborNoEncoding(t, *p)
	m := map[string]any{}
	m["self"] = m
	cborNoEncoding[any](t, m)
	cborNoEncoding[any](t, func() {})
	cborNoEncoding(t, cbor.RawMessage{0xff, 0xff})
}

func cborNoEncoding[T any](t *testing.T, v T) {
	t.Helper()
	out, err := codec.Must(codec.CBOR[T]()).Append([]byte("head"), &v)
	if !errors.Is(err, codec.ErrValue) || string(out) != "head" {
		t.Errorf("%T: %q, %v", v, out, err)
	}
}
