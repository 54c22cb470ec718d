package host

import (
	"fmt"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// whyMost bounds the refusals that are told in one line.
const whyMost = 3

// Why says in words why the group is not online in a state, empty if it is. To what the engine says it adds what that
// cannot know, since it sees only bonds that are up: which peers are refused, and that there are others that may be in
// another group by mistake.
func (g *Group) Why(s *State) string {
	if s.Online || s.Ended != nil {
		return s.Reason
	}
	var b strings.Builder
	b.WriteString(s.Reason)
	if s.Stuck != nil {
		b.WriteString("; " + s.Stuck.text(s.Reason))
	}
	if s.Refused != "" {
		b.WriteString("; " + s.unwelcome())
	}
	if text := g.Slow(s); text != "" {
		b.WriteString("; " + text)
	}
	refused := g.Refusals()
	for i, r := range refused {
		if i == whyMost {
			fmt.Fprintf(&b, "; and no bond to %d more", len(refused)-i)
			break
		}
		fmt.Fprintf(&b, "; no bond to %s: %s", r.Peer.Short(), r)
	}
	if s.Role == core.RoleBlank && len(s.Bonds) == 0 && len(refused) == 0 {
		if n := g.elsewhere(); n > 0 {
			fmt.Fprintf(&b, "; no peer announces this group, and %d announce others: "+
				"members need the same key, machine signature, consensus settings, ExpectMembers and validators", n)
		}
	}
	return b.String()
}

// Note says in words what else is going on, empty most of the time.
func (g *Group) Note(s *State) string {
	if s.Ended != nil {
		return ""
	}
	var notes []string
	if s.Note != "" {
		notes = append(notes, s.Note)
	}
	if s.Stuck != nil && s.Online {
		notes = append(notes, "this member lags, and cannot get the state of the group: it "+s.Stuck.String())
	}
	if text := g.orphans(); text != "" {
		notes = append(notes, text)
	}
	if s.Differs != "" {
		notes = append(notes, "this member's state may not be that of the group: "+s.Differs)
	}
	if text := g.Slow(s); text != "" && s.Online {
		notes = append(notes, text)
	}
	if s.Refused != "" && s.Online {
		notes = append(notes, s.unwelcome())
	}
	if u := s.Unwritten; u != nil {
		notes = append(notes, fmt.Sprintf("this member cannot write out its state for those who need it, for %v: %v",
			(g.svc.now()-u.Since).Round(time.Second), u.Err))
	}
	if text := g.unheeded(s); text != "" {
		notes = append(notes, text)
	}
	if text := g.svc.strangers(); text != "" {
		notes = append(notes, text)
	}
	return strings.Join(notes, "; ")
}

var preferences = map[core.Preference]string{core.Normal: "Normal", core.Reluctant: "Reluctant", core.Observer: "Observer"}

// unheeded says in words that the group has another preference of this member than it was started with: a durable member
// keeps the one with which it joined.
func (g *Group) unheeded(s *State) string {
	want := g.cfg.Engine.Preference
	for _, m := range s.Members {
		if m.ID == s.Member && m.Preference != want {
			return fmt.Sprintf("this member was started with the preference %s, and the group has it with %s since it joined: "+
				"Leave, and join again, to change that (the state is with the others; a sole member would lose it)", preferences[want], preferences[m.Preference])
		}
	}
	return ""
}

// unwelcome says in words that the group's validators refuse this node itself.
func (s *State) unwelcome() string {
	return "no member bonds with this node, whose own ticket the group's validators refuse: " + s.Refused
}

// elsewhere returns how many peers are in groups and not in this one, zero if some are in this one.
func (g *Group) elsewhere() int {
	n := 0
	for p := range g.svc.node.Disc.Catalog().Peers() {
		switch {
		case p.HasGroup(g.cfg.ID):
			return 0
		case len(p.Groups()) > 0:
			n++
		}
	}
	return n
}
