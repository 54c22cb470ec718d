package codec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"
)

// fingerprintDomain keeps fingerprints apart from every other use of BLAKE3 in this module.
const fingerprintDomain = "mosaik-go 2026 codec schema v1"

func fingerprint(description string) (sum [32]byte) {
	h := blake3.NewDeriveKey(fingerprintDomain)
	h.WriteString(description)
	h.Sum(sum[:0])
	return sum
}

// The description of a type is the same for all types that are encoded alike and have the same names in them, however
// the Go types are called and shared:
//
//	bool u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 string time
//	?X             pointer to X
//	[]X [3]X       slice, array
//	map[K]V
//	{a X, b Y}     struct
//	<0 X, 1 Y>     union, with tags
//	binary(name)   bytes made by the type's own methods
//	proto(name)    protobuf message
//	#n             the composite that opened as n-th in this text, from 0: a struct or union that was written before,
//	               or any composite that this place is within
//
// Two types can differ and be encoded alike, and a type can refer to itself. So the shapes are first divided into
// classes: all of one kind and with the same names start in one class, and classes are split until members of a class
// have their parts in the same classes. What is left together cannot be told apart by any encoding.
type classes struct {
	of     map[*shape]int
	opened int         // composites written so far
	number map[int]int // by class, of those that can be referred to
	text   strings.Builder
}

func describe(root *shape) string {
	c := classes{of: map[*shape]int{}, number: map[int]int{}}
	all := reachable(root, nil, map[*shape]bool{})
	for count := 1; ; {
		names := map[string]int{}
		next := make(map[*shape]int, len(all))
		for _, s := range all {
			key := c.key(s)
			if _, ok := names[key]; !ok {
				names[key] = len(names)
			}
			next[s] = names[key]
		}
		c.of = next
		if len(names) == count {
			break
		}
		count = len(names)
	}
	c.write(root)
	return c.text.String()
}

func reachable(s *shape, out []*shape, seen map[*shape]bool) []*shape {
	if seen[s] {
		return out
	}
	seen[s] = true
	out = append(out, s)
	for p := range s.parts() {
		out = reachable(p, out, seen)
	}
	return out
}

// parts yields the shapes that s is made of, in order.
func (s *shape) parts() func(yield func(*shape) bool) {
	return func(yield func(*shape) bool) {
		if s.key != nil && !yield(s.key) || s.elem != nil && !yield(s.elem) {
			return
		}
		for _, f := range s.fields {
			if !yield(f.shape) {
				return
			}
		}
		for _, c := range s.cases {
			if !yield(c.payload) {
				return
			}
		}
	}
}

// key tells shapes apart that are of different kind, or have parts in different classes. The class itself is in it,
// so that classes are only ever split.
func (c *classes) key(s *shape) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %d %s", c.of[s], kindNames[s.kind], s.len, s.name)
	for _, f := range s.fields {
		b.WriteString(" " + f.name)
	}
	for _, m := range s.cases {
		fmt.Fprintf(&b, " %d", m.tag)
	}
	for p := range s.parts() {
		fmt.Fprintf(&b, " %d", c.of[p])
	}
	return b.String()
}

var kindNames = [...]string{
	kBool: "bool", kString: "string", kTime: "time", kBinary: "binary", kProto: "proto",
	kU8: "u8", kU16: "u16", kU32: "u32", kU64: "u64", kUint: "u64",
	kI8: "i8", kI16: "i16", kI32: "i32", kI64: "i64", kInt: "i64",
	kF32: "f32", kF64: "f64", kF32Key: "f32", kF64Key: "f64",
	kOption: "?", kSlice: "[]", kBytes: "[]", kArray: "[n]", kRaw: "[n]", kMap: "map", kStruct: "{}", kUnion: "<>",
}

func (c *classes) write(s *shape) {
	t, class := &c.text, c.of[s]
	if n, ok := c.number[class]; ok {
		t.WriteString("#" + strconv.Itoa(n))
		return
	}
	if s.elem != nil || s.kind == kStruct || s.kind == kUnion {
		c.number[class] = c.opened
		c.opened++
	}
	switch s.kind {
	case kOption:
		t.WriteString("?")
		c.write(s.elem)
	case kSlice, kBytes:
		t.WriteString("[]")
		c.write(s.elem)
	case kArray, kRaw:
		t.WriteString("[" + strconv.Itoa(s.len) + "]")
		c.write(s.elem)
	case kMap:
		t.WriteString("map[")
		c.write(s.key)
		t.WriteString("]")
		c.write(s.elem)
	case kStruct:
		c.writeFields(s)
		return // stays in c.number
	case kUnion:
		c.writeCases(s)
		return
	case kBinary, kProto:
		t.WriteString(kindNames[s.kind] + "(" + s.name + ")")
	default:
		t.WriteString(kindNames[s.kind])
	}
	delete(c.number, class)
}

func (c *classes) writeFields(s *shape) {
	c.text.WriteString("{")
	for i, f := range s.fields {
		if i > 0 {
			c.text.WriteString(", ")
		}
		c.text.WriteString(f.name + " ")
		c.write(f.shape)
	}
	c.text.WriteString("}")
}

func (c *classes) writeCases(s *shape) {
	c.text.WriteString("<")
	for i, m := range s.cases {
		if i > 0 {
			c.text.WriteString(", ")
		}
		c.text.WriteString(strconv.FormatUint(uint64(m.tag), 10) + " ")
		c.write(m.payload)
	}
	c.text.WriteString(">")
}
