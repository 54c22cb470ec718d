package codec

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// The tests in this file draw types as well as values, so that every kind stands within every other.

var scalarTypes = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](), timeType,
	reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64](), reflect.TypeFor[uint](),
	reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64](), reflect.TypeFor[int](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[struct{}](),
}

func isKeyType(t reflect.Type) bool { return t.Comparable() && t != timeType }

// drawType draws a type, with at most so many levels in it.
func drawType(t *rapid.T, levels int, key bool) reflect.Type {
	kinds := []reflect.Kind{reflect.Bool, reflect.Struct, reflect.Array}
	if !key {
		kinds = append(kinds, reflect.Slice, reflect.Map, reflect.Pointer)
	}
	kind := reflect.Bool
	if levels > 0 {
		kind = rapid.SampledFrom(kinds).Draw(t, "kind")
	}
	switch kind {
	case reflect.Struct:
		fields := make([]reflect.StructField, rapid.IntRange(0, 4).Draw(t, "fields"))
		for i := range fields {
			fields[i] = reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: drawType(t, levels-1, key)}
		}
		return reflect.StructOf(fields)
	case reflect.Array:
		return reflect.ArrayOf(rapid.IntRange(0, 3).Draw(t, "length"), drawType(t, levels-1, key))
	case reflect.Slice:
		return reflect.SliceOf(drawType(t, levels-1, false))
	case reflect.Map:
		return reflect.MapOf(drawType(t, min(1, levels-1), true), drawType(t, levels-1, false))
	case reflect.Pointer:
		return reflect.PointerTo(drawType(t, levels-1, false))
	default:
		return rapid.SampledFrom(scalarTypes).Filter(func(t reflect.Type) bool { return !key || isKeyType(t) }).Draw(t, "scalar")
	}
}

// drawValue fills a variable. It draws neither empty lists, which come back as nil, nor NaN, which is not equal to itself.
func drawValue(t *rapid.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "string"))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(rapid.Uint64Max(1<<v.Type().Bits()-1).Draw(t, "uint"))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		limit := int64(1) << (v.Type().Bits() - 1)
		v.SetInt(rapid.Int64Range(-limit, limit-1).Draw(t, "int"))
	case reflect.Float32:
		v.SetFloat(float64(rapid.Float32().Filter(func(f float32) bool { return f == f }).Draw(t, "float")))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Filter(func(f float64) bool { return f == f }).Draw(t, "float"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			drawValue(t, v.Elem())
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 4).Draw(t, "elements"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				drawValue(t, v.Index(i))
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			drawValue(t, v.Index(i))
		}
	case reflect.Map:
		if n := rapid.IntRange(0, 4).Draw(t, "entries"); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				drawValue(t, key)
				drawValue(t, value)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		if v.Type() == timeType {
			seconds, nanos := rapid.Int64().Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds")
			v.Set(reflect.ValueOf(time.Unix(seconds, nanos).UTC()))
			return
		}
		for i := range v.NumField() {
			drawValue(t, v.Field(i))
		}
	default:
		t.Fatalf("no values for %v", v.Type())
	}
}

// drawProgram draws a type and compiles it.
func drawProgram(t *rapid.T) *program {
	p, err := compile(drawType(t, 4, false), config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// decoded returns a new variable with the value that src encodes.
func (c *program) decoded(src []byte) (reflect.Value, error) {
	v := reflect.New(c.typ)
	return v, c.decode(src, v.UnsafePointer())
}

// A value comes back as it was, from bytes that are its only encoding and do not depend on the order of a map.
func roundTripProperty(t *rapid.T) {
	p := drawProgram(t)
	v := reflect.New(p.typ)
	drawValue(t, v.Elem())
	raw, err := p.append(nil, v.UnsafePointer())
	if err != nil {
		t.Fatalf("encode %v: %v", p.typ, err)
	}
	back, err := p.decoded(raw)
	if err != nil || !reflect.DeepEqual(back.Interface(), v.Interface()) {
		t.Fatalf("%v: %+v came back as %+v, %v", p.typ, v.Elem(), back.Elem(), err)
	}
	if again, err := p.append([]byte("x"), back.UnsafePointer()); err != nil || !bytes.Equal(again[1:], raw) {
		t.Fatalf("%v: encoded as %x, and what that decodes to as %x, %v", p.typ, raw, again, err)
	}
	if len(raw) > 0 {
		if _, err := p.decoded(raw[:rapid.IntRange(0, len(raw)-1).Draw(t, "cut")]); err == nil {
			t.Fatalf("%v: a part of %x is accepted", p.typ, raw)
		}
	}
	if _, err := p.decoded(append(raw, 0)); err == nil {
		t.Fatalf("%v: %x is accepted with a byte more", p.typ, raw)
	}
}

// What is accepted at all is the encoding of what it decodes to.
func canonicalProperty(t *rapid.T) {
	p := drawProgram(t)
	v := reflect.New(p.typ)
	drawValue(t, v.Elem())
	raw, err := p.append(nil, v.UnsafePointer())
	if err != nil {
		t.Fatalf("encode %v: %v", p.typ, err)
	}
	for range rapid.IntRange(1, 3).Draw(t, "changes") {
		at := rapid.IntRange(0, len(raw)).Draw(t, "at")
		switch rest := bytes.Clone(raw[at:]); rapid.IntRange(0, 2).Draw(t, "change") {
		case 0: // insert
			raw = append(append(raw[:at:at], rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "bytes")...), rest...)
		case 1: // remove
			raw = append(raw[:at:at], rest[min(len(rest), rapid.IntRange(0, 4).Draw(t, "removed")):]...)
		case 2: // replace
			if at < len(raw) {
				raw[at] = rapid.Byte().Draw(t, "byte")
			}
		}
	}
	back, err := p.decoded(raw)
	if err != nil {
		return
	}
	if again, err := p.append(nil, back.UnsafePointer()); err != nil || !bytes.Equal(again, raw) {
		t.Fatalf("%v: %x is accepted as %+v, which is encoded as %x, %v", p.typ, raw, back.Elem(), again, err)
	}
}

func TestRandomRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, roundTripProperty)
}

func TestRandomCanonical(t *testing.T) {
	t.Parallel()
	rapid.Check(t, canonicalProperty)
}

func FuzzRandomRoundTrip(f *testing.F) { f.Fuzz(rapid.MakeFuzz(roundTripProperty)) }

func FuzzRandomCanonical(f *testing.F) { f.Fuzz(rapid.MakeFuzz(canonicalProperty)) }

// The bytes of a value are the same wherever the value is, also in the layout of slices and strings that is taken for
// granted.
func TestLayout(t *testing.T) {
	t.Parallel()
	s := make([]uint64, 3, 5)
	h := (*sliceHeader)(unsafe.Pointer(&s))
	if h.data != unsafe.Pointer(&s[0]) || h.len != 3 || h.cap != 5 || unsafe.Sizeof(*h) != unsafe.Sizeof(s) {
		t.Errorf("a slice is laid out as %+v", *h)
	}
	m := map[int]int{1: 2}
	if *(*unsafe.Pointer)(unsafe.Pointer(&m)) != reflect.ValueOf(m).UnsafePointer() || unsafe.Sizeof(m) != unsafe.Sizeof(h) {
		t.Error("a map is no pointer")
	}
	type inner struct{ V *int }
	var i any = &inner{new(7)}
	p := Member[any, *inner](0).borrow(unsafe.Pointer(&i))
	if (*inner)(p).V != i.(*inner).V {
		t.Error("the payload of a pointer is not what it points to")
	}
}
