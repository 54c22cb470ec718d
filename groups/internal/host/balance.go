package host

import (
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// Where nodes share many groups, each should lead its part of them. Elections see to that by themselves as long as nodes come
// and go together, since members take turns in an order that differs from group to group. But a node that was alone at
// first, or that outlived others, leads more than its part. It then gives leadership away, a few groups at a time, to the
// nodes that lead the fewest. It decides that alone, by what it sees of the groups that it is in, and stops well before its part: so
// two nodes never hand the same group back and forth, and a few groups are left where they are.

const (
	balanceEvery = 10               // ticks
	balanceAfter = 10 * time.Second // a leader, and the bond to a successor, must be at least so old
	balanceSlack = 4                // groups that a node leads beyond its part without giving any away, or an eighth of its part
	balancePart  = 8                // of what is too much, one in so many is given away at a time
)

// seat is one group's leadership, as the balance sees it.
type seat struct {
	leader  id.PeerID
	voters  []id.PeerID // those that could lead, the leader among them
	movable bool        // it may be given away, to any of them
}

// handover is a leadership to give away.
type handover struct {
	seat int
	to   id.PeerID
}

// balance decides which of the groups that self leads others should lead.
func balance(self id.PeerID, seats []seat) []handover {
	leads := make(map[id.PeerID]int)
	share := 0.0
	for i := range seats {
		s := &seats[i]
		leads[s.leader]++
		for _, v := range s.voters {
			if v == self {
				share += 1 / float64(len(s.voters))
			}
		}
	}
	excess := float64(leads[self]) - share
	if excess < max(balanceSlack, share/8)+0.5 { // parts of a group are nothing to move
		return nil
	}
	var out []handover
	for i := range seats {
		s := &seats[i]
		if s.leader != self || !s.movable {
			continue
		}
		to := self
		for _, v := range s.voters {
			if leads[v]+2 <= leads[self] && leads[v] < leads[to] {
				to = v
			}
		}
		if to == self {
			continue
		}
		leads[self]--
		leads[to]++
		out = append(out, handover{i, to})
		if len(out) >= max(1, int(excess/balancePart)) {
			break
		}
	}
	return out
}

// balance gives leaderships away if this node leads far more than its part of the groups that it is in.
func (s *Service) balance(all []*Group) {
	if len(all) <= balanceSlack {
		return
	}
	now := time.Now()
	seats := make([]seat, len(all))
	for i, g := range all {
		seats[i] = g.seat(now)
	}
	for _, h := range balance(s.node.ID(), seats) {
		all[h.seat].handOver(h.to)
	}
}

// seat describes the group's leadership. If nothing is known of it no one leads and no one could.
func (g *Group) seat(now time.Time) seat {
	st := g.State()
	if !st.Online || st.Ended != nil {
		return seat{}
	}
	x := seat{leader: st.Leader, movable: st.Note == "" && now.Sub(g.Time(st.LedSince)) >= balanceAfter}
	for i := range st.Members {
		if m := &st.Members[i]; m.Voter && m.Reachable && m.Preference == core.Normal {
			x.voters = append(x.voters, m.Peer)
		}
	}
	for _, b := range st.Bonds {
		x.movable = x.movable && now.Sub(b.Since) >= balanceAfter
	}
	return x
}

// handOver asks the engine to make a peer the leader. Whether that comes about is seen in the state.
func (g *Group) handOver(to id.PeerID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leaving || g.halted || g.dead {
		return
	}
	g.box.asks = append(g.box.asks, &core.Question{Kind: core.AskTransfer, Peer: to, Host: make(chan core.Answer, 1)})
	g.kickLocked()
	g.svc.metrics.handedOver.Inc()
	g.log.Info("gives leadership to a node that leads fewer groups", "to", to.Short())
}
