package codec

import (
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// CBOR's library drops without a word what it cannot encode, so types are looked at before the first value is.

var (
	marshalCBOR = method{"MarshalCBOR", reflect.TypeFor[cbor.Marshaler](),
		func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("MarshalCBOR") }}
	unmarshalCBOR = method{"UnmarshalCBOR", reflect.TypeFor[cbor.Unmarshaler](),
		func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("UnmarshalCBOR") }}

	// cborKnown are types that the library knows by name.
	cborKnown = map[reflect.Type]bool{
		timeType: true, reflect.TypeFor[big.Int](): true, reflect.TypeFor[cbor.Tag](): true,
		reflect.TypeFor[cbor.RawTag](): true, reflect.TypeFor[cbor.RawMessage](): true,
		reflect.TypeFor[cbor.ByteString](): true, reflect.TypeFor[cbor.SimpleValue](): true,
	}
)

// cborTypes walks over a type.
type cborTypes struct {
	done   map[reflect.Type]bool
	within map[reflect.Type]bool // types that are being looked at
	deep   bool                  // values of the type can be nested without end
}

func (c *cborTypes) check(t reflect.Type, path string) error {
	if c.within[t] {
		c.deep = true
	}
	if c.done[t] {
		return nil
	}
	c.done[t], c.within[t] = true, true
	defer delete(c.within, t)
	switch own, err := ownCBOR(t); {
	case err != nil:
		return refuse(path, "%w", err)
	case own || cborKnown[t]:
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return c.checkStruct(t, path, map[string]string{})
	case reflect.Map:
		if t.Key().Kind() == reflect.Pointer {
			return refuse(path, "%v is no map key: == compares addresses", t.Key())
		}
		if err := c.check(t.Key(), path+"[key]"); err != nil {
			return err
		}
		return c.check(t.Elem(), path+"[]")
	case reflect.Slice, reflect.Array:
		return c.check(t.Elem(), path+"[]")
	case reflect.Pointer:
		return c.check(t.Elem(), path)
	case reflect.Interface:
		c.deep = true
		if t.NumMethod() > 0 {
			return refuse(path, "interface %v cannot be decoded; For with WithUnion can", t)
		}
		return nil
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Uintptr:
		return refuse(path, "%v has no encoding", t)
	default:
		return nil
	}
}

// checkStruct looks at the fields, and at those of embedded structs, which are encoded as if they were t's own.
func (c *cborTypes) checkStruct(t reflect.Type, path string, names map[string]string) error {
	for f := range t.Fields() {
		at := join(path, f.Name)
		name, named := cborName(f)
		if name == "-" || f.Name == "_" {
			continue
		}
		inner := f.Type
		if f.Anonymous && inner.Kind() == reflect.Pointer {
			if inner = inner.Elem(); !f.IsExported() {
				return refuse(at, "is a pointer to an unexported struct and cannot be decoded")
			}
		}
		if own, _ := ownCBOR(inner); f.Anonymous && !named && inner.Kind() == reflect.Struct && !own && !cborKnown[inner] {
			if c.within[inner] {
				return refuse(at, "embeds %v in itself", inner)
			}
			c.within[inner] = true
			err := c.checkStruct(inner, at, names)
			delete(c.within, inner)
			if err != nil {
				return err
			}
			continue
		}
		if !f.IsExported() {
			return refuse(at, "is not exported; export it, or leave it out with the tag `cbor:\"-\"`")
		}
		if other, ok := names[name]; ok {
			return refuse(at, "has the same name %q as %s, and both would be dropped", name, other)
		}
		names[name] = at
		if err := c.check(f.Type, at); err != nil {
			return err
		}
	}
	return nil
}

// cborName returns the name that a field has in CBOR, and whether its tag says so.
func cborName(f reflect.StructField) (string, bool) {
	tag, ok := f.Tag.Lookup("cbor")
	if !ok {
		tag = f.Tag.Get("json")
	}
	if tag == "-" || f.Tag.Get("mosaik") == "-" && !f.IsExported() {
		return "-", true
	}
	if name, _, _ := strings.Cut(tag, ","); name != "" {
		return name, true
	}
	return f.Name, false
}

// ownCBOR reports whether a type encodes and decodes itself.
func ownCBOR(t reflect.Type) (bool, error) {
	if cborKnown[t] || t.Kind() == reflect.Interface {
		return false, nil
	}
	for _, pair := range [][2]method{{marshalCBOR, unmarshalCBOR}, {marshalBinary, unmarshalBinary}} {
		encodes, decodes := pair[0].has(t), pair[1].has(t)
		if !encodes && !decodes {
			continue
		}
		if encodes && decodes {
			return true, notPromoted(t, pair[:]...)
		}
		if encodes {
			return true, fmt.Errorf("%v has %s and no %s", t, pair[0].name, pair[1].name)
		}
		return true, fmt.Errorf("%v has %s and no %s", t, pair[1].name, pair[0].name)
	}
	return false, nil
}

// checkNesting walks over a value and returns an error if it is nested deeper than is decoded again, or cyclic. Levels
// counts arrays, maps and structs; hops counts the pointers and interfaces between two of them.
func checkNesting(v reflect.Value, levels, hops int) error {
	if levels > MaxDepth || hops > MaxDepth {
		return errDepth
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return checkNesting(v.Elem(), levels, hops+1)
	case reflect.Struct:
		if t := v.Type(); cborKnown[t] || marshalCBOR.has(t) || marshalBinary.has(t) {
			return nil
		}
		for i := range v.NumField() {
			if err := checkNesting(v.Field(i), levels+1, 0); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() <= reflect.Complex128 {
			return nil
		}
		for i := range v.Len() {
			if err := checkNesting(v.Index(i), levels+1, 0); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := checkNesting(it.Key(), levels+1, 0); err != nil {
				return err
			}
			if err := checkNesting(it.Value(), levels+1, 0); err != nil {
				return err
			}
		}
	}
	return nil
}
