package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/snap"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// Snapshotter is an optional interface of a [Machine] whose state can be written out and read back. The driver uses it if
// the engine is configured to take snapshots.
type Snapshotter interface {
	// View returns the state as it is now. It is called by the applier, between two calls of Apply.
	View() (View, error)

	// Prepare reads a state into a fresh machine and returns that. It runs beside everything else.
	Prepare(r io.Reader) (prepared any, err error)

	// Install makes a prepared machine the one in use, as of a user index. It is called by the applier.
	Install(prepared any, index core.Index)
}

// View is a state that does not change. It can be written out any number of times, also at once.
type View interface {
	WriteTo(w io.Writer) (int64, error)
	Release()
}

// images is the images of a group: those being written, and those that can be served.
//
// An image is written into the store if images outlive the process, or if it is small. A large one is only cut and hashed,
// so that a large state is not in memory twice; its view is kept, and written out again for each stream that reads it.
type images struct {
	store logstore.Images

	mu    sync.Mutex // guards all following fields
	marks map[uint64]*image
	first *image // with which the engine begins: it is read even if it is dropped before that
	ended bool
}

// imageKept is the size up to which an image is kept in memory.
const imageKept = 8 << 20

// image is one of them, in the state of a mark.
type image struct {
	mark   uint64
	index  uint64
	cancel context.CancelFunc // of its writing

	// Set once it is written. One of data and view is.
	root     id.ID
	manifest *snap.Manifest
	raw      []byte // the manifest, encoded
	data     logstore.Image
	view     View

	readers int  // guarded by images.mu
	dropped bool // likewise: to be closed by the last reader
	told    atomic.Int64
}

// ready reports whether the image can be served.
func (im *image) ready() bool { return im.manifest != nil }

// close gives up what the image holds.
func (im *image) close() {
	if im.data != nil {
		im.data.Close()
	}
	if im.view != nil {
		release(im.view)
	}
}

// errNoView reports a machine that gave neither a view nor an error.
var errNoView = errors.New("groups: the machine's Snapshot returned no view")

// release ends the use of a view, which is the program's own code: a panic in it must not end the process.
func release(v View) { _ = contain(v.Release) }

// usedEvery is how often the engine hears that an image is in use.
const usedEvery = time.Second

// takeView takes a view of the machine for a mark and has it written out beside further applies.
func (g *Group) takeView(m *core.Mark) {
	s, ok := g.machine.(Snapshotter)
	if !ok || g.bulk.Err() != nil {
		return
	}
	var view View
	var err error
	if p := contain(func() { view, err = s.View() }); p != nil {
		err = p
	}
	if err == nil && view == nil {
		err = errNoView
	}
	if err != nil {
		err = fmt.Errorf("the machine's Snapshot: %w", err)
	}
	if err != nil {
		g.imaged(m, id.ID{}, err)
		return
	}
	ctx, cancel := context.WithCancel(g.bulk)
	im := &image{mark: m.ID, index: m.Index, cancel: cancel}
	if !g.images.add(im) {
		cancel()
		release(view)
		return
	}
	g.wg.Go(func() {
		defer cancel()
		kept, err := g.images.write(ctx, im, m, view)
		if !kept {
			release(view)
		}
		if ctx.Err() == nil {
			g.imaged(m, im.root, err)
		}
	})
}

// imaged tells the engine how the writing of an image ended.
func (g *Group) imaged(m *core.Mark, root id.ID, err error) {
	if err != nil {
		g.log.Warn("no image of the state", "err", err)
		g.meter.imagesFailed.Inc()
		root = id.ID{}
	} else {
		g.meter.images.Inc()
	}
	g.tellBulk(bulkEvent{kind: bulkImaged, id: m.ID, root: root, err: err})
}

// write makes the image of a view. It reports whether it keeps the view.
func (s *images) write(ctx context.Context, im *image, m *core.Mark, view View) (kept bool, err error) {
	w, err := s.store.Create(m.Index)
	if err != nil {
		return false, err
	}
	defer w.Abort()
	out := &imageWriter{to: w}
	if !s.store.Lasting() {
		out.most = imageKept
	}
	cutter := snap.NewCutter(out, m.Chunk, m.State)
	if p := contain(func() { _, err = view.WriteTo(guardedWriter{ctx, cutter}) }); p != nil {
		err = p
	}
	if err != nil {
		return false, fmt.Errorf("WriteTo of the view: %w", err)
	}
	manifest, err := cutter.Manifest()
	if err != nil {
		return false, err
	}
	raw := manifest.Encode()
	if len(raw) > snap.ManifestMost {
		return false, snap.ErrManifest
	}
	var data logstore.Image
	if !out.full {
		if err := w.Commit(raw); err != nil {
			return false, err
		}
		if data, err = s.store.Open(im.index); err != nil {
			return false, err
		}
		view = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if im.dropped {
		if data != nil {
			data.Close()
			s.store.Drop(im.index)
		}
		return false, context.Canceled
	}
	im.root, im.manifest, im.raw, im.data, im.view = snap.RootOf(raw), manifest, raw, data, view
	return view != nil, nil
}

// imageWriter passes an image on as long as it is not too large.
type imageWriter struct {
	to   logstore.ImageWriter
	most int // zero: there is no limit
	size int
	full bool
}

func (w *imageWriter) Write(p []byte) (int, error) {
	w.size += len(p)
	if w.full = w.full || w.most > 0 && w.size > w.most; w.full {
		w.to.Abort()
		return len(p), nil
	}
	return w.to.Write(p)
}

// guardedWriter ends the writing of a view that nobody needs any more.
type guardedWriter struct {
	ctx context.Context
	to  io.Writer
}

func (w guardedWriter) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.to.Write(p)
}

func (s *images) add(im *image) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.marks == nil {
		s.marks = make(map[uint64]*image)
	}
	s.marks[im.mark] = im
	return true
}

// drop gives up the image of a mark.
func (s *images) drop(mark uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if im := s.marks[mark]; im != nil {
		s.dropLocked(im)
		if im.data != nil {
			s.store.Drop(im.index)
		}
	}
}

func (s *images) dropLocked(im *image) {
	delete(s.marks, im.mark)
	im.cancel()
	im.dropped = true
	if im.readers == 0 {
		im.close()
	}
}

// end gives up everything that does not outlive the process.
func (s *images) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if im := s.first; im != nil {
		s.first = nil
		im.readers--
		if im.dropped && im.readers == 0 {
			im.close()
		}
	}
	for _, im := range s.marks {
		s.dropLocked(im)
	}
}

// imageReader reads an image for one stream.
type imageReader struct {
	*image
	images *images
	cursor *cursor // of an image that is a view
}

// open returns a reader of the image with a root. The reply says why there is none.
func (s *images) open(root id.ID) (*imageReader, snap.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := snap.Unknown
	for _, im := range s.marks {
		if !im.ready() {
			reply = snap.NotYet // it may be this one
		} else if im.root == root {
			im.readers++
			return &imageReader{image: im, images: s}, snap.Here
		}
	}
	return nil, reply
}

// current reports whether the image was not dropped.
func (r *imageReader) current() bool {
	r.images.mu.Lock()
	defer r.images.mu.Unlock()
	return !r.dropped
}

// chunk appends a chunk to dst.
func (r *imageReader) chunk(n int, dst []byte) ([]byte, error) {
	if r.view != nil {
		if r.cursor != nil && n < r.cursor.next {
			r.cursor.close()
			r.cursor = nil
		}
		if r.cursor == nil {
			r.cursor = newCursor(r.view, r.manifest.Chunk)
		}
		return r.cursor.read(n, dst)
	}
	head, size := len(dst), r.manifest.ChunkSize(n)
	dst = append(dst, make([]byte, size)...)
	if k, err := r.data.ReadAt(dst[head:], int64(n)*int64(r.manifest.Chunk)); k < size {
		return nil, err
	}
	return dst, nil
}

func (r *imageReader) close() {
	if r.cursor != nil {
		r.cursor.close()
	}
	r.images.mu.Lock()
	defer r.images.mu.Unlock()
	r.readers--
	if r.dropped && r.readers == 0 {
		r.image.close()
	}
}
