package codec

import (
	"fmt"
	"reflect"
)

// program encodes and decodes the values of one type.
type program struct {
	typ         reflect.Type
	steps       []step
	anyOrder    bool
	description string
	fingerprint [32]byte
}

// step encodes or decodes the part of a value that lies at an offset. Structs within structs are flattened into the
// steps of the outermost, so most steps are numbers and strings, and a struct costs one pass over a slice.
type step struct {
	kind   kind
	offset uintptr
	shape  *shape
}

// compile builds the program for a type.
func compile(t reflect.Type, cfg config) (*program, error) {
	b := shapes{cfg: cfg, done: map[shapeKey]*shape{}}
	root, err := b.of(t, false, "")
	if err != nil {
		return nil, fmt.Errorf("%w %v: %w", ErrType, t, err)
	}
	for _, s := range b.done {
		s.min = s.minimum()
		s.steps = s.flatten(0, nil)
	}
	for _, s := range b.done {
		if part := s.inflates(); part != nil {
			return nil, fmt.Errorf("%w %v: %v in %v takes %d bytes of memory and can be encoded in %d, more than %d times less",
				ErrType, t, part.typ, s.typ, part.typ.Size(), part.min, maxInflation)
		}
	}
	p := &program{typ: t, steps: root.steps, anyOrder: cfg.anyOrder}
	p.description = describe(root)
	p.fingerprint = fingerprint(p.description)
	return p, nil
}

// maxInflation is how many bytes of memory a byte of input may make Decode take. Strings, lists and pointers stay below
// 25; only fields that are left out can take much memory and no bytes.
const maxInflation = 1024

// inflates returns the part of s for which Decode would take too much memory, or nil.
func (s *shape) inflates() *shape {
	var parts []*shape
	frame := 0 // bytes that come with each part
	switch s.kind {
	case kSlice, kMap:
		parts = []*shape{s.elem}
	case kOption:
		parts, frame = []*shape{s.elem}, 1
	case kUnion:
		frame = 1
		for _, c := range s.cases {
			parts = append(parts, c.payload)
		}
	}
	if s.kind == kMap {
		frame = s.key.min // keys have no fields that are left out
	}
	for _, p := range parts {
		if p.typ.Size() > uintptr(frame+p.min)*maxInflation {
			return p
		}
	}
	return nil
}

// flatten appends the steps for a value at an offset; none if it has no bytes. It ends, because no Go type is a part of
// itself by value.
func (s *shape) flatten(offset uintptr, out []step) []step {
	if s.minimum() == 0 {
		return out
	}
	if s.kind != kStruct {
		return append(out, step{s.kind, offset, s})
	}
	for _, f := range s.fields {
		out = f.shape.flatten(offset+f.offset, out)
	}
	return out
}

// minimum returns the fewest bytes that an encoding takes.
func (s *shape) minimum() int {
	switch s.kind {
	case kF32, kF32Key:
		return 4
	case kF64, kF64Key:
		return 8
	case kTime:
		return 2
	case kRaw:
		return s.len
	case kArray:
		return s.len * s.elem.minimum()
	case kStruct:
		n := 0
		for _, f := range s.fields {
			n += f.shape.minimum()
		}
		return n
	default:
		return 1
	}
}
