package core

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// heirloom is an image of a history from which the present one was forked off by this member. It stands for the state of
// the present one at the same index, since the log up to there is the same.
type heirloom struct {
	of    wire.Genesis
	index uint64
}

// bequeath gives up the images of a history that is left for one that is forked off from it, but for the newest from which
// the log can be resumed: that stays, as an heirloom.
func (r *Replica) bequeath(from wire.Genesis, conf *raftpb.ConfState) {
	keep := -1
	for i, im := range r.snaps.images {
		if r.lasting && im.written && !im.useless {
			keep = i
		}
	}
	for i := len(r.snaps.images) - 1; i >= 0; i-- {
		if i != keep {
			r.dropImage(i)
		}
	}
	for _, im := range r.snaps.images {
		if im.of.IsZero() {
			im.of = from
		}
		im.conf, im.isAgreed, im.rescue = conf, false, false
	}
}

// heirloom returns the one there is, zero if there is none.
func (r *Replica) heirloom() (h heirloom) {
	for _, im := range r.snaps.images {
		if !im.of.IsZero() {
			h = heirloom{im.of, im.index}
		}
	}
	return h
}
