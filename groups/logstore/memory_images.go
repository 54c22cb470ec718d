package logstore

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
)

// memoryImages keeps images in memory.
type memoryImages struct {
	mu     sync.Mutex
	images map[uint64]*memoryImage
}

// imageBlock is the size of the blocks that images are kept in.
const imageBlock = 1 << 20

// memoryImage is an image; it does not change once it is committed. All blocks but the last are full.
type memoryImage struct {
	blocks [][]byte
	size   int64
	meta   []byte
}

func (s *memoryImages) Create(index uint64) (ImageWriter, error) {
	return &memoryImageWriter{store: s, index: index, image: new(memoryImage)}, nil
}

func (s *memoryImages) Open(index uint64) (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.images[index]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%w: index %d", ErrNoImage, index)
}

func (s *memoryImages) List() ([]uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.images)), nil
}

func (s *memoryImages) Drop(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, index)
	return nil
}

func (s *memoryImages) Lasting() bool { return false }

type memoryImageWriter struct {
	store *memoryImages
	index uint64
	image *memoryImage // nil after the end
}

func (w *memoryImageWriter) Write(p []byte) (int, error) {
	m := w.image
	if m == nil {
		return 0, io.ErrClosedPipe
	}
	n := len(p)
	for len(p) > 0 {
		last := len(m.blocks) - 1
		if last < 0 || len(m.blocks[last]) == imageBlock {
			m.blocks = append(m.blocks, nil)
			last++
		}
		b := m.blocks[last]
		part := p[:min(len(p), imageBlock-len(b))]
		if last > 0 && b == nil {
			b = make([]byte, 0, imageBlock) // small images stay small, large ones are not copied as they grow
		}
		m.blocks[last] = append(b, part...)
		p = p[len(part):]
	}
	m.size += int64(n)
	return n, nil
}

func (w *memoryImageWriter) Commit(meta []byte) error {
	if w.image == nil {
		return io.ErrClosedPipe
	}
	w.image.meta = slices.Clone(meta)
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if w.store.images == nil {
		w.store.images = make(map[uint64]*memoryImage)
	}
	w.store.images[w.index] = w.image
	w.image = nil
	return nil
}

func (w *memoryImageWriter) Abort() { w.image = nil }

func (m *memoryImage) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("logstore: read of an image at %d", off)
	}
	n := 0
	for n < len(p) && off < m.size {
		k := copy(p[n:], m.blocks[off/imageBlock][off%imageBlock:])
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memoryImage) Size() int64  { return m.size }
func (m *memoryImage) Meta() []byte { return m.meta }
func (m *memoryImage) Close() error { return nil }
