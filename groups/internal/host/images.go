package host

import (
	"context"
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

// View is a state that does not change.
type View interface {
	WriteTo(w io.Writer) (int64, error)
	Release()
}

// images is the images of a group: those being written, and those that can be served.
type images struct {
	store logstore.Images

	mu    sync.Mutex // guards all following fields
	marks map[uint64]*image
	ended bool
}

// image is one of them, in the state of a mark.
type image struct {
	mark   uint64
	index  uint64
	cancel context.CancelFunc // of its writing

	// Set once it is written.
	root     id.ID
	manifest *snap.Manifest
	raw      []byte // the manifest, encoded
	data     logstore.Image

	readers int  // guarded by images.mu
	dropped bool // likewise: to be closed by the last reader
	told    atomic.Int64
}

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
	if err != nil {
		g.imaged(m, id.ID{}, err)
		return
	}
	ctx, cancel := context.WithCancel(g.bulk)
	im := &image{mark: m.ID, index: m.Index, cancel: cancel}
	if !g.images.add(im) {
		cancel()
		view.Release()
		return
	}
	g.wg.Go(func() {
		defer cancel()
		err := g.writeImage(ctx, im, m, view)
		view.Release()
		if ctx.Err() == nil {
			g.imaged(m, im.root, err)
		}
	})
}

// writeImage writes a view into the store.
func (g *Group) writeImage(ctx context.Context, im *image, m *core.Mark, view View) error {
	w, err := g.images.store.Create(m.Index)
	if err != nil {
		return err
	}
	defer w.Abort()
	cutter := snap.NewCutter(w, m.Chunk, m.State)
	if p := contain(func() { _, err = view.WriteTo(guardedWriter{ctx, cutter}) }); p != nil {
		err = p
	}
	if err != nil {
		return err
	}
	manifest, err := cutter.Manifest()
	if err != nil {
		return err
	}
	return g.images.finish(im, w, manifest)
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

// imaged tells the engine how the writing of an image ended.
func (g *Group) imaged(m *core.Mark, root id.ID, err error) {
	if err != nil {
		g.log.Warn("no image of the state", "err", err)
		g.meter.imagesFailed.Inc()
		root = id.ID{}
	} else {
		g.meter.images.Inc()
	}
	g.tellBulk(bulkEvent{kind: bulkImaged, id: m.ID, root: root})
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

// finish commits what was written for an image and makes it one that can be served.
func (s *images) finish(im *image, w logstore.ImageWriter, manifest *snap.Manifest) error {
	raw := manifest.Encode()
	if len(raw) > snap.ManifestMost {
		return snap.ErrManifest
	}
	if err := w.Commit(raw); err != nil {
		return err
	}
	data, err := s.store.Open(im.index)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if im.dropped {
		data.Close()
		return s.store.Drop(im.index)
	}
	im.root, im.manifest, im.raw, im.data = snap.RootOf(raw), manifest, raw, data
	return nil
}

// drop gives up the image of a mark. Who reads from it can go on.
func (s *images) drop(mark uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	im := s.marks[mark]
	if im == nil {
		return
	}
	delete(s.marks, mark)
	im.cancel()
	im.dropped = true
	if im.data != nil {
		if im.readers == 0 {
			im.data.Close()
		}
		s.store.Drop(im.index)
	}
}

// end gives up everything that does not outlive the process.
func (s *images) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for mark, im := range s.marks {
		delete(s.marks, mark)
		im.cancel()
		im.dropped = true
		if im.data != nil && im.readers == 0 {
			im.data.Close()
		}
	}
}

// acquire returns the image with a root for reading. The reply says why there is none.
func (s *images) acquire(root id.ID) (*image, snap.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := snap.Unknown
	for _, im := range s.marks {
		if im.data == nil {
			reply = snap.NotYet // it may be this one
		} else if im.root == root {
			im.readers++
			return im, snap.Here
		}
	}
	return nil, reply
}

func (s *images) release(im *image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	im.readers--
	if im.dropped && im.readers == 0 {
		im.data.Close()
	}
}
