package codec

import (
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

var (
	marshalProto   = proto.MarshalOptions{Deterministic: true}
	unmarshalProto = proto.UnmarshalOptions{RecursionLimit: MaxDepth}
)

// Proto returns the codec for a protobuf message type, as the generated code has it: a pointer to a struct. [For]
// returns it by itself for such types.
//
// Fields may be added, as protobuf's rules say: the fingerprint is that of the message's full name, which keeps other
// messages out, and not of its fields. The same value gives the same bytes in programs built with the same version of
// the protobuf module; protobuf does not promise more, so bytes made by one program should not be compared with those
// made by another. Decode accepts at most [MaxDepth] messages within each other.
func Proto[M proto.Message]() (Codec[M], error) {
	t := reflect.TypeFor[M]()
	name, ok, err := messageName(t)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w %v: %w", ErrType, t, err)
	case !ok:
		return nil, fmt.Errorf("%w %v: not a pointer to a generated protobuf message", ErrType, t)
	}
	return newProto[M](name), nil
}

var (
	protoMessage = reflect.TypeFor[proto.Message]()
	protoReflect = method{"ProtoReflect", protoMessage,
		func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("ProtoReflect") }}
)

// messageName returns the full name of the message that a pointer type is.
func messageName(t reflect.Type) (name string, ok bool, err error) {
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct || !t.Implements(protoMessage) {
		return "", false, nil
	}
	if err := notPromoted(t.Elem(), protoReflect); err != nil {
		return "", false, err
	}
	defer func() {
		if recover() != nil { // a message whose fields are known only at run time has no descriptor yet
			name, ok, err = "", false, errNoDescriptor
		}
	}()
	m := reflect.Zero(t).Interface().(proto.Message)
	return string(m.ProtoReflect().Descriptor().FullName()), true, nil
}

var errNoDescriptor = errors.New("a protobuf message without generated code")

type protoCodec[M any] struct{ description string }

func newProto[M any](name string) Codec[M] { return protoCodec[M]{"proto(" + name + ")"} }

// Name implements [Codec].
func (protoCodec[M]) Name() string { return "proto/1" }

// Fingerprint implements [Codec].
func (c protoCodec[M]) Fingerprint() [32]byte { return fingerprint(c.description) }

// String returns the description that the fingerprint is made of.
func (c protoCodec[M]) String() string { return c.description }

// Append implements [Codec].
func (protoCodec[M]) Append(dst []byte, v *M) ([]byte, error) {
	m := any(*v).(proto.Message)
	if !m.ProtoReflect().IsValid() {
		return dst, fmt.Errorf("%w: nil %T", ErrValue, *v)
	}
	out, err := marshalProto.MarshalAppend(dst, m)
	if err != nil {
		return dst, fmt.Errorf("%w: %T: %w", ErrValue, *v, err)
	}
	return out, nil
}

// Decode implements [Codec].
func (protoCodec[M]) Decode(src []byte, v *M) error {
	m := any(*v).(proto.Message).ProtoReflect().New().Interface()
	if err := unmarshalProto.Unmarshal(src, m); err != nil {
		return fmt.Errorf("%w: %T: %w", ErrMalformed, *v, err)
	}
	*v = m.(M)
	return nil
}
