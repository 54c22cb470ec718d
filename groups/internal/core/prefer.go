package core

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/mosaik-go/mosaik/groups/internal/member"
)

// A member that would rather not lead holds back its candidacy for some election timeouts, see holdBack. If it leads all
// the same, since nobody else did, it hands over to the best other voter, but not again and again if that comes to nothing.
const (
	reluctantLeads = 2 * time.Second
	reluctantAgain = 10 * time.Second
)

// tickPreference hands leadership over if somebody else would rather have it.
func (r *Replica) tickPreference() {
	l := &r.leader
	if r.cfg.Preference == Normal || !r.ownTermCommitted() || r.now-l.since < reluctantLeads ||
		l.handedAt != 0 && r.now-l.handedAt < reluctantAgain {
		return
	}
	if to := r.bestVoter(); to != 0 {
		r.transferTo(to)
	}
}

// bestVoter returns the voter to hand leadership over to: of those that are there and want to lead the one that has most of
// the log. It returns zero if there is none.
func (r *Replica) bestVoter() uint64 {
	var best, match uint64
	r.rn.WithProgress(func(m uint64, t raft.ProgressType, p tracker.Progress) {
		row := r.table.Get(m)
		if m == r.self || t != raft.ProgressTypePeer || row == nil || row.Preference != member.Normal {
			return
		}
		if healthy, _ := r.health(row); healthy && p.RecentActive && p.Match >= match {
			best, match = m, p.Match
		}
	})
	return best
}
