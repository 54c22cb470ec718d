package core

import (
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// online reports whether this member can serve: there is a leader, and what it had committed when this member met it is
// handed out here.
func (r *Replica) online() bool {
	switch {
	case r.rn == nil || r.lead == 0 || r.fatal != nil || r.ended:
		return false
	case r.isLeader():
		return r.ownTermCommitted()
	default:
		return r.target != 0 && r.handed >= r.target && r.applied >= r.floor && r.fetch.id == 0 && r.snaps.installed == 0
	}
}

// buildStatus describes the replica; nil if that is as it was.
func (r *Replica) buildStatus() *Status {
	online := r.online()
	if online != r.wasOnline {
		r.wasOnline, r.onlineAt = online, r.now
	}
	s := &Status{
		Role:      r.roleNow(),
		Term:      r.term,
		Genesis:   r.genesis,
		Leader:    r.leaderPeer(),
		Online:    online,
		Committed: r.index,
		RaftIndex: r.handed,
		Since:     r.onlineAt,
		Note:      r.note(),
		Origin:    r.origin,
		Absorbed:  r.line.Absorbed,
	}
	if r.rn != nil {
		if ok, missing := r.majority(); !ok {
			s.Missing = missing
		}
	}
	s.Fetch, s.LogFirst = r.fetchStatus(), 1
	if r.rn != nil {
		s.LogFirst, _ = r.log.FirstIndex()
		s.LogLast, _ = r.log.LastIndex()
		s.LogBytes = r.log.Size()
		s.LogCut = s.LogFirst > firstIndex+1
	}
	if r.table != nil {
		s.Member = MemberID(r.self)
		for _, row := range r.table.All() {
			m := Member{ID: MemberID(row.ID), Peer: row.Peer, Preference: Preference(row.Preference), Voter: row.Voter, Durable: row.Durable}
			if row.ID == r.self {
				m.Reachable, m.LastSeen = true, r.now
			} else if p := r.peers[row.Peer]; p != nil {
				m.Reachable, m.LastSeen = p.up && r.provenDead(row) == "", p.seen
			}
			if row.Voter {
				s.Voters++
			}
			s.Members = append(s.Members, m)
		}
	}
	if !online {
		s.Reason = r.why()
	}
	if r.status != nil && !r.refresh && sameStatus(r.status, s) {
		return nil
	}
	r.refresh = false
	r.status = s
	return s
}

// sameStatus reports whether two statuses differ at most in positions and times, which change all the time.
func sameStatus(a, b *Status) bool {
	if a.Role != b.Role || a.Term != b.Term || a.Genesis != b.Genesis || a.Member != b.Member || a.Leader != b.Leader ||
		a.Online != b.Online || a.Voters != b.Voters || a.Reason != b.Reason || a.Note != b.Note ||
		len(a.Absorbed) != len(b.Absorbed) || len(a.Missing) != len(b.Missing) || len(a.Members) != len(b.Members) {
		return false
	}
	if (a.Fetch == nil) != (b.Fetch == nil) || a.Fetch != nil && *a.Fetch != *b.Fetch {
		return false
	}
	for i := range a.Absorbed {
		if a.Absorbed[i] != b.Absorbed[i] {
			return false
		}
	}
	for i := range a.Missing {
		if a.Missing[i].Peer != b.Missing[i].Peer || a.Missing[i].Why != b.Missing[i].Why {
			return false
		}
	}
	for i := range a.Members {
		x, y := a.Members[i], b.Members[i]
		x.LastSeen, y.LastSeen = 0, 0
		if x != y {
			return false
		}
	}
	return true
}

func (r *Replica) roleNow() Role {
	switch {
	case r.rn == nil:
		return RoleBlank
	case r.role == raft.StateLeader:
		return RoleLeader
	case r.role == raft.StateCandidate || r.role == raft.StatePreCandidate:
		return RoleCandidate
	case !r.isVoter():
		return RoleLearner
	default:
		return RoleFollower
	}
}

// why says in words why the group is not online here.
func (r *Replica) why() string {
	switch {
	case r.fatal != nil:
		return r.fatal.Error()
	case r.ended:
		return "stopped"
	case r.rn == nil:
		return r.whyBlank()
	case r.lead == 0:
		return r.whyNoLeader()
	case r.isLeader():
		return "elected, and waiting for a majority to confirm the new term"
	default:
		if why := r.whyFetching(); why != "" {
			return why
		}
		return "catching up with the leader's log"
	}
}

func (r *Replica) whyBlank() string {
	blank, histories := 1, 0
	for _, who := range r.bonded() {
		if h := r.peers[who].hello; h != nil && !h.Genesis.IsZero() {
			histories++
		} else if h != nil && h.Preference != member.Observer {
			blank++
		}
	}
	switch {
	case histories > 0:
		return "joining: waiting for the leader to take this member in"
	case r.former && r.cfg.Durable:
		return "removed from the group; waiting for a member to join it again, since founding a second history would put the first at risk"
	case r.cfg.Preference == Observer:
		return "waiting for a member that is not an observer"
	case blank < genesis.Quorum(r.cfg.Expect):
		return fmt.Sprintf("waiting for %d of %d expected members to see each other, %d do", genesis.Quorum(r.cfg.Expect), r.cfg.Expect, blank)
	case r.whyBound() != "":
		return r.whyBound()
	default:
		return r.whyNotFounded(blank - 1)
	}
}

// whyNotFounded speaks of members that could found the group and have not yet.
func (r *Replica) whyNotFounded(others int) string {
	here := "no other member is here yet"
	switch {
	case others == 1:
		here = "1 other new member is here"
	case others > 1:
		here = fmt.Sprintf("%d other new members are here", others)
	}
	return fmt.Sprintf("%s, and no group yet: one is founded after %v of looking for it", here, r.foundDelay())
}

func (r *Replica) whyNoLeader() string {
	voters := r.table.Voters()
	ok, missing := r.majority()
	here, need := max(voters-len(missing), 0), voters/2+1
	if ok {
		return fmt.Sprintf("no leader: an election is under way among %d of %d voters", here, voters)
	}
	var names []string
	for _, m := range missing {
		names = append(names, m.Peer.Short()+" ("+m.Why+")")
	}
	text := fmt.Sprintf("no majority: %d of %d voters are here, %d are needed; missing: %s", here, voters, need, strings.Join(names, ", "))
	switch lost := r.provenLost(); {
	case r.replaying():
		text += "; but this member has yet to go through its log, and the voters may be others by now"
	case r.recovery.sealed(r.now):
		text += "; recovering: the survivors stand still until one of them goes on"
	case lost:
		text += "; those cannot come back, so the group goes on without them once all other members are here"
	case r.cfg.AvailabilityFirst > 0:
		text += fmt.Sprintf("; the group goes on without them after %v", r.cfg.AvailabilityFirst)
	}
	return text
}

// note says in words what else is going on with the history.
func (r *Replica) note() string {
	switch {
	case r.rn == nil:
		return ""
	case r.line.Phase == genesis.Frozen:
		return fmt.Sprintf("merging into history %x: commands wait", r.line.Into[:5])
	case !r.met:
		return ""
	}
	var rivals []wire.Genesis
	led := make(map[wire.Genesis]bool)
	for _, who := range r.bonded() {
		h := r.peers[who].hello
		if h == nil || h.Genesis.IsZero() || h.Genesis == r.genesis || r.isGone(h.Genesis) {
			continue
		}
		if !slices.Contains(rivals, h.Genesis) {
			rivals = append(rivals, h.Genesis)
		}
		led[h.Genesis] = led[h.Genesis] || !h.Leader.IsZero()
	}
	if len(rivals) == 0 {
		return ""
	}
	texts := make([]string, len(rivals))
	for i, g := range rivals {
		texts[i] = fmt.Sprintf("%x", g[:5])
		switch {
		case r.lead == 0:
		case led[g]:
			texts[i] += " (will be merged)"
		default:
			texts[i] += " (has no leader: it will be merged once it has a majority, or is recovered)"
		}
	}
	list := strings.Join(texts, ", ")
	if r.lead == 0 {
		return "orphaned: other histories of the group are in sight (" + list + "), and this one cannot merge with them until it has a majority, or is recovered"
	}
	return "other histories of the group are in sight: " + list
}
