package codec

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// kind says how a value is encoded.
type kind uint8

const (
	kBool kind = iota
	kU8
	kU16
	kU32
	kU64
	kUint
	kI8
	kI16
	kI32
	kI64
	kInt
	kF32
	kF64
	kF32Key // floats in map keys
	kF64Key
	kString
	kBytes // slice of u8 or i8
	kRaw   // array of u8 or i8
	kTime
	kOption
	kSlice
	kArray
	kStruct
	kMap
	kUnion
	kBinary
	kProto
)

// shape is what the codec knows of a Go type. The shapes of a type are a graph, with cycles where the type has some.
type shape struct {
	kind   kind
	typ    reflect.Type
	fields []field  // kStruct
	key    *shape   // kMap
	elem   *shape   // kOption, kSlice, kArray, kMap, kBytes, kRaw
	len    int      // kArray, kRaw: number of elements
	cases  []branch // kUnion
	union  *union   // kUnion
	name   string   // kBinary, kProto: of the format

	min     int       // the fewest bytes that an encoding takes; 0 if none ever takes any
	steps   []step    // encodes and decodes a value of the type at its address
	scratch sync.Pool // kMap: *mapScratch
}

type field struct {
	name   string
	offset uintptr
	shape  *shape
}

// branch is a member of a union and the shape of its payload.
type branch struct {
	*member
	payload *shape
}

// shapes builds the graph. Keys of maps have shapes of their own, because floats are encoded differently in them.
type shapes struct {
	cfg  config
	done map[shapeKey]*shape
}

type shapeKey struct {
	typ reflect.Type
	key bool
}

var timeType = reflect.TypeFor[time.Time]()

var scalars = map[reflect.Kind]kind{
	reflect.Bool: kBool, reflect.String: kString, reflect.Float32: kF32, reflect.Float64: kF64,
	reflect.Uint8: kU8, reflect.Uint16: kU16, reflect.Uint32: kU32, reflect.Uint64: kU64, reflect.Uint: kUint,
	reflect.Int8: kI8, reflect.Int16: kI16, reflect.Int32: kI32, reflect.Int64: kI64, reflect.Int: kInt,
}

// of returns the shape of a type. The path leads to it from the root, for errors.
func (b *shapes) of(t reflect.Type, key bool, path string) (*shape, error) {
	if s, ok := b.done[shapeKey{t, key}]; ok {
		return s, nil
	}
	s := &shape{typ: t}
	b.done[shapeKey{t, key}] = s
	if err := b.fill(s, key, path); err != nil {
		return nil, err
	}
	return s, nil
}

func (b *shapes) fill(s *shape, key bool, path string) error {
	t := s.typ
	if t == timeType {
		if key {
			return refuse(path, "time.Time is no map key: == also compares the location and the monotonic clock")
		}
		s.kind = kTime
		return nil
	}
	switch name, ok, err := messageName(reflect.PointerTo(t)); {
	case err != nil:
		return refuse(path, "%w", err)
	case ok:
		s.kind, s.name = kProto, name
		return nil
	}
	switch own, err := ownBinary(t); {
	case err != nil:
		return refuse(path, "%w", err)
	case own:
		s.kind, s.name = kBinary, t.String()
		return nil
	}
	if k, ok := scalars[t.Kind()]; ok {
		if key && k == kF32 {
			k = kF32Key
		}
		if key && k == kF64 {
			k = kF64Key
		}
		s.kind = k
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		s.kind = kStruct
		return b.fillStruct(s, key, path)
	case reflect.Array:
		return b.fillArray(s, key, path)
	case reflect.Slice:
		return b.fillSlice(s, path)
	case reflect.Map:
		return b.fillMap(s, path)
	case reflect.Pointer:
		if key {
			return refuse(path, "%v is no map key: == compares addresses", t)
		}
		s.kind = kOption
		return b.fillElem(s, key, path)
	case reflect.Interface:
		return b.fillUnion(s, key, path)
	default:
		return refuse(path, "%v has no encoding", t)
	}
}

func (b *shapes) fillElem(s *shape, key bool, path string) (err error) {
	s.elem, err = b.of(s.typ.Elem(), key, path)
	return err
}

func (b *shapes) fillStruct(s *shape, key bool, path string) error {
	names := map[string]string{}
	for f := range s.typ.Fields() {
		name, skip, err := fieldName(f)
		at := join(path, f.Name)
		if err != nil {
			return refuse(at, "%w", err)
		}
		if skip {
			if key && f.Name != "_" {
				return refuse(at, "a field that is left out makes different map keys equal")
			}
			continue
		}
		if other, ok := names[name]; ok {
			return refuse(at, "has the same name as field %s", other)
		}
		names[name] = f.Name
		inner, err := b.of(f.Type, key, at)
		if err != nil {
			return err
		}
		s.fields = append(s.fields, field{name, f.Offset, inner})
	}
	return nil
}

// fieldName reads a field's tag.
func fieldName(f reflect.StructField) (name string, skip bool, err error) {
	tag, tagged := f.Tag.Lookup("mosaik")
	switch {
	case tag == "-" || f.Name == "_":
		return "", true, nil
	case !f.IsExported():
		return "", false, fmt.Errorf("is not exported; export it, or leave it out with the tag `mosaik:\"-\"`")
	case !tagged:
		return f.Name, false, nil
	case tag == "" || strings.ContainsFunc(tag, func(r rune) bool { return !isNameRune(r) }):
		return "", false, fmt.Errorf("tag `mosaik:%q`: a name has letters, digits, _ and - only", tag)
	default:
		return tag, false, nil
	}
}

func isNameRune(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func (b *shapes) fillArray(s *shape, key bool, path string) error {
	s.kind, s.len = kArray, s.typ.Len()
	if err := b.fillElem(s, key, path+"[]"); err != nil {
		return err
	}
	if isByte(s.elem) {
		s.kind = kRaw
	}
	return nil
}

func (b *shapes) fillSlice(s *shape, path string) error {
	s.kind = kSlice
	if err := b.fillElem(s, false, path+"[]"); err != nil {
		return err
	}
	if isByte(s.elem) {
		s.kind = kBytes
	}
	return nil
}

func isByte(s *shape) bool { return s.kind == kU8 || s.kind == kI8 }

func (b *shapes) fillMap(s *shape, path string) (err error) {
	s.kind = kMap
	if s.key, err = b.of(s.typ.Key(), true, path+"[key]"); err != nil {
		return err
	}
	return b.fillElem(s, false, path+"[]")
}

func (b *shapes) fillUnion(s *shape, key bool, path string) error {
	u, ok := b.cfg.unions[s.typ]
	if !ok {
		return refuse(path, "interface %v has no encoding; list its members with WithUnion", s.typ)
	}
	if key {
		return refuse(path, "interface %v is no map key", s.typ)
	}
	s.kind, s.union = kUnion, u
	for i := range u.members {
		m := &u.members[i]
		payload, err := b.of(m.payload, false, fmt.Sprintf("%s.(%v)", path, m.typ))
		if err != nil {
			return err
		}
		s.cases = append(s.cases, branch{m, payload})
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// refuse says what is wrong with which part of a type.
func refuse(path, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if path == "" {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}
