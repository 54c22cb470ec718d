package host

import (
	"testing"

	"github.com/mosaik-go/mosaik/id"
)

func TestEventText(t *testing.T) {
	t.Parallel()
	one, two := id.PeerID{1}, id.PeerID{2}
	for _, c := range []struct {
		ev   Event
		want string
	}{
		{Event{Kind: LeaderChanged, Peer: one}, "leader changed: " + one.Short()},
		{Event{Kind: LeaderChanged}, "leader changed: nobody leads"},
		{Event{Kind: WentOnline}, "went online"},
		{Event{Kind: WentOffline, Reason: "why"}, "went offline: why"},
		{Event{Kind: BondDown, Peer: two, Reason: "why"}, "bond down: " + two.Short() + ": why"},
		{Event{Kind: Lagged, Missed: 7}, "lagged: 7 events were missed"},
		{Event{Kind: Merged, From: "a", Into: "b", Commands: 1}, "merged: history a with 1 command is part of b"},
		{Event{Kind: Divergence, From: "a", Into: "b", Commands: 2}, "divergence: 2 commands of history a not taken over into b"},
		{
			Event{Kind: Forked, From: "a", Into: "b", Lost: []id.PeerID{one}, Lossy: true, Reason: "why"},
			"forked: from history a, which lost 1 voter, to b; acknowledged commands may be missing: why",
		},
		{Event{Kind: QuorumLost, Lost: []id.PeerID{one, two}}, "quorum lost: without " + one.Short() + ", " + two.Short()},
		{Event{}, "unknown event"},
	} {
		if got := c.ev.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
