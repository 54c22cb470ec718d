package codec_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/codec"
)

// allocated returns how many bytes f takes from the heap. Tests that use it cannot run in parallel with others.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// claim is the start of something that has n elements, if one believes it.
func claim(n uint64, rest ...byte) []byte { return append(binary.AppendUvarint(nil, n), rest...) }

type wide struct {
	Name   string
	Fields [62]string
}

func hostile[T any](t *testing.T, name string, src []byte, c codec.Codec[T]) {
	t.Helper()
	c.Decode(src, new(T)) // scratch space that stays
	var err error
	if n, limit := allocated(func() { err = c.Decode(src, new(T)) }), uint64(64<<10+100*len(src)); n > limit || err == nil {
		t.Errorf("%s: %d bytes of input took %d bytes of memory (limit %d) and gave error %v", name, len(src), n, limit, err)
	}
}

// What an input claims is checked before memory is taken for it.
func TestHostileLengths(t *testing.T) {
	const gib = 1 << 30
	hostile(t, "1 GiB of bytes", claim(gib), codec.Must(codec.For[[]byte]()))
	hostile(t, "1 GiB of text", claim(gib), codec.Must(codec.For[string]()))
	hostile(t, "2^30 numbers", claim(gib, 1, 2, 3), codec.Must(codec.For[[]int64]()))
	hostile(t, "2^63 numbers", claim(1<<63, 1, 2, 3), codec.Must(codec.For[[]int64]()))
	hostile(t, "2^64-1 numbers", claim(1<<64-1), codec.Must(codec.For[[]int64]()))
	hostile(t, "2^63 bytes", claim(1<<63), codec.Must(codec.For[[]byte]()))
	hostile(t, "2^62 nothings", claim(1<<62), codec.Must(codec.For[[]struct{}]()))
	hostile(t, "2^30 map entries", claim(gib, 1, 2, 3), codec.Must(codec.For[map[uint64]uint64]()))
	hostile(t, "2^30 map entries", claim(gib, 1, 2, 3), codec.Must(codec.For[map[string]struct{}]()))
	hostile(t, "2^30 wide structs", claim(gib, make([]byte, 100)...), codec.Must(codec.For[[]wide]()))
	hostile(t, "a pointer to 8 MiB", []byte{1, 0, 0}, codec.Must(codec.For[*[1 << 20]uint64]()))
	hostile(t, "2^30 pointers to 8 MiB", claim(gib, bytes.Repeat([]byte{1}, 100)...), codec.Must(codec.For[[]*[1 << 20]uint64]()))
	hostile(t, "bytes of a nested type", claim(gib), codec.Must(codec.For[struct{ V overrides }]()))
	hostile(t, "CBOR: 1 GiB of bytes", []byte{0x5a, 0x40, 0, 0, 0}, codec.Must(codec.CBOR[[]byte]()))
	hostile(t, "CBOR: 2^30 numbers", []byte{0x9a, 0x40, 0, 0, 0, 1, 2, 3}, codec.Must(codec.CBOR[[]int64]()))
	hostile(t, "CBOR: 2^30 pairs", []byte{0xba, 0x40, 0, 0, 0, 1, 2, 3}, codec.Must(codec.CBOR[map[int]int]()))
}

// 100 KB that are 100,000 values of 1 KiB in other formats are too few here, because every field takes a byte.
func TestHostileEmptyStructs(t *testing.T) {
	src := claim(100_000, make([]byte, 100_000)...)
	hostile(t, "100 KB of wide structs", src, codec.Must(codec.For[[]wide]()))
}

// Lists within lists cannot each claim the rest of the input.
func TestHostileNestedClaims(t *testing.T) {
	var src []byte
	for range codec.MaxDepth - 1 {
		src = append(src, claim(90_000)...)
	}
	hostile(t, "lists that claim the same bytes", append(src, make([]byte, 100_000)...), codec.Must(codec.For[list]()))
}

func TestDepth(t *testing.T) {
	t.Parallel()
	deepest := list(nil)
	for range codec.MaxDepth - 1 {
		deepest = list{deepest}
	}
	raw := roundTripTop(t, deepest)
	noEncoding(t, list{deepest}, "nested deeper than 32")
	malformed[list](t, strings.Repeat("01", codec.MaxDepth)+"00", "nested deeper than 32")
	if want := strings.Repeat("\x01", codec.MaxDepth-1) + "\x00"; string(raw) != want {
		t.Errorf("encoded as %x", raw)
	}
	malformed[list](t, strings.Repeat("01", 1<<20), "nested deeper than 32")
	malformed[dictionary](t, strings.Repeat("0100", 1<<20), "nested deeper than 32")
	malformed[pointer](t, strings.Repeat("01", 1<<20), "nested deeper than 32")
	malformed[tree](t, strings.Repeat("0000"+"0001", 1<<16), "nested deeper than 32")
	malformed[shape](t, strings.Repeat("0401", 1<<20), "nested deeper than 32", codec.WithUnion(shapes()...))

	// Structs and arrays within each other are as deep as the type, which is no matter of the input.
	type a struct {
		V [1][1][1][1]struct {
			V [1][1][1][1]struct{ V [1][1][1][1]byte }
		}
	}
	type b struct {
		V [1]struct {
			V [1]struct{ V [1]struct{ V a } }
		}
	}
	roundTrip(t, b{})

	cborList := codec.Must(codec.CBOR[list]())
	if err := cborList.Decode(bytes.Repeat([]byte{0x81}, 1<<20), new(list)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("CBOR: deep nesting: %v", err)
	}
}

func roundTripTop[T any](t *testing.T, v T) []byte {
	t.Helper()
	c := codec.Must(codec.For[T]())
	raw, err := c.Append(nil, &v)
	var back T
	if err == nil {
		err = c.Decode(raw, &back)
	}
	if err != nil || !same(back, v) {
		t.Fatalf("%+v came back as %+v, %v", v, back, err)
	}
	return raw
}

// mixed has something of every kind.
type mixed struct {
	Everything everything
	Shapes     []shape
	Trees      []tree
	Sets       map[string]map[uint16]struct{}
	Arrays     [][4]*[]string
	Own        []overrides
}

func mixedValue() mixed {
	return mixed{
		Everything: everything{L: "text", M: []byte("bytes"), Q: []string{"a", "b"}, S: map[string]uint32{"k": 1}, P: new(uint32(3))},
		Shapes:     []shape{circle(1), &square{2, "sq"}, group{nothing{}, segment{point{1, 2}, point{3, 4}}}},
		Trees:      []tree{{Name: "t", Children: []tree{{}, {}}, Index: map[string]tree{"x": {}}, Parent: &tree{}}},
		Sets:       map[string]map[uint16]struct{}{"": nil, "s": {1: {}, 300: {}}},
		Arrays:     [][4]*[]string{{nil, new([]string{"q", "r"}), nil, nil}},
		Own:        []overrides{{X: 1}, {X: 2}},
	}
}

// Memory stays in proportion to the input, whatever the input is.
func TestAllocationBound(t *testing.T) {
	c := codec.Must(codec.For[[]mixed](codec.WithUnion(shapes()...)))
	v := []mixed{mixedValue(), mixedValue(), mixedValue(), mixedValue()}
	good, err := c.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	const (
		fixed  = 4 << 10 // the error, scratch space
		factor = 100     // an entry of a map of maps has two bytes, and takes a group of eight
	)
	worst := 0.0
	for range 20_000 {
		src := bytes.Clone(good)
		for range 1 + rng.IntN(8) {
			switch rng.IntN(4) {
			case 0:
				src[rng.IntN(len(src))] = byte(rng.Uint32())
			case 1:
				src[rng.IntN(len(src))] ^= 1 << rng.IntN(8)
			case 2:
				at := rng.IntN(len(src))
				src = append(src[:at:at], append(claim(rng.Uint64()>>rng.IntN(64)), src[at:]...)...)
			case 3:
				at := rng.IntN(len(src))
				src = append(src[:at:at], append(make([]byte, rng.IntN(1000)), src[at:]...)...)
			}
		}
		n := allocated(func() { c.Decode(src, new([]mixed)) })
		worst = max(worst, (float64(n)-fixed)/float64(len(src)))
		if n > fixed+factor*uint64(len(src)) {
			t.Fatalf("%d bytes of input took %d bytes of memory: %x", len(src), n, src)
		}
	}
	t.Logf("at worst %.0f bytes of memory per byte of input, besides %d", worst, fixed)
}

// Append into a buffer with room allocates nothing; Decode allocates what the value holds.
func TestAllocationBudget(t *testing.T) {
	if raceDetector {
		t.Skip("allocations are counted without the race detector")
	}
	budget(t, "number", codec.Must(codec.For[int64]()), 1<<40, 0)
	budget(t, "string", codec.Must(codec.For[string]()), "0123456789abcdef", 1)
	budget(t, "small", codec.Must(codec.For[benchSmall]()), smallValue, 1)
	budget(t, "100 bytes", codec.Must(codec.For[bench100]()), value100, 2)
	budget(t, "1 KiB", codec.Must(codec.For[[]byte]()), make([]byte, 1024), 1)
	budget(t, "numbers", codec.Must(codec.For[[]uint64]()), make([]uint64, 100), 1)
	budget(t, "nested", codec.Must(codec.For[benchNested]()), nestedValue, 17)
	budget(t, "command", commandCodec(t), setCommand, 3)
	budget(t, "CBOR", codec.Must(codec.CBOR[benchSmall]()), smallValue, 1)
	budget(t, "raw", codec.Raw[[]byte](), make([]byte, 1024), 1)
}

func budget[T any](t *testing.T, name string, c codec.Codec[T], v T, decode float64) {
	t.Helper()
	raw, err := c.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 2*len(raw))
	if n := testing.AllocsPerRun(200, func() { c.Append(buf, &v) }); n > 0 {
		t.Errorf("%s: %v allocations to encode", name, n)
	}
	var back T
	n := testing.AllocsPerRun(200, func() {
		back = *new(T)
		c.Decode(raw, &back)
	})
	if n > decode {
		t.Errorf("%s: %v allocations to decode, at most %v", name, n, decode)
	}
}
