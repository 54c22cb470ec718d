package core

import (
	"cmp"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/mosaik-go/mosaik/groups/internal/member"
)

// The library stands for election after a silence of one to two election timeouts, drawn at random. That is for the case
// that nobody knows better. Where the leader's connection was seen to close, or an election has just failed, the voters
// that are left take turns instead, a moment apart, so that they do not stand in each other's way.

// campaigning is a series of candidacies.
type campaigning struct {
	at    time.Duration // of the next, zero if there is none
	every time.Duration
	end   time.Duration
}

// leaderGone reacts to the leader's connection closing: that is no proof, but there is no point in waiting. Members that
// still hear the leader refuse their votes, and then nothing has changed.
func (r *Replica) leaderGone() {
	gone := r.lead
	_ = r.rn.ForgetLeader() // never fails on the message's way in
	r.stirred = true
	r.takeTurns(gone, 0)
}

// takeTurns plans candidacies for one election timeout, this member's first when those before it had theirs. They are
// repeated since others may have noticed later that the leader is gone.
func (r *Replica) takeTurns(gone uint64, pause int) {
	if !r.isVoter() {
		return
	}
	type turn struct {
		hesitant int
		id       uint64
	}
	var turns []turn
	for _, row := range r.table.All() {
		if row.Voter && row.ID != gone && (row.ID == r.self || r.bondedWith(row.Peer)) {
			t := turn{id: row.ID}
			if row.Preference != member.Normal {
				t.hesitant = 1
			}
			turns = append(turns, t)
		}
	}
	slices.SortFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.hesitant, b.hesitant), cmp.Compare(a.id, b.id))
	})
	step := max(r.cfg.ElectionTimeout/campaignSteps, r.cfg.Tick) // turns within one tick would be no turns
	mine := slices.IndexFunc(turns, func(t turn) bool { return t.id == r.self })
	r.campaign = campaigning{
		at:    r.now + time.Duration(pause+mine)*step,
		every: time.Duration(len(turns)) * step,
		end:   r.now + r.cfg.ElectionTimeout,
	}
}

// tickCampaign stands for election if it is this member's turn.
func (r *Replica) tickCampaign() {
	c := &r.campaign
	if c.at == 0 || r.now < c.at {
		return
	}
	if c.at = r.now + c.every; c.at > c.end {
		*c = campaigning{}
	}
	if r.lead == 0 && r.role != raft.StateLeader && r.isVoter() {
		_ = r.rn.Campaign() // never fails on the message's way in
		r.stirred = true
	}
}
