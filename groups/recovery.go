package groups

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// LeadershipTransfer makes the peer the leader, which must be a voting member that is there and not far behind. It
// returns when this member sees it lead, and fails if that does not happen within about three seconds; calls that are
// under way wait meanwhile and are not lost.
func (g *Group[C, Q, R]) LeadershipTransfer(ctx context.Context, to PeerID) error {
	const op = "groups: transfer leadership"
	if err := g.usable(ctx); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if _, err := g.host.Ask(ctx, g.done, &core.Question{Kind: core.AskTransfer, Peer: to}); err != nil {
		return fmt.Errorf("%s to %s: %w", op, to.Short(), err)
	}
	return nil
}

// Plan is what [Group.Recover] would do: the survivors go on without the voters that are missing.
type Plan struct {
	Needed    bool       // no majority of the voters is there, and this member is offline; otherwise Recover refuses
	History   string     // that would be left
	Survivors []Survivor // members that answer, this one among them
	Missing   []Missing  // voters that do not
	Founder   PeerID     // the survivor whose log is longest: it goes on with that, and the others join it
	Lossless  bool       // no command that was acknowledged can be missing afterwards

	plan *core.Plan
}

// Survivor is a member that a recovery can count on.
type Survivor struct {
	Peer      PeerID
	Voter     bool
	Term      uint64 // of the last entry of its log
	Last      uint64 // position of that entry
	Committed Index  // commands that it knows to be committed
}

// Missing is a voter that is not there.
type Missing struct {
	Peer PeerID
	Why  string
	Dead bool      // it will not come back as the member it was
	Seen time.Time // last contact, zero if never
}

// String explains the plan in a few lines, for people.
func (p Plan) String() string {
	var b strings.Builder
	if !p.Needed {
		b.WriteString("the group has a majority, or has had one until now: there is nothing to recover")
		return b.String()
	}
	fmt.Fprintf(&b, "recovery of history %s: %s goes on", p.History, p.Founder.Short())
	if n := len(p.Survivors) - 1; n > 0 {
		fmt.Fprintf(&b, ", and %d of its members join it", n)
	} else {
		b.WriteString(" by itself")
	}
	if p.Lossless {
		b.WriteString("; nothing that was acknowledged can be missing")
	} else {
		b.WriteString("; commands that only the missing voters have are lost, unless those come back: then they are merged or handed over")
	}
	for _, s := range p.Survivors {
		fmt.Fprintf(&b, "\n  %s survives: log up to %d of term %d, %d commands committed", s.Peer.Short(), s.Last, s.Term, s.Committed)
	}
	for _, m := range p.Missing {
		fmt.Fprintf(&b, "\n  %s is missing: %s", m.Peer.Short(), m.Why)
		if !m.Seen.IsZero() {
			fmt.Fprintf(&b, ", last seen %v ago", time.Since(m.Seen).Round(time.Second))
		}
	}
	return b.String()
}

// RecoveryPlan asks all members that can be reached how far their logs go, which takes two seconds at most, and says what
// Recover would do. It changes nothing.
func (g *Group[C, Q, R]) RecoveryPlan(ctx context.Context) (Plan, error) {
	const op = "groups: plan a recovery"
	if err := g.usable(ctx); err != nil {
		return Plan{}, fmt.Errorf("%s: %w", op, err)
	}
	p, err := g.host.Ask(ctx, g.done, &core.Question{Kind: core.AskPlan})
	if err != nil {
		return Plan{}, fmt.Errorf("%s: %w", op, err)
	}
	out := Plan{
		Needed: p.Needed, History: host.HistoryName(p.Genesis), Missing: missing(g.host, p.Missing), Founder: p.Founder, Lossless: p.Lossless,
		plan: p,
	}
	for _, s := range p.Survivors {
		out.Survivors = append(out.Survivors, survivor(s))
	}
	return out, nil
}

// Recover has the survivors of the plan go on without the voters that are missing. It is the last resort for a group that
// lost its majority: commands that were acknowledged by the missing voters alone are lost, and if those are merely out of
// reach and go on too, the two histories merge when they meet; if both have cut their logs since, one of them is handed
// over, see [Group.Divergences].
//
// Recover refuses if the group has a majority, if the survivors are not those of the plan any more, and if one of them
// sees a leader, as a leader that has just lost its majority does for up to an election timeout. It returns when the
// founder of the plan has been told to go on; wait with When().Online for the rest. If it fails nothing has changed, except
// that after an end of ctx the recovery may still happen.
func (g *Group[C, Q, R]) Recover(ctx context.Context, p Plan) error {
	const op = "groups: recover"
	if err := g.usable(ctx); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if p.plan == nil {
		return fmt.Errorf("%s: the plan is not one of RecoveryPlan", op)
	}
	if _, err := g.host.Ask(ctx, g.done, &core.Question{Kind: core.AskRecover, Plan: p.plan}); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func survivor(s core.Survivor) Survivor {
	return Survivor{Peer: s.Peer, Voter: s.Voter, Term: s.Term, Last: s.Last, Committed: Index(s.Commands)}
}

func missing(g *host.Group, all []core.Missing) []Missing {
	var out []Missing
	refused := make(map[PeerID]string)
	for _, r := range g.Refusals() {
		refused[r.Peer] = r.String()
	}
	for _, m := range all {
		if why, ok := refused[m.Peer]; ok && !m.Dead {
			m.Why = why
		}
		out = append(out, Missing{Peer: m.Peer, Why: m.Why, Dead: m.Dead, Seen: g.Time(m.Seen)})
	}
	return out
}
