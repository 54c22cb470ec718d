package core

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

const (
	imagesMost = 2
	imageLease = 10 * time.Second // after its last use an image is dropped
)

// image is what this member knows of the state at one mark.
type image struct {
	id       uint64
	index    uint64
	term     uint64
	user     Index
	conf     *raftpb.ConfState
	root     Root
	written  bool
	useless  bool // could not be written, or is not what the group agreed on
	agreed   Root
	isAgreed bool
	proposed uint64       // term in which this member proposed its root
	rescue   bool         // taken by this member alone
	of       wire.Genesis // not zero: an heirloom, of that history. It serves this member's next life, and nobody else
	used     time.Duration
}

func (im *image) offerable() bool { return im.written && im.isAgreed && !im.useless }

// leased reports whether an image is being written or was used a short while ago.
func (r *Replica) leased(im *image) bool {
	return !im.useless && (!im.written || r.now-im.used < imageLease)
}

func (r *Replica) addImage(index, term uint64, chunk int, rescue bool) *Mark {
	s := &r.snaps
	if len(s.images) >= imagesMost {
		r.dropImage(r.leastNeeded())
	}
	s.lastID++
	im := &image{id: s.lastID, index: index, term: term, user: r.index, conf: r.conf, used: r.now, rescue: rescue}
	s.images = append(s.images, im)
	return &Mark{ID: im.id, Index: index, Chunk: chunk, State: r.stateAt(index, term).Encode()}
}

// compare looks whether this member's image is what the group agreed on. One that could not be written says nothing.
func (r *Replica) compare(im *image) {
	if im.written && !im.useless && im.isAgreed && im.root != im.agreed {
		im.useless = true
		r.due.diverged = append(r.due.diverged, Divergence{Index: im.user, Root: im.root, Agreed: im.agreed})
	}
}

// Imaged says that the image of a mark was written, or, with a zero root, that it could not be.
func (r *Replica) Imaged(now time.Duration, mark uint64, root Root) {
	r.at(now)
	for _, im := range r.snaps.images {
		if im.id == mark && !im.written {
			im.written, im.useless = true, root == Root{}
			im.root, im.used = root, r.now
			r.compare(im)
			r.dirty = true
		}
	}
}

// ImageUsed says that a member fetches from the image of a mark.
func (r *Replica) ImageUsed(now time.Duration, mark uint64) {
	r.at(now)
	for _, im := range r.snaps.images {
		if im.id == mark {
			im.used = r.now
		}
	}
}

// superseded reports whether there is a newer image that does all that an image is there for. If images outlive the
// process the log is cut only behind one that the group agreed on, so the newest of those must stay.
func (r *Replica) superseded(i int) bool {
	for _, im := range r.snaps.images[i+1:] {
		if im.written && !im.useless && (im.isAgreed || im.rescue) {
			return true
		}
	}
	return false
}

// leastNeeded returns which image goes when there are too many: the oldest, unless the log may be cut behind it.
func (r *Replica) leastNeeded() int {
	if !r.lasting || r.superseded(0) {
		return 0
	}
	return len(r.snaps.images) - 1
}

func (r *Replica) dropImage(i int) {
	s := &r.snaps
	r.due.drop = append(r.due.drop, s.images[i].id)
	s.images = slices.Delete(s.images, i, i+1)
}

// dropImages drops all images.
func (r *Replica) dropImages() {
	for len(r.snaps.images) > 0 {
		r.dropImage(0)
	}
}

// tickSnapshots drops images that nobody needs, and watches over snapshots that were sent.
func (r *Replica) tickSnapshots() {
	s := &r.snaps
	for i := 0; i < len(s.images); {
		im := s.images[i]
		switch {
		case im.written && im.useless:
			r.dropImage(i)
		case im.written && !r.leased(im) && !(r.lasting && !r.superseded(i)):
			r.dropImage(i)
		default:
			i++
		}
	}
	if r.isLeader() {
		r.watchSent()
	} else if len(s.sent) > 0 {
		clear(s.sent)
	}
}
