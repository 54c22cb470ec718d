package host

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/snap"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

// openSaved opens the images that an earlier life of this member has left, and describes them to the engine. What cannot
// be read is given up: the log goes back behind an older image, or the others have the state.
func openSaved(store logstore.Images, log *slog.Logger) (images []*image, saved []core.Saved, err error) {
	if !store.Lasting() {
		return nil, nil, nil
	}
	list, err := store.List()
	if err != nil {
		return nil, nil, err
	}
	for _, index := range list {
		im, state, err := loadImage(store, index)
		if err != nil {
			log.Warn("an image cannot be used", "raft index", index, "err", err)
			if err := store.Drop(index); err != nil {
				log.Warn("cannot drop an image", "raft index", index, "err", err)
			}
			continue
		}
		im.mark = uint64(len(images) + 1)
		images = append(images, im)
		saved = append(saved, core.Saved{Mark: im.mark, State: state, Root: im.root})
	}
	return images, saved, nil
}

func loadImage(store logstore.Images, index uint64) (*image, *core.State, error) {
	data, err := store.Open(index)
	if err != nil {
		return nil, nil, err
	}
	raw := data.Meta()
	manifest, err := snap.DecodeManifest(raw)
	if err != nil {
		return nil, nil, errors.Join(err, data.Close())
	}
	state, err := core.DecodeState(manifest.Engine)
	if err != nil {
		return nil, nil, errors.Join(err, data.Close())
	}
	return &image{index: index, cancel: func() {}, root: snap.RootOf(raw), manifest: manifest, raw: raw, data: data}, state, nil
}

// closeImages closes images that no group took over.
func closeImages(all []*image) {
	for _, im := range all {
		im.data.Close()
	}
}

// readSaved prepares and installs the machine of a saved image.
func (g *Group) readSaved(in *core.Install) error {
	s, ok := g.machine.(Snapshotter)
	im := g.images.takeFirst()
	if im == nil {
		return errors.New("groups: the image that the engine begins with is not here")
	}
	defer im.close()
	if !ok {
		return errors.New("groups: the state is in an image, and the machine is not a Snapshotter")
	}
	var prepared any
	var err error
	g.reading.Set(Remembering, in.User)
	defer g.reading.Done()
	p := contain(func() {
		prepared, err = s.Prepare(io.NewSectionReader(im.data, 0, im.data.Size()))
		if err == nil {
			s.Install(prepared, in.User)
		}
	})
	if p != nil {
		return p
	}
	if err != nil {
		return fmt.Errorf("groups: read the state at raft index %d: %w", im.index, err)
	}
	return nil
}

// holdFirst keeps the image with which the engine begins, whatever the engine drops before the applier has come to it.
func (s *images) holdFirst(mark uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if im := s.marks[mark]; im != nil && im.data != nil && s.first == nil {
		im.readers++
		s.first = im
	}
}

// takeFirst returns a reader of that image, nil if there is none.
func (s *images) takeFirst() *imageReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	im := s.first
	if im == nil {
		return nil
	}
	s.first = nil
	return &imageReader{image: im, images: s}
}

// forgetImages removes all images of a group that was left.
func (g *Group) forgetImages() {
	if g.store == nil || !g.cfg.Engine.Durable {
		return
	}
	list, err := g.images.store.List()
	for _, index := range list {
		err = errors.Join(err, g.images.store.Drop(index))
	}
	if err != nil {
		g.log.Warn("cannot drop the images of a group that was left", "err", err)
	}
}
