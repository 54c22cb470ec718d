package groups_test

import (
	"testing"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

func TestEventText(t *testing.T) {
	t.Parallel()
	one, two := id.PeerID{1}, id.PeerID{2}
	for _, c := range []struct {
		ev   groups.Event
		want string
	}{
		{groups.Event{Kind: groups.LeaderChanged, Peer: one}, "leader changed: " + one.Short()},
		{groups.Event{Kind: groups.LeaderChanged}, "leader changed: nobody leads"},
		{groups.Event{Kind: groups.WentOnline}, "went online"},
		{groups.Event{Kind: groups.WentOffline, Reason: "why"}, "went offline: why"},
		{groups.Event{Kind: groups.BondDown, Peer: two, Reason: "why"}, "bond down: " + two.Short() + ": why"},
		{groups.Event{Kind: groups.Lagged, Missed: 7}, "lagged: 7 events were missed"},
		{groups.Event{Kind: groups.Merged, From: "a", Into: "b", Commands: 1}, "merged: history a with 1 command is part of b"},
		{groups.Event{Kind: groups.Diverged, From: "a", Into: "b", Commands: 2}, "divergence: 2 commands of history a not taken over into b"},
		{
			groups.Event{Kind: groups.Forked, From: "a", Into: "b", Lost: []id.PeerID{one}, Lossy: true, Reason: "why"},
			"forked: from history a, which lost 1 voter, to b; acknowledged commands may be missing: why",
		},
		{groups.Event{Kind: groups.QuorumLost, Lost: []id.PeerID{one, two}}, "quorum lost: without " + one.Short() + ", " + two.Short()},
		{groups.Event{}, "unknown event"},
	} {
		if got := c.ev.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
