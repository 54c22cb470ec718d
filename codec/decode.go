package codec

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// maxEmpty is how many elements a slice may have whose elements take neither memory nor bytes.
const maxEmpty = math.MaxInt32

var (
	errUTF8     = errors.New("string is not UTF-8")
	errDepth    = fmt.Errorf("nested deeper than %d", MaxDepth)
	errEmpty    = fmt.Errorf("more than %d elements without bytes", maxEmpty)
	errNaN      = errors.New("NaN is no map key")
	errShort    = errors.New("input ends early")
	errTrailing = errors.New("bytes are left over")
	errVarint   = errors.New("varint is longer than needed")
	errRange    = errors.New("number is too large for its type")
	errBool     = errors.New("bool is neither 0 nor 1")
	errOption   = errors.New("option is neither 0 nor 1")
	errNanos    = errors.New("time has more than 999999999 nanoseconds")
	errZero     = errors.New("-0 is no map key")
	errOrder    = errors.New("map keys do not ascend")
	errTwice    = errors.New("map has a key twice")
	errTag      = errors.New("union has no member with this tag")
)

// reader is the input and how much of it was read.
type reader struct {
	buf []byte
	pos int
	// promised is how many bytes the elements will take at least that were counted and not yet read. Lists within
	// lists cannot claim the same bytes, so all memory that is taken is in proportion to the input.
	promised int
	anyOrder bool
}

// decode reads the value at p.
func (c *program) decode(src []byte, p unsafe.Pointer) error {
	r := reader{buf: src, anyOrder: c.anyOrder}
	err := r.steps(c.steps, p, MaxDepth)
	if err == nil && r.pos < len(src) {
		err = errTrailing
	}
	if err != nil {
		return fmt.Errorf("%w: %v: byte %d of %d: %w", ErrMalformed, c.typ, r.pos, len(src), err)
	}
	return nil
}

// left returns the number of bytes that are not read.
func (r *reader) left() int { return len(r.buf) - r.pos }

// steps decodes what lies at base.
func (r *reader) steps(steps []step, base unsafe.Pointer, depth int) error {
	for i := range steps {
		s := &steps[i]
		p := unsafe.Add(base, s.offset)
		switch s.kind {
		case kBool:
			b, err := r.flag(errBool)
			if err != nil {
				return err
			}
			*(*bool)(p) = b
		case kU8, kI8:
			if r.pos >= len(r.buf) {
				return errShort
			}
			*(*byte)(p) = r.buf[r.pos]
			r.pos++
		case kU16:
			v, err := r.uvarint(math.MaxUint16)
			if err != nil {
				return err
			}
			*(*uint16)(p) = uint16(v)
		case kU32:
			v, err := r.uvarint(math.MaxUint32)
			if err != nil {
				return err
			}
			*(*uint32)(p) = uint32(v)
		case kU64:
			v, err := r.uvarint(math.MaxUint64)
			if err != nil {
				return err
			}
			*(*uint64)(p) = v
		case kUint:
			v, err := r.uvarint(math.MaxUint)
			if err != nil {
				return err
			}
			*(*uint)(p) = uint(v)
		case kI16:
			v, err := r.uvarint(math.MaxUint16)
			if err != nil {
				return err
			}
			*(*int16)(p) = int16(unzigzag(v))
		case kI32:
			v, err := r.uvarint(math.MaxUint32)
			if err != nil {
				return err
			}
			*(*int32)(p) = int32(unzigzag(v))
		case kI64:
			v, err := r.uvarint(math.MaxUint64)
			if err != nil {
				return err
			}
			*(*int64)(p) = unzigzag(v)
		case kInt:
			v, err := r.uvarint(math.MaxUint)
			if err != nil {
				return err
			}
			*(*int)(p) = int(unzigzag(v))
		case kF32:
			if r.left() < 4 {
				return errShort
			}
			*(*float32)(p) = math.Float32frombits(binary.LittleEndian.Uint32(r.buf[r.pos:]))
			r.pos += 4
		case kF64:
			if r.left() < 8 {
				return errShort
			}
			*(*float64)(p) = math.Float64frombits(binary.LittleEndian.Uint64(r.buf[r.pos:]))
			r.pos += 8
		case kString:
			raw, err := r.prefixed()
			if err != nil {
				return err
			}
			v := string(raw)
			if !validString(v) {
				return errUTF8
			}
			*(*string)(p) = v
		case kBytes:
			raw, err := r.prefixed()
			if err != nil {
				return err
			}
			var v []byte // nil if empty
			if len(raw) > 0 {
				v = make([]byte, len(raw))
				copy(v, raw)
			}
			*(*[]byte)(p) = v
		case kRaw:
			n := s.shape.len
			if r.left() < n {
				return errShort
			}
			copy(unsafe.Slice((*byte)(p), n), r.buf[r.pos:])
			r.pos += n
		default:
			if err := r.composite(s, p, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) composite(s *step, p unsafe.Pointer, depth int) error {
	switch s.kind {
	case kF32Key, kF64Key:
		return r.floatKey(s.kind, p)
	case kTime:
		return r.time(p)
	case kArray:
		return r.elems(s.shape.elem, p, s.shape.len, depth)
	case kBinary:
		raw, err := r.prefixed()
		if err != nil {
			return err
		}
		return reflect.NewAt(s.shape.typ, p).Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(raw)
	case kProto:
		raw, err := r.prefixed()
		if err != nil {
			return err
		}
		return unmarshalProto.Unmarshal(raw, reflect.NewAt(s.shape.typ, p).Interface().(proto.Message))
	}
	if depth == 0 {
		return errDepth
	}
	switch s.kind {
	case kOption:
		return r.option(s.shape, p, depth-1)
	case kSlice:
		return r.slice(s.shape, p, depth-1)
	case kMap:
		return r.readMap(s.shape, p, depth-1)
	case kUnion:
		return r.union(s.shape, p, depth-1)
	default:
		return fmt.Errorf("kind %d has no decoder", s.kind)
	}
}

func (r *reader) option(s *shape, p unsafe.Pointer, depth int) error {
	present, err := r.flag(errOption)
	if err != nil {
		return err
	}
	if !present {
		*(*unsafe.Pointer)(p) = nil
		return nil
	}
	if r.left()-r.promised < s.elem.min {
		return errShort
	}
	elem := reflect.New(s.elem.typ).UnsafePointer()
	*(*unsafe.Pointer)(p) = elem
	return r.steps(s.elem.steps, elem, depth)
}

func (r *reader) slice(s *shape, p unsafe.Pointer, depth int) error {
	n, err := r.count(s.elem.min)
	if err != nil {
		return err
	}
	v := reflect.NewAt(s.typ, p).Elem()
	v.SetZero()
	if n == 0 {
		return nil
	}
	v.Grow(n)
	v.SetLen(n)
	if s.elem.min == 0 {
		return nil
	}
	return r.elems(s.elem, v.UnsafePointer(), n, depth)
}

func (r *reader) elems(elem *shape, p unsafe.Pointer, n, depth int) error {
	size := elem.typ.Size()
	r.promised += n * elem.min
	for i := range n {
		r.promised -= elem.min
		if err := r.steps(elem.steps, unsafe.Add(p, uintptr(i)*size), depth); err != nil {
			return err
		}
	}
	return nil
}

// count reads a number of elements and checks that the input can hold them, before memory is taken for them.
func (r *reader) count(min int) (int, error) {
	n, err := r.uvarint(math.MaxUint64)
	switch {
	case err != nil:
		return 0, err
	case min == 0 && n > maxEmpty:
		return 0, errEmpty
	case min > 0 && n > uint64(max(0, r.left()-r.promised)/min):
		return 0, errShort
	}
	return int(n), nil
}

// prefixed returns the bytes that follow their number. They are part of the input.
func (r *reader) prefixed() ([]byte, error) {
	n, err := r.count(1)
	if err != nil {
		return nil, err
	}
	raw := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return raw, nil
}

func (r *reader) flag(otherwise error) (bool, error) {
	if r.pos >= len(r.buf) {
		return false, errShort
	}
	b := r.buf[r.pos]
	if b > 1 {
		return false, otherwise
	}
	r.pos++
	return b == 1, nil
}

func (r *reader) floatKey(k kind, p unsafe.Pointer) error {
	var f float64
	if k == kF32Key {
		if r.left() < 4 {
			return errShort
		}
		v := math.Float32frombits(binary.LittleEndian.Uint32(r.buf[r.pos:]))
		r.pos += 4
		*(*float32)(p) = v
		f = float64(v)
	} else {
		if r.left() < 8 {
			return errShort
		}
		f = math.Float64frombits(binary.LittleEndian.Uint64(r.buf[r.pos:]))
		r.pos += 8
		*(*float64)(p) = f
	}
	switch {
	case f != f:
		return errNaN
	case f == 0 && math.Signbit(f):
		return errZero
	}
	return nil
}

func (r *reader) time(p unsafe.Pointer) error {
	seconds, err := r.uvarint(math.MaxUint64)
	if err != nil {
		return err
	}
	nanos, err := r.uvarint(math.MaxUint32)
	if err != nil {
		return err
	}
	if nanos >= 1e9 {
		return errNanos
	}
	*(*time.Time)(p) = time.Unix(unzigzag(seconds), int64(nanos)).UTC()
	return nil
}

// uvarint reads a number up to max in the fewest bytes that it fits in.
func (r *reader) uvarint(max uint64) (uint64, error) {
	if r.pos < len(r.buf) && r.buf[r.pos] < 0x80 {
		v := uint64(r.buf[r.pos])
		r.pos++
		return v, nil
	}
	return r.longUvarint(max)
}

func (r *reader) longUvarint(max uint64) (uint64, error) {
	v, n := binary.Uvarint(r.buf[r.pos:])
	switch {
	case n == 0:
		return 0, errShort
	case n < 0:
		return 0, errRange
	case n > 1 && n > (bits.Len64(v)+6)/7:
		return 0, errVarint
	case v > max:
		return 0, errRange
	}
	r.pos += n
	return v, nil
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
