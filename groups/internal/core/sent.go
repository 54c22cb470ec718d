package core

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

const (
	guardUnheard = 5 * time.Second  // a snapshot sent to a member that reports nothing is lost
	guardStalled = 30 * time.Second // one that makes no progress is given up
)

// sentSnapshot is a snapshot that a leader has sent and whose receiver is not through with it.
type sentSnapshot struct {
	index uint64
	heard bool
	done  uint64
	moved time.Duration
}

// watchSent makes sure that no member waits for ever for a snapshot that was lost, since the library sends it nothing
// else meanwhile.
func (r *Replica) watchSent() {
	s := &r.snaps
	var lost []uint64
	waiting := make(map[uint64]bool)
	r.rn.WithProgress(func(m uint64, _ raft.ProgressType, p tracker.Progress) {
		if p.State != tracker.StateSnapshot {
			return
		}
		waiting[m] = true
		x := s.sent[m]
		if x == nil || x.index != p.PendingSnapshot {
			if s.sent == nil {
				s.sent = make(map[uint64]*sentSnapshot)
			}
			x = &sentSnapshot{index: p.PendingSnapshot, moved: r.now}
			s.sent[m] = x
		}
		for _, im := range s.images {
			if im.index == x.index {
				im.used = r.now
			}
		}
		if still := r.now - x.moved; still > guardStalled || !x.heard && still > guardUnheard {
			lost = append(lost, m)
		}
	})
	for m := range s.sent {
		if !waiting[m] {
			delete(s.sent, m)
		}
	}
	slices.Sort(lost)
	for _, m := range lost {
		delete(s.sent, m)
		r.snapshotFailed(m)
	}
}

// snapshotFailed lets the library try again with a member, after its next answer to a heartbeat.
func (r *Replica) snapshotFailed(m uint64) {
	r.rn.ReportSnapshot(m, raft.SnapshotFailure)
	r.stirred = true
}

// onFetching hears from a member that was sent a snapshot.
func (r *Replica) onFetching(from id.PeerID, m *wire.Fetching) {
	if !r.isLeader() || m.Genesis != r.genesis {
		return
	}
	row := r.table.Get(m.Member)
	if row == nil || row.Peer != from {
		return
	}
	x := r.snaps.sent[m.Member]
	if x == nil || x.index != m.Index {
		if !m.Failed {
			return
		}
		pending := false // it may be over before the snapshot was noticed here as sent
		r.rn.WithProgress(func(who uint64, _ raft.ProgressType, p tracker.Progress) {
			pending = pending || who == m.Member && p.State == tracker.StateSnapshot && p.PendingSnapshot == m.Index
		})
		if pending {
			r.snapshotFailed(m.Member)
		}
		return
	}
	if m.Failed {
		delete(r.snaps.sent, m.Member)
		r.snapshotFailed(m.Member)
		return
	}
	if !x.heard || m.Done > x.done {
		x.heard, x.done, x.moved = true, m.Done, r.now
	}
}
