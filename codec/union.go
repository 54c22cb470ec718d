package codec

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"unsafe"
)

// Case is a member of a union: a type that implements the interface I, and the tag that stands for it on the wire.
type Case[I any] struct{ member }

// Member makes a case. The tag must stay the same for as long as there are old bytes or old programs; a tag that was
// given up should not be used again. In Rust terms it is the index of the enum's variant, and the payload is what
// follows: the fields of T in order.
//
// T may be a pointer type. Its nil has no encoding, and takes no byte to tell apart.
func Member[I, T any](tag uint32) Case[I] {
	t := reflect.TypeFor[T]()
	m := member{tag: tag, typ: t, payload: t, iface: reflect.TypeFor[I]()}
	if t.Kind() == reflect.Pointer {
		m.payload = t.Elem()
		m.borrow = func(p unsafe.Pointer) unsafe.Pointer {
			v := any(*(*I)(p)).(T)
			return *(*unsafe.Pointer)(unsafe.Pointer(&v))
		}
		m.store = func(p, payload unsafe.Pointer) {
			*(*I)(p) = any(*(*T)(unsafe.Pointer(&payload))).(I)
		}
		return Case[I]{m}
	}
	pool := &sync.Pool{New: func() any { return new(T) }}
	m.borrow = func(p unsafe.Pointer) unsafe.Pointer {
		v := pool.Get().(*T)
		if p != nil {
			*v = any(*(*I)(p)).(T)
		}
		return unsafe.Pointer(v)
	}
	m.giveBack = func(payload unsafe.Pointer) {
		v := (*T)(payload)
		*v = *new(T)
		pool.Put(v)
	}
	m.store = func(p, payload unsafe.Pointer) {
		*(*I)(p) = any(*(*T)(payload)).(I)
	}
	return Case[I]{m}
}

// member is a case without its type parameters.
type member struct {
	tag     uint32
	typ     reflect.Type
	payload reflect.Type // typ, or what it points to
	iface   reflect.Type

	// borrow returns the address of the payload in the interface at p; for value types that is a copy, to be given
	// back. If p is nil it returns the address of a zero value.
	borrow func(p unsafe.Pointer) unsafe.Pointer
	// giveBack ends the use of a copy. It is nil for pointer types.
	giveBack func(payload unsafe.Pointer)
	// store puts a payload into the interface at p.
	store func(p, payload unsafe.Pointer)
}

// union is an interface type with its members.
type union struct {
	members []member // by tag
	typeOf  func(p unsafe.Pointer) reflect.Type
}

// Union returns the codec for an interface type with a known set of members. It is short for [For] with one
// [WithUnion]; the members may hold values of the interface themselves.
func Union[I any](cases ...Case[I]) (Codec[I], error) {
	return For[I](WithUnion(cases...))
}

// WithUnion makes [For] accept the interface type I, at the top or anywhere within a type, and says which types such a
// value may have. It can be given several times, for different interfaces. A nil interface value has no encoding; use
// a member without fields, or a pointer to the interface, where there may be nothing.
func WithUnion[I any](cases ...Case[I]) Option {
	return func(c *config) error {
		t := reflect.TypeFor[I]()
		if err := checkUnion(t, cases); err != nil {
			return err
		}
		if c.unions[t] != nil {
			return fmt.Errorf("the members of %v are given twice", t)
		}
		u := &union{typeOf: func(p unsafe.Pointer) reflect.Type { return reflect.TypeOf(*(*I)(p)) }}
		for _, m := range cases {
			u.members = append(u.members, m.member)
		}
		slices.SortFunc(u.members, func(a, b member) int { return cmp.Compare(a.tag, b.tag) })
		if c.unions == nil {
			c.unions = map[reflect.Type]*union{}
		}
		c.unions[t] = u
		return nil
	}
}

func checkUnion[I any](t reflect.Type, cases []Case[I]) error {
	if t.Kind() != reflect.Interface {
		return fmt.Errorf("a union needs an interface type, %v is none", t)
	}
	if len(cases) == 0 {
		return fmt.Errorf("union %v has no members", t)
	}
	for i, m := range cases {
		if m.typ == nil {
			return fmt.Errorf("union %v: member %d was not made by Member", t, i)
		}
		if m.typ.Kind() == reflect.Interface || !m.typ.Implements(t) {
			return fmt.Errorf("union %v: %v does not implement it", t, m.typ)
		}
		for _, other := range cases[:i] {
			if other.tag == m.tag {
				return fmt.Errorf("union %v: %v and %v have the same tag %d", t, other.typ, m.typ, m.tag)
			}
			if other.typ == m.typ {
				return fmt.Errorf("union %v: %v has two tags, %d and %d", t, m.typ, other.tag, m.tag)
			}
		}
	}
	return nil
}

func appendUnion(dst []byte, s *shape, p unsafe.Pointer, depth int) ([]byte, error) {
	t := s.union.typeOf(p)
	for i := range s.cases {
		c := &s.cases[i]
		if c.typ != t {
			continue
		}
		payload := c.borrow(p)
		if payload == nil {
			return dst, fmt.Errorf("nil %v in %v", t, s.typ)
		}
		dst, err := appendSteps(appendUvarint(dst, uint64(c.tag)), c.payload.steps, payload, depth)
		if c.giveBack != nil {
			c.giveBack(payload)
		}
		return dst, err
	}
	if t == nil {
		return dst, fmt.Errorf("nil %v", s.typ)
	}
	return dst, fmt.Errorf("%v is no member of union %v", t, s.typ)
}

func (r *reader) union(s *shape, p unsafe.Pointer, depth int) error {
	tag, err := r.uvarint(1<<32 - 1)
	if err != nil {
		return err
	}
	i, ok := slices.BinarySearchFunc(s.cases, uint32(tag), func(c branch, tag uint32) int { return cmp.Compare(c.tag, tag) })
	if !ok {
		return errTag
	}
	c := &s.cases[i]
	if r.left()-r.promised < c.payload.min {
		return errShort
	}
	if c.giveBack == nil {
		payload := reflect.New(c.payload.typ).UnsafePointer()
		if err := r.steps(c.payload.steps, payload, depth); err != nil {
			return err
		}
		c.store(p, payload)
		return nil
	}
	payload := c.borrow(nil)
	defer c.giveBack(payload)
	if err := r.steps(c.payload.steps, payload, depth); err != nil {
		return err
	}
	c.store(p, payload)
	return nil
}
