package codec_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"unicode/utf8"

	"github.com/mosaik-go/mosaik/codec"
)

// The payloads are those that the formats were compared with before one was chosen.

type benchSmall struct {
	ID    uint64
	Value float64
	Name  string
}

type bench100 struct {
	ID     uint64
	Time   int64
	Price  float64
	Volume float64
	Kind   uint16
	Active bool
	Name   string
	Venue  string
	Hash   [32]byte
}

type benchItem struct {
	Name  string
	Count uint32
	Price float64
}

type benchNested struct {
	ID     uint64
	Labels map[string]string
	Items  []benchItem
	Next   *benchItem
}

type benchCommand interface{ command() }

type benchSet struct {
	Key   string
	Value []byte
}

type benchDelete struct{ Key string }

func (benchSet) command()    {}
func (benchDelete) command() {}

var (
	smallValue = benchSmall{ID: 123456789, Value: 3.25, Name: "temp-001"}
	value100   = bench100{ID: 1 << 40, Time: 1700000000123456789, Price: 101.25, Volume: 3000.5, Kind: 300, Active: true,
		Name: "instrument-12345", Venue: "exchange-7"}
	nestedValue = benchNested{
		ID:     42,
		Labels: map[string]string{"region": "eu", "zone": "a", "rack": "17", "role": "db"},
		Items: []benchItem{{"alpha", 1, 1.5}, {"beta", 200, 2.5}, {"gamma", 30000, 3.5}, {"delta", 4, 4.5},
			{"epsilon", 5, 5.5}},
		Next: &benchItem{"next", 9, 9.5},
	}
	setCommand benchCommand = benchSet{Key: "user/12345678", Value: make([]byte, 32)}
)

func map16() map[string]uint32 {
	m := map[string]uint32{}
	for i := range uint32(16) {
		m[fmt.Sprintf("key-%04d", i*i)] = i
	}
	return m
}

func commandCodec(tb testing.TB) codec.Codec[benchCommand] {
	c, err := codec.Union(codec.Member[benchCommand, benchSet](0), codec.Member[benchCommand, benchDelete](1))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// handWritten does for one type what For does for all, as a yardstick.
type handWritten struct{ codec.Codec[benchSmall] }

func (handWritten) Append(dst []byte, v *benchSmall) ([]byte, error) {
	if !utf8.ValidString(v.Name) {
		return dst, codec.ErrValue
	}
	dst = binary.AppendUvarint(dst, v.ID)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Value))
	dst = binary.AppendUvarint(dst, uint64(len(v.Name)))
	return append(dst, v.Name...), nil
}

func (handWritten) Decode(src []byte, v *benchSmall) error {
	id, n := binary.Uvarint(src)
	if n <= 0 || len(src) < n+8 {
		return codec.ErrMalformed
	}
	v.ID, v.Value = id, math.Float64frombits(binary.LittleEndian.Uint64(src[n:]))
	src = src[n+8:]
	size, n := binary.Uvarint(src)
	if n <= 0 || size != uint64(len(src)-n) || !utf8.Valid(src[n:]) {
		return codec.ErrMalformed
	}
	v.Name = string(src[n:])
	return nil
}

func BenchmarkCodec(b *testing.B) {
	benchmark[benchSmall](b, "small-by-hand", handWritten{}, smallValue)
	benchmark(b, "small", codec.Must(codec.For[benchSmall]()), smallValue)
	benchmark(b, "100B", codec.Must(codec.For[bench100]()), value100)
	benchmark(b, "1KiB", codec.Must(codec.For[[]byte]()), make([]byte, 1024))
	benchmark(b, "64KiB", codec.Must(codec.For[[]byte]()), make([]byte, 64<<10))
	benchmark(b, "nested", codec.Must(codec.For[benchNested]()), nestedValue)
	benchmark(b, "map16", codec.Must(codec.For[map[string]uint32]()), map16())
	benchmark(b, "string16", codec.Must(codec.For[string]()), "0123456789abcdef")
	benchmark(b, "numbers1k", codec.Must(codec.For[[]uint64]()), make([]uint64, 1000))
	benchmark(b, "command", commandCodec(b), setCommand)
	benchmark(b, "small-cbor", codec.Must(codec.CBOR[benchSmall]()), smallValue)
	benchmark(b, "100B-cbor", codec.Must(codec.CBOR[bench100]()), value100)
	benchmark(b, "nested-cbor", codec.Must(codec.CBOR[benchNested]()), nestedValue)
}

func benchmark[T any](b *testing.B, name string, c codec.Codec[T], v T) {
	raw, err := c.Append(nil, &v)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(name+"/encode", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 2*len(raw))
		for b.Loop() {
			if _, err := c.Append(buf, &v); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(raw)), "wire-B")
	})
	b.Run(name+"/decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Decode(raw, new(T)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
