package codec

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

var (
	cborEncode = newCBOREncode()
	cborDecode = newCBORDecode()
)

// CBOR returns a codec for types that are expected to change, or that programs in other languages read: CBOR
// (RFC 8949) in core deterministic encoding, structs as maps with the names of the fields, or as the field tags of
// github.com/fxamacker/cbor/v2 say. The two ends may have different types: fields that are missing are zero, fields
// that are unknown are ignored, and a field that was renamed loses its value silently. The fingerprint is zero.
func CBOR[T any]() (Codec[T], error) {
	return cborCodec[T]{}, nil
}

func newCBOREncode() cbor.UserBufferEncMode {
	opts := cbor.CoreDetEncOptions()
	opts.Time = cbor.TimeRFC3339NanoUTC
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
		UTF8:              cbor.UTF8DecodeInvalid,
		MaxNestedLevels:   MaxDepth,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}

type cborCodec[T any] struct{}

// cborBuffers holds the headers of buffers, not their memory.
var cborBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Name implements [Codec].
func (cborCodec[T]) Name() string { return "cbor/1" }

// Fingerprint implements [Codec].
func (cborCodec[T]) Fingerprint() [32]byte { return [32]byte{} }

// Append implements [Codec].
func (cborCodec[T]) Append(dst []byte, v *T) ([]byte, error) {
	b := cborBuffers.Get().(*bytes.Buffer)
	*b = *bytes.NewBuffer(dst)
	err := cborEncode.MarshalToBuffer(v, b)
	out := b.Bytes()
	*b = bytes.Buffer{}
	cborBuffers.Put(b)
	if err != nil {
		return dst, fmt.Errorf("%w: %T: %w", ErrValue, *v, err)
	}
	return out, nil
}

// Decode implements [Codec].
func (cborCodec[T]) Decode(src []byte, v *T) error {
	if err := cborDecode.Unmarshal(src, v); err != nil {
		return fmt.Errorf("%w: %T: %w", ErrMalformed, *v, err)
	}
	return nil
}
