package codec

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

var (
	cborEncode = newCBOREncode()
	cborDecode = newCBORDecode()
)

// CBOR returns a codec for types that are expected to change, or that programs in other languages read: CBOR
// (RFC 8949) in core deterministic encoding, structs as maps with the names of the fields, or as the field tags of
// github.com/fxamacker/cbor/v2 say. The two ends may have different types: fields that are missing keep their zero
// value, fields that are unknown are ignored, and a field that was renamed loses its value silently. The fingerprint
// is zero.
//
// The error, an [ErrType], names what would be lost without a word: unexported fields that are not left out by the tag
// `cbor:"-"`, fields of the same name, interfaces with methods, methods of embedded fields that hide the other fields.
//
// The same value gives the same bytes. Decode accepts other encodings of it too, so bytes that were received should
// not be compared; nil and empty slices are different values. Both directions refuse what is nested deeper than
// [MaxDepth].
func CBOR[T any]() (Codec[T], error) {
	t := reflect.TypeFor[T]()
	c := cborTypes{done: map[reflect.Type]bool{}, within: map[reflect.Type]bool{}}
	if err := c.check(t, ""); err != nil {
		return nil, fmt.Errorf("%w %v: %w", ErrType, t, err)
	}
	return cborCodec[T]{c.deep}, nil
}

func newCBOREncode() cbor.UserBufferEncMode {
	opts := cbor.CoreDetEncOptions()
	opts.Time, opts.TimeTag = cbor.TimeRFC3339NanoUTC, cbor.EncTagRequired
	mode, err := opts.UserBufferEncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}

func newCBORDecode() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		IndefLength:       cbor.IndefLengthForbidden,
		UTF8:              cbor.UTF8DecodeInvalid, // what is encoded is decoded
		MaxNestedLevels:   MaxDepth,
		// The whole input is checked before memory is taken, so its length is limit enough.
		MaxArrayElements: math.MaxInt32,
		MaxMapPairs:      math.MaxInt32,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}

type cborCodec[T any] struct {
	deep bool // values may be nested without end
}

// cborBuffers holds the buffers that values are encoded in before they are copied to where they belong.
var cborBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Name implements [Codec].
func (cborCodec[T]) Name() string { return "cbor/1" }

// Fingerprint implements [Codec].
func (cborCodec[T]) Fingerprint() [32]byte { return [32]byte{} }

// Append implements [Codec].
func (c cborCodec[T]) Append(dst []byte, v *T) ([]byte, error) {
	if c.deep {
		if err := checkNesting(reflect.ValueOf(v).Elem(), 0, 0); err != nil {
			return dst, fmt.Errorf("%w: %T: %w", ErrValue, *v, err)
		}
	}
	b := cborBuffers.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= keptScratch {
			b.Reset()
			cborBuffers.Put(b)
		}
	}()
	if err := cborEncode.MarshalToBuffer(v, b); err != nil {
		return dst, fmt.Errorf("%w: %T: %w", ErrValue, *v, err)
	}
	return append(dst, b.Bytes()...), nil
}

// Decode implements [Codec].
func (cborCodec[T]) Decode(src []byte, v *T) error {
	if err := cborDecode.Unmarshal(src, v); err != nil {
		return fmt.Errorf("%w: %T: %w", ErrMalformed, *v, err)
	}
	return nil
}
