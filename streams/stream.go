package streams

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/streams/internal/engine"
)

// stream is what both ends of a stream know of it.
type stream[T any] struct {
	svc   *engine.Service
	name  string
	id    id.ID
	codec codec.Codec[T]
	flat  bool // items hold no pointers, so that one can be decoded over another
}

// open finds the node's service and settles name and codec.
func open[T any](net *mosaik.Network, s *settings) (stream[T], error) {
	var out stream[T]
	if net == nil {
		return out, errors.New("streams: the network is nil")
	}
	out.name = s.name
	if out.name == "" {
		out.name = typeName(reflect.TypeFor[T]())
	}
	out.id = id.Of(out.name)
	var err error
	switch c := s.codec.(type) {
	case nil:
		out.codec, err = codec.For[T]()
	case codec.Codec[T]:
		out.codec = c
	default:
		err = fmt.Errorf("%w: WithCodec has a %T, items are %v", ErrTypeMismatch, c, reflect.TypeFor[T]())
	}
	if err != nil {
		return out, fmt.Errorf("streams: items of type %v: %w", reflect.TypeFor[T](), err)
	}
	out.flat = out.codec.Name() == "postcard/1" && flat(reflect.TypeFor[T]())
	out.svc, err = node.Attach(net.Node(), "streams", engine.Start)
	if err != nil {
		return out, fmt.Errorf("streams: open %q: %w", out.name, public(err))
	}
	return out, nil
}

// typeName returns the name of a type with its package path.
func typeName(t reflect.Type) string {
	if t.Name() != "" && t.PkgPath() != "" {
		return t.PkgPath() + "." + t.Name()
	}
	return t.String()
}

// flat reports whether values of the type hold no pointers and a codec that writes every field leaves nothing of what was
// there.
func flat(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.BinaryUnmarshaler]()) {
		return false
	}
	switch t.Kind() {
	case reflect.Array:
		return flat(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if !f.IsExported() || !flat(f.Type) {
				return false
			}
		}
		return true
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.Map, reflect.Pointer, reflect.Slice, reflect.String,
		reflect.UnsafePointer:
		return false
	default:
		return true
	}
}
