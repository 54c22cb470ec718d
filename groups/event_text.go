package groups

import (
	"fmt"
	"strings"
)

// String says in a line what happened, for people.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	switch e.Kind {
	case LeaderChanged:
		if e.Peer.IsZero() {
			b.WriteString(": nobody leads")
		}
	case Lagged:
		fmt.Fprintf(&b, ": %d events were missed", e.Missed)
	case Merged:
		fmt.Fprintf(&b, ": history %s with %s is part of %s", e.From, count(e.Commands, "command"), e.Into)
	case Diverged:
		fmt.Fprintf(&b, ": %s of history %s not taken over into %s", count(e.Commands, "command"), e.From, e.Into)
	case Forked:
		fmt.Fprintf(&b, ": from history %s, which lost %s, to %s", e.From, count(len(e.Lost), "voter"), e.Into)
		if e.Lossy {
			b.WriteString("; acknowledged commands may be missing")
		}
	case QuorumLost:
		for i, p := range e.Lost {
			b.WriteString([]string{": without ", ", "}[min(i, 1)] + p.Short())
		}
	}
	if !e.Peer.IsZero() {
		b.WriteString(": " + e.Peer.Short())
	}
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
