package groups

import (
	"fmt"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/host"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Role is what a member does in the consensus protocol.
type Role uint8

const (
	// Joining members look for the group, or found it.
	Joining Role = iota
	// Learner members hold the state without a vote: observers, and voters to be.
	Learner
	// Follower members vote and follow a leader, if there is one.
	Follower
	// Candidate members ask to be elected.
	Candidate
	// Leader is the one member that orders commands.
	Leader
)

var roleNames = [...]string{"joining", "learner", "follower", "candidate", "leader"}

// String returns the name of the role.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

var roles = map[core.Role]Role{
	core.RoleBlank:     Joining,
	core.RoleLearner:   Learner,
	core.RoleFollower:  Follower,
	core.RoleCandidate: Candidate,
	core.RoleLeader:    Leader,
}

// Member is one member of the group, as agreed on by the group.
type Member struct {
	Peer       PeerID
	Preference Preference
	Voter      bool
	Leader     bool
	Durable    bool      // keeps its log on disk, see [WithStorage]
	Reachable  bool      // as this member sees it; true for itself
	LastSeen   time.Time // by this member, zero if never
}

// Bond is a proven connection of this member to another.
type Bond struct {
	Peer  PeerID
	Since time.Time
	RTT   time.Duration // zero while unknown
}

// Refusal says which peer of the group this member has no bond with, and why.
type Refusal struct {
	Peer   PeerID
	Reason string
	Since  time.Time
	Retry  time.Time // not tried again before, unless the peer tries or its entry changes
}

// Status is what a member knows about itself and its group at one moment.
type Status struct {
	Group     id.ID
	Self      PeerID
	Role      Role
	Term      uint64
	Leader    PeerID // zero while unknown
	Online    bool   // the group takes commands here
	Reason    string // in words, why it does not; empty when it does
	Since     time.Time
	Committed Index      // applied here
	Genesis   string     // short name of the history that this member is part of, empty before there is one
	Lineage   []Ancestor // how that history came about, the latest first
	Note      string     // in words, what else is going on, such as a merge; empty most of the time
	Missing   []Missing  // voters without whom there is no majority; empty while there is one
	Voters    int
	Members   []Member
	Bonds     []Bond
	Refused   []Refusal
	Failed    error // why the group is over on this node, nil while it is not

	// Fetched and FetchTotal are the bytes of state that were fetched from other members, and all of them, while that goes
	// on; FetchTotal is zero otherwise, and while it is not known.
	Fetched, FetchTotal int64

	LogEntries int   // in this member's log, a second ago at most
	LogBytes   int64 // of those entries
	LogCut     bool  // earlier entries were given up: who needs them gets the state from this member instead
}

// Ancestor is a history that the present one goes back to.
type Ancestor struct {
	History  string // short name
	Commands Index  // how many it had when it was left, or merged
	How      Descent
	Lossy    bool // commands that were acknowledged in it may be missing: of a merge, see [Group.Divergences]
}

// Descent says how a history became part of another one.
type Descent uint8

const (
	// MergedInto histories gave way to the present one, which took in their commands.
	MergedInto Descent = iota
	// ForkedByProof histories were left because their majority was proven never to come back.
	ForkedByProof
	// ForkedByOrder histories were left because somebody called Recover.
	ForkedByOrder
	// ForkedForAvailability histories were left because of [AvailabilityFirst].
	ForkedForAvailability
)

var descents = [...]string{"merged", "left, its majority was proven dead", "left, by order", "left, for availability"}

// String returns the descent in words.
func (d Descent) String() string {
	if int(d) < len(descents) {
		return descents[d]
	}
	return fmt.Sprintf("descent %d", uint8(d))
}

func lineage(absorbed []genesis.Absorption, origin *wire.Origin) []Ancestor {
	var out []Ancestor
	for i := len(absorbed) - 1; i >= 0; i-- {
		if a := absorbed[i]; a.Booked {
			out = append(out, Ancestor{History: host.HistoryName(a.From), Commands: Index(a.Commands), How: MergedInto, Lossy: a.Lost})
		}
	}
	for _, p := range origin.Parents {
		out = append(out, Ancestor{
			History: host.HistoryName(p.Genesis), Commands: Index(p.Commands), How: ForkedByProof + Descent(p.Reason) - 1, Lossy: p.Lossy,
		})
	}
	return out
}

// ID, Leader, IsLeader, Committed, Members and Bonds are parts of the Status that cost less to ask for.

// Leader returns the leader, if one is known.
func (g *Group[C, Q, R]) Leader() (PeerID, bool) {
	l := g.host.State().Leader
	return l, !l.IsZero()
}

// IsLeader reports whether this member leads.
func (g *Group[C, Q, R]) IsLeader() bool { return leading(g.host.State()) }

// Committed returns the index of the last command applied here.
func (g *Group[C, Q, R]) Committed() Index { return Index(g.host.Applied()) }

// Members returns the members, this one included, by peer id. It is empty while this member has not joined yet.
func (g *Group[C, Q, R]) Members() []Member { return members(g.host, g.host.State()) }

// Bonds returns the bonds that are up, by peer id.
func (g *Group[C, Q, R]) Bonds() []Bond { return bonds(g.host, g.host.State()) }

// Status returns what this member knows. It works on a closed group too.
func (g *Group[C, Q, R]) Status() Status {
	s := g.host.State()
	st := Status{
		Group:     g.host.ID(),
		Self:      g.self,
		Role:      roles[s.Role],
		Term:      s.Term,
		Leader:    s.Leader,
		Online:    s.Online,
		Reason:    g.host.Why(s),
		Since:     g.host.Time(s.Since),
		Committed: g.Committed(),
		Voters:    s.Voters,
		Members:   members(g.host, s),
		Bonds:     bonds(g.host, s),
		Failed:    s.Ended,
		Genesis:   host.HistoryName(s.Genesis),
		Lineage:   lineage(s.Absorbed, &s.Origin),
		Note:      g.host.Note(s),
		Missing:   missing(g.host, s.Missing),
	}
	if s.Fetch != nil {
		st.Fetched, st.FetchTotal = s.Fetch.Done, s.Fetch.Total
	}
	st.LogEntries, st.LogBytes = int(s.LogLast+1-s.LogFirst), s.LogBytes
	st.LogCut = s.LogCut
	for _, r := range g.host.Refusals() {
		st.Refused = append(st.Refused, Refusal{Peer: r.Peer, Reason: r.String(), Since: r.Since, Retry: r.Retry})
	}
	return st
}

func members(g *host.Group, s *host.State) []Member {
	out := make([]Member, 0, len(s.Members))
	for _, m := range s.Members {
		out = append(out, Member{
			Peer:       m.Peer,
			Preference: Preference(m.Preference),
			Voter:      m.Voter,
			Leader:     m.Peer == s.Leader,
			Durable:    m.Durable,
			Reachable:  m.Reachable,
			LastSeen:   g.Time(m.LastSeen),
		})
	}
	return out
}

func bonds(g *host.Group, s *host.State) []Bond {
	out := make([]Bond, 0, len(s.Bonds))
	for _, b := range s.Bonds {
		rtt, _ := g.RTT(b.Peer)
		out = append(out, Bond{Peer: b.Peer, Since: b.Since, RTT: rtt})
	}
	return out
}

// String explains the status in a few lines, for people.
func (s Status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "group %s on %s: ", s.Group.Short(), s.Self.Short())
	switch {
	case s.Failed != nil:
		fmt.Fprintf(&b, "over: %v", s.Failed)
	case s.Online:
		fmt.Fprintf(&b, "online as %v", s.Role)
	default:
		fmt.Fprintf(&b, "offline as %v: %s", s.Role, s.Reason)
	}
	if !s.Since.IsZero() {
		fmt.Fprintf(&b, ", for %v", time.Since(s.Since).Round(time.Second))
	}
	fmt.Fprintf(&b, "\n  term %d, ", s.Term)
	if s.Leader.IsZero() {
		b.WriteString("no leader known")
	} else {
		fmt.Fprintf(&b, "led by %s", s.Leader.Short())
	}
	fmt.Fprintf(&b, ", %d commands applied, %d of %d members vote", s.Committed, s.Voters, len(s.Members))
	if s.Note != "" {
		fmt.Fprintf(&b, "\n  %s", s.Note)
	}
	for _, a := range s.Lineage {
		fmt.Fprintf(&b, "\n  goes back to history %s with %d commands: %v", a.History, a.Commands, a.How)
		if a.Lossy {
			b.WriteString("; acknowledged commands may be missing")
		}
	}
	for _, m := range s.Members {
		if m.Reachable || m.Peer == s.Self {
			continue
		}
		what := "member"
		if m.Voter {
			what = "voter"
		}
		fmt.Fprintf(&b, "\n  %s %s is not reachable", what, m.Peer.Short())
		if !m.LastSeen.IsZero() {
			fmt.Fprintf(&b, ", last seen %v ago", time.Since(m.LastSeen).Round(time.Second))
		}
	}
	if s.Online || s.Failed != nil { // otherwise the reason has them
		for _, r := range s.Refused {
			fmt.Fprintf(&b, "\n  no bond to %s: %s", r.Peer.Short(), r.Reason)
		}
	}
	return b.String()
}
