package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// Images are files beside the database: images/<group>/<index>. A file is blocks of imageBlock bytes, the last one
// shorter, each followed by its checksum (CRC-32C), then the description with its checksum, and a footer:
//
//	size of the content, size of the description, 8 bytes each, their checksum, magic
const (
	imagesDir   = "images"
	imageBlock  = 64 << 10
	sumSize     = 4
	footerSize  = 8 + 8 + sumSize + 8
	unfinished  = ".new"
	imageMagic  = "mosaikIm"
	metaMaximum = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendSum(b, of []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(of, castagnoli))
}

// sweepImages removes what a process left that ended while it wrote.
func (s *store) sweepImages() error {
	root := s.fs.PathJoin(s.dir, imagesDir)
	groups, err := list(s.fs, root)
	if err != nil {
		return err
	}
	for _, g := range groups {
		dir := s.fs.PathJoin(root, g)
		names, err := list(s.fs, dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			if strings.HasSuffix(n, unfinished) {
				if err := s.fs.Remove(s.fs.PathJoin(dir, n)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// list returns what is in a directory, nothing if it is not there.
func list(fs vfs.FS, dir string) ([]string, error) {
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// images is the images of one group.
type images struct {
	fs    vfs.FS
	root  string // for syncing that there is a directory
	dir   string
	mu    sync.Mutex // guards all following fields
	count int        // images ever begun, for names
}

func newImages(s *store, group id.ID) *images {
	root := s.fs.PathJoin(s.dir, imagesDir)
	return &images{fs: s.fs, root: root, dir: s.fs.PathJoin(root, group.String())}
}

func (m *images) path(index uint64) string {
	return m.fs.PathJoin(m.dir, strconv.FormatUint(index, 10))
}

// Lasting implements logstore.Images.
func (m *images) Lasting() bool { return true }

// Create implements logstore.Images.
func (m *images) Create(index uint64) (logstore.ImageWriter, error) {
	if err := m.fs.MkdirAll(m.dir, 0o700); err != nil {
		return nil, fmt.Errorf("pebble: image %d: %w", index, err)
	}
	m.mu.Lock()
	m.count++
	path := m.path(index) + "." + strconv.Itoa(m.count) + unfinished
	m.mu.Unlock()
	f, err := m.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("pebble: image %d: %w", index, err)
	}
	return &imageWriter{images: m, index: index, path: path, file: f, block: make([]byte, 0, imageBlock+sumSize)}, nil
}

// List implements logstore.Images.
func (m *images) List() ([]uint64, error) {
	names, err := list(m.fs, m.dir)
	if err != nil {
		return nil, fmt.Errorf("pebble: list images: %w", err)
	}
	var out []uint64
	for _, n := range names {
		if index, err := strconv.ParseUint(n, 10, 64); err == nil {
			out = append(out, index)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Drop implements logstore.Images.
func (m *images) Drop(index uint64) error {
	err := m.fs.Remove(m.path(index))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pebble: drop image %d: %w", index, err)
	}
	return nil
}

// Open implements logstore.Images.
func (m *images) Open(index uint64) (logstore.Image, error) {
	f, err := m.fs.Open(m.path(index))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: index %d", logstore.ErrNoImage, index)
	}
	if err != nil {
		return nil, fmt.Errorf("pebble: image %d: %w", index, err)
	}
	im := &image{index: index, file: f}
	if err := im.load(); err != nil {
		f.Close()
		return nil, fmt.Errorf("pebble: image %d: %w", index, err)
	}
	return im, nil
}

// imageWriter writes a file under another name until it is complete.
type imageWriter struct {
	images *images
	index  uint64
	path   string
	file   vfs.File // nil after the end
	block  []byte
	size   uint64
}

func (w *imageWriter) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, io.ErrClosedPipe
	}
	n := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), imageBlock-len(w.block))]
		w.block = append(w.block, part...)
		p = p[len(part):]
		if len(w.block) == imageBlock {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	w.size += uint64(n)
	return n, nil
}

func (w *imageWriter) flush() error {
	if len(w.block) == 0 {
		return nil
	}
	_, err := w.file.Write(appendSum(w.block, w.block))
	w.block = w.block[:0]
	return err
}

func (w *imageWriter) Commit(meta []byte) error {
	if w.file == nil {
		return io.ErrClosedPipe
	}
	if err := w.finish(meta); err != nil {
		w.Abort()
		return fmt.Errorf("pebble: image %d: %w", w.index, err)
	}
	return nil
}

func (w *imageWriter) finish(meta []byte) error {
	if err := w.flush(); err != nil {
		return err
	}
	b := appendSum(append([]byte(nil), meta...), meta)
	at := len(b)
	b = binary.BigEndian.AppendUint64(b, w.size)
	b = binary.BigEndian.AppendUint64(b, uint64(len(meta)))
	b = append(appendSum(b, b[at:]), imageMagic...)
	if _, err := w.file.Write(b); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	w.file = nil
	m := w.images
	if err := m.fs.Rename(w.path, m.path(w.index)); err != nil {
		return err
	}
	for _, dir := range []string{m.dir, m.root, m.fs.PathDir(m.root)} {
		if err := syncDir(m.fs, dir); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(fs vfs.FS, path string) error {
	d, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (w *imageWriter) Abort() {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	w.images.fs.Remove(w.path) // gone if it was committed, and swept up at the next start otherwise
}

// image is a complete file. It can be read after it was dropped, as files can.
type image struct {
	index uint64
	file  vfs.File
	size  int64
	meta  []byte
}

func (im *image) load() error {
	info, err := im.file.Stat()
	if err != nil {
		return err
	}
	total := info.Size()
	foot := make([]byte, footerSize)
	if total < footerSize {
		return fmt.Errorf("%w: a file of %d bytes", logstore.ErrCorrupt, total)
	}
	if _, err := im.file.ReadAt(foot, total-footerSize); err != nil {
		return err
	}
	size, meta := binary.BigEndian.Uint64(foot), binary.BigEndian.Uint64(foot[8:])
	if string(foot[footerSize-8:]) != imageMagic || binary.BigEndian.Uint32(foot[16:]) != crc32.Checksum(foot[:16], castagnoli) {
		return fmt.Errorf("%w: the end of the file", logstore.ErrCorrupt)
	}
	blocks := (size + imageBlock - 1) / imageBlock
	if meta > metaMaximum || uint64(total) != size+blocks*sumSize+meta+sumSize+footerSize {
		return fmt.Errorf("%w: %d bytes of content and %d of description in a file of %d", logstore.ErrCorrupt, size, meta, total)
	}
	im.size = int64(size)
	im.meta = make([]byte, meta+sumSize)
	if _, err := im.file.ReadAt(im.meta, total-footerSize-int64(len(im.meta))); err != nil {
		return err
	}
	im.meta, err = checked(im.meta)
	return err
}

// checked returns what comes before a checksum, if that is right.
func checked(b []byte) ([]byte, error) {
	n := len(b) - sumSize
	if binary.BigEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return nil, fmt.Errorf("%w: a checksum does not match", logstore.ErrCorrupt)
	}
	return b[:n:n], nil
}

// ReadAt implements io.ReaderAt. It reads and checks whole blocks.
func (im *image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("pebble: read of image %d at %d", im.index, off)
	}
	var buf []byte
	n := 0
	for n < len(p) && off < im.size {
		number := off / imageBlock
		length := min(imageBlock, im.size-number*imageBlock)
		if buf == nil {
			buf = make([]byte, imageBlock+sumSize)
		}
		b := buf[:length+sumSize]
		if _, err := im.file.ReadAt(b, number*(imageBlock+sumSize)); err != nil {
			return n, fmt.Errorf("pebble: image %d: %w", im.index, err)
		}
		b, err := checked(b)
		if err != nil {
			return n, fmt.Errorf("pebble: image %d, block %d: %w", im.index, number, err)
		}
		k := copy(p[n:], b[off-number*imageBlock:])
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (im *image) Size() int64  { return im.size }
func (im *image) Meta() []byte { return im.meta }
func (im *image) Close() error { return im.file.Close() }
