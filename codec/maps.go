package codec

import (
	"bytes"
	"reflect"
	"slices"
	"unsafe"
)

// mapScratch is what encoding or decoding a map needs besides the map.
type mapScratch struct {
	iter            reflect.MapIter
	all, key, value variable
	entries         []mapEntry
	sorted          []byte
}

// variable is a place for a value, zero between uses.
type variable struct {
	reflect.Value
	p unsafe.Pointer
}

func newVariable(t reflect.Type) variable {
	v := reflect.New(t)
	return variable{v.Elem(), v.UnsafePointer()}
}

// mapEntry is where an entry lies in the output.
type mapEntry struct{ key, value, end int }

// keptScratch is how many bytes of scratch space are kept for the next map.
const keptScratch = 64 << 10

func (s *shape) mapScratch() *mapScratch {
	if m, ok := s.scratch.Get().(*mapScratch); ok {
		return m
	}
	return &mapScratch{all: newVariable(s.typ), key: newVariable(s.key.typ), value: newVariable(s.elem.typ)}
}

func (s *shape) release(m *mapScratch) {
	m.iter.Reset(reflect.Value{})
	m.all.SetZero()
	m.key.SetZero()
	m.value.SetZero()
	if cap(m.sorted) > keptScratch || cap(m.entries) > keptScratch/int(unsafe.Sizeof(mapEntry{})) {
		m.sorted, m.entries = nil, nil
	}
	s.scratch.Put(m)
}

// appendMap encodes the entries as they come and then sorts them by the bytes of their keys.
func appendMap(dst []byte, s *shape, p unsafe.Pointer, depth int) (_ []byte, err error) {
	// A map is a pointer, and reflect's variable that holds it is quicker had from the pool than made anew.
	table := *(*unsafe.Pointer)(p)
	if table == nil {
		return append(dst, 0), nil
	}
	m := s.mapScratch()
	defer s.release(m)
	*(*unsafe.Pointer)(m.all.p) = table
	m.entries = m.entries[:0]
	if dst = appendUvarint(dst, uint64(m.all.Len())); m.all.Len() == 0 {
		return dst, nil
	}
	for m.iter.Reset(m.all.Value); m.iter.Next(); {
		m.key.SetIterKey(&m.iter)
		m.value.SetIterValue(&m.iter)
		e := mapEntry{key: len(dst)}
		if dst, err = appendSteps(dst, s.key.steps, m.key.p, depth); err != nil {
			return dst, err
		}
		e.value = len(dst)
		if dst, err = appendSteps(dst, s.elem.steps, m.value.p, depth); err != nil {
			return dst, err
		}
		e.end = len(dst)
		m.entries = append(m.entries, e)
	}
	return m.sort(dst)
}

// sort brings the entries, which are the end of dst, into order.
func (m *mapScratch) sort(dst []byte) ([]byte, error) {
	start, inOrder := m.entries[0].key, true
	for i := 1; i < len(m.entries) && inOrder; i++ {
		inOrder = compareKeys(dst, m.entries[i-1], m.entries[i]) < 0
	}
	if inOrder {
		return dst, nil
	}
	slices.SortFunc(m.entries, func(a, b mapEntry) int { return compareKeys(dst, a, b) })
	m.sorted = m.sorted[:0]
	for i, e := range m.entries {
		if i > 0 && compareKeys(dst, m.entries[i-1], e) == 0 {
			return dst, errTwice // keys with methods of their own that give both the same bytes
		}
		m.sorted = append(m.sorted, dst[e.key:e.end]...)
	}
	copy(dst[start:], m.sorted)
	return dst, nil
}

func compareKeys(buf []byte, a, b mapEntry) int {
	return bytes.Compare(buf[a.key:a.value], buf[b.key:b.value])
}

// readMap decodes a map.
func (r *reader) readMap(s *shape, p unsafe.Pointer, depth int) error {
	n, err := r.count(s.key.min + s.elem.min)
	if err != nil {
		return err
	}
	if s.key.min == 0 && n > 1 {
		return errTwice // there is only one key without bytes
	}
	*(*unsafe.Pointer)(p) = nil
	if n == 0 {
		return nil
	}
	table := reflect.MakeMapWithSize(s.typ, n)
	m := s.mapScratch()
	defer s.release(m)
	var last []byte
	r.promised += n * (s.key.min + s.elem.min)
	for i := range n {
		r.promised -= s.key.min + s.elem.min
		m.key.SetZero()
		m.value.SetZero()
		start := r.pos
		if err := r.steps(s.key.steps, m.key.p, depth); err != nil {
			return err
		}
		raw := r.buf[start:r.pos]
		if i > 0 && !r.anyOrder && bytes.Compare(last, raw) >= 0 {
			return errOrder
		}
		last = raw
		if err := r.steps(s.elem.steps, m.value.p, depth); err != nil {
			return err
		}
		table.SetMapIndex(m.key.Value, m.value.Value)
	}
	if table.Len() != n {
		return errTwice
	}
	*(*unsafe.Pointer)(p) = table.UnsafePointer()
	return nil
}
