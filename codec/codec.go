package codec

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"unsafe"
)

// Codec turns values of type T into bytes and back. Codecs are values to be made once, when a stream, group or
// collection is opened, and used from any number of goroutines.
type Codec[T any] interface {
	// Name says which format the bytes have, and its version: "postcard/1", "cbor/1". It is short. Two ends must use
	// the same.
	Name() string

	// Fingerprint identifies what both ends must agree on besides the format: a BLAKE3 digest of the canonical
	// description of T. Zero means that the format is tolerant, and the types at the two ends may differ.
	Fingerprint() [32]byte

	// Append encodes the value and appends the bytes to dst. The same value gives the same bytes. On error it
	// returns dst as it was; the error is an [ErrValue].
	Append(dst []byte, v *T) ([]byte, error)

	// Decode reads a value from all of src. It keeps no reference to src, and refuses trailing bytes. What *v holds
	// should be zero before, and must not be used after an error; the error is an [ErrMalformed].
	Decode(src []byte, v *T) error
}

var (
	// ErrType is wrapped by errors of constructors: values of this type would not survive the way there and back.
	ErrType = errors.New("codec: unsuitable type")
	// ErrValue is wrapped by errors of Append: this value has no encoding.
	ErrValue = errors.New("codec: value has no encoding")
	// ErrMalformed is wrapped by errors of Decode: these bytes are no encoding of a value.
	ErrMalformed = errors.New("codec: malformed input")
)

// MaxDepth is how many pointers, slices, maps and union values may be nested in each other, in values that are encoded
// and in bytes that are decoded. It also ends the encoding of cyclic values.
const MaxDepth = 32

// Option changes what [For] returns.
type Option func(*config) error

type config struct {
	unions   map[reflect.Type]*union
	anyOrder bool
}

// AnyMapOrder makes Decode accept map entries in any order, as programs in other languages write them, and still
// refuse the same key twice. Without it only the order that Append writes is accepted, so that one value has one
// encoding. Append and the fingerprint are the same with it and without.
func AnyMapOrder() Option {
	return func(c *config) error {
		c.anyOrder = true
		return nil
	}
}

// compiled holds the programs for types that need no options, by type.
var compiled sync.Map // reflect.Type -> *program

// For returns the codec for a type: for protobuf messages what [Proto] returns; for types whose pointers have
// AppendBinary (or MarshalBinary) and UnmarshalBinary of their own, the bytes of these methods; for all other types the
// postcard format, see the package comment.
//
// The error, an [ErrType], names the field that cannot be encoded and why. For is meant to be called once per stream,
// group or collection; what it compiles for a type is kept for the next call.
func For[T any](opts ...Option) (Codec[T], error) {
	t := reflect.TypeFor[T]()
	var cfg config
	for _, o := range opts {
		if err := o(&cfg); err != nil {
			return nil, fmt.Errorf("%w %v: %w", ErrType, t, err)
		}
	}
	switch name, ok, err := messageName(t); {
	case err != nil:
		return nil, fmt.Errorf("%w %v: %w", ErrType, t, err)
	case ok:
		return newProto[T](name), nil
	}
	switch own, err := ownBinary(t); {
	case err != nil:
		return nil, fmt.Errorf("%w %v: %w", ErrType, t, err)
	case own:
		return newBinary[T](), nil
	}
	p, err := programFor(t, cfg)
	if err != nil {
		return nil, err
	}
	return postcard[T]{p}, nil
}

// Must returns the codec, and panics if there is an error. It is for package variables and tests.
func Must[T any](c Codec[T], err error) Codec[T] {
	if err != nil {
		panic(err)
	}
	return c
}

func programFor(t reflect.Type, cfg config) (*program, error) {
	plain := len(cfg.unions) == 0 && !cfg.anyOrder
	if plain {
		if p, ok := compiled.Load(t); ok {
			return p.(*program), nil
		}
	}
	p, err := compile(t, cfg)
	if err != nil {
		return nil, err
	}
	if plain {
		kept, _ := compiled.LoadOrStore(t, p)
		return kept.(*program), nil
	}
	return p, nil
}

// postcard gives a program its type.
type postcard[T any] struct{ *program }

// Name implements [Codec].
func (postcard[T]) Name() string { return "postcard/1" }

// Fingerprint implements [Codec].
func (c postcard[T]) Fingerprint() [32]byte { return c.fingerprint }

// String returns the description that the fingerprint is made of.
func (c postcard[T]) String() string { return c.description }

// Append implements [Codec].
func (c postcard[T]) Append(dst []byte, v *T) ([]byte, error) {
	return c.append(dst, unsafe.Pointer(v))
}

// Decode implements [Codec].
func (c postcard[T]) Decode(src []byte, v *T) error { return c.decode(src, unsafe.Pointer(v)) }
