package codec

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// The functions below read values through pointers at known offsets, which is several times faster than package
// reflect. A pointer is only ever moved within the value it points to, and always keeps that value alive.

// append encodes the value at p.
func (c *program) append(dst []byte, p unsafe.Pointer) ([]byte, error) {
	out, err := appendSteps(dst, c.steps, p, MaxDepth)
	if err != nil {
		return dst, fmt.Errorf("%w: %v: %w", ErrValue, c.typ, err)
	}
	return out, nil
}

// appendSteps encodes what lies at base. Depth is how many more levels of pointers, slices, maps and unions may follow.
func appendSteps(dst []byte, steps []step, base unsafe.Pointer, depth int) ([]byte, error) {
	for i := range steps {
		s := &steps[i]
		p := unsafe.Add(base, s.offset)
		switch s.kind {
		case kBool:
			b := byte(0)
			if *(*bool)(p) {
				b = 1
			}
			dst = append(dst, b)
		case kU8, kI8:
			dst = append(dst, *(*byte)(p))
		case kU16:
			dst = appendUvarint(dst, uint64(*(*uint16)(p)))
		case kU32:
			dst = appendUvarint(dst, uint64(*(*uint32)(p)))
		case kU64:
			dst = appendUvarint(dst, *(*uint64)(p))
		case kUint:
			dst = appendUvarint(dst, uint64(*(*uint)(p)))
		case kI16:
			dst = appendUvarint(dst, zigzag(int64(*(*int16)(p))))
		case kI32:
			dst = appendUvarint(dst, zigzag(int64(*(*int32)(p))))
		case kI64:
			dst = appendUvarint(dst, zigzag(*(*int64)(p)))
		case kInt:
			dst = appendUvarint(dst, zigzag(int64(*(*int)(p))))
		case kF32:
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(*(*float32)(p)))
		case kF64:
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(*(*float64)(p)))
		case kString:
			v := *(*string)(p)
			if !validString(v) {
				return dst, errUTF8
			}
			dst = appendUvarint(dst, uint64(len(v)))
			dst = append(dst, v...)
		case kBytes:
			v := *(*[]byte)(p)
			dst = appendUvarint(dst, uint64(len(v)))
			dst = append(dst, v...)
		case kRaw:
			dst = append(dst, unsafe.Slice((*byte)(p), s.shape.len)...)
		default:
			var err error
			if dst, err = appendComposite(dst, s, p, depth); err != nil {
				return dst, err
			}
		}
	}
	return dst, nil
}

func appendComposite(dst []byte, s *step, p unsafe.Pointer, depth int) ([]byte, error) {
	switch s.kind {
	case kF32Key, kF64Key:
		return appendFloatKey(dst, s.kind, p)
	case kTime:
		t := (*time.Time)(p)
		dst = appendUvarint(dst, zigzag(t.Unix()))
		return appendUvarint(dst, uint64(t.Nanosecond())), nil
	case kArray:
		return appendElems(dst, s.shape.elem, p, s.shape.len, depth)
	case kBinary:
		return appendPrefixed(dst, s.shape.typ, p)
	case kProto:
		return appendProto(dst, s.shape.typ, p)
	}
	if depth == 0 {
		return dst, errDepth
	}
	switch s.kind {
	case kOption:
		elem := *(*unsafe.Pointer)(p)
		if elem == nil {
			return append(dst, 0), nil
		}
		return appendSteps(append(dst, 1), s.shape.elem.steps, elem, depth-1)
	case kSlice:
		v := (*sliceHeader)(p)
		dst = appendUvarint(dst, uint64(v.len))
		if s.shape.elem.min == 0 {
			if v.len > maxEmpty {
				return dst, errEmpty
			}
			return dst, nil
		}
		return appendElems(dst, s.shape.elem, v.data, v.len, depth-1)
	case kMap:
		return appendMap(dst, s.shape, p, depth-1)
	case kUnion:
		return appendUnion(dst, s.shape, p, depth-1)
	default:
		return dst, fmt.Errorf("kind %d has no encoder", s.kind)
	}
}

// sliceHeader is how Go lays out a slice of any type.
type sliceHeader struct {
	data     unsafe.Pointer
	len, cap int
}

func appendElems(dst []byte, elem *shape, p unsafe.Pointer, n, depth int) (_ []byte, err error) {
	size := elem.typ.Size()
	for i := range n {
		if dst, err = appendSteps(dst, elem.steps, unsafe.Add(p, uintptr(i)*size), depth); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// appendFloatKey encodes a float in a map key. Keys that are equal must have the same bytes, so -0 is written as +0;
// NaN equals no key, not even itself, so it cannot be found again and is refused.
func appendFloatKey(dst []byte, k kind, p unsafe.Pointer) ([]byte, error) {
	var f float64
	if k == kF32Key {
		f = float64(*(*float32)(p))
	} else {
		f = *(*float64)(p)
	}
	switch {
	case f != f:
		return dst, errNaN
	case f == 0:
		f = 0 // not -0
	}
	if k == kF32Key {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f))), nil
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), nil
}

// appendPrefixed encodes a value by its own methods, with the length in front.
func appendPrefixed(dst []byte, t reflect.Type, p unsafe.Pointer) ([]byte, error) {
	start := len(dst)
	out, err := appendOwn(dst, reflect.NewAt(t, p).Interface())
	if err != nil {
		return dst, err
	}
	return prefix(out, start), nil
}

// appendOwn calls the methods of v, a pointer.
func appendOwn(dst []byte, v any) ([]byte, error) {
	a, ok := v.(encoding.BinaryAppender)
	if !ok {
		raw, err := v.(encoding.BinaryMarshaler).MarshalBinary()
		return append(dst, raw...), err
	}
	out, err := a.AppendBinary(dst)
	if err == nil && len(out) < len(dst) {
		return dst, fmt.Errorf("AppendBinary of %T took bytes away", v)
	}
	return out, err
}

func appendProto(dst []byte, t reflect.Type, p unsafe.Pointer) ([]byte, error) {
	start := len(dst)
	out, err := marshalProto.MarshalAppend(dst, reflect.NewAt(t, p).Interface().(proto.Message))
	if err != nil {
		return dst, err
	}
	return prefix(out, start), nil
}

// prefix puts the length of buf[start:] in front of it.
func prefix(buf []byte, start int) []byte {
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(len(buf)-start))
	return slices.Insert(buf, start, head[:n]...)
}

func appendUvarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return binary.AppendUvarint(dst, v)
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// validString reports whether s is UTF-8. Most strings are short and ASCII, and quicker looked at here.
func validString(s string) bool {
	if len(s) > 32 {
		return utf8.ValidString(s)
	}
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return utf8.ValidString(s)
		}
	}
	return true
}
