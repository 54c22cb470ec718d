package groups_test

import (
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/testnet"
	"github.com/mosaik-go/mosaik/tickets"
)

// Members that do not agree on what makes a group are in different ones. What each of them says of that is a hint, since
// the others may well mean to be in another.
func TestOthersAreElsewhere(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		a := join(t, net.Node(0), groups.KeyFrom("key"), groups.ExpectMembers(2))
		net.WaitFor("it waits alone", func() bool {
			why := a.Status().Reason
			return strings.Contains(why, "2 of 2 expected members") && !strings.Contains(why, "announce")
		})
		join(t, net.Node(1), groups.KeyFrom("Key"), groups.ExpectMembers(2))
		net.WaitFor("it sees that the other is elsewhere", func() bool {
			return strings.Contains(a.Status().Reason, "no peer announces this group, and 1 announce others")
		})
	})
}

// A text that was forgotten is not a key that everybody has.
func TestNoKey(t *testing.T) {
	simulated(t, 1, func(t *testing.T, net *testnet.Sim) {
		if k := groups.KeyFrom(""); !k.IsZero() {
			t.Errorf("the empty text gives %v", k)
		}
		if _, err := groups.Join(net.Node(0), groups.KeyFrom(""), newCounter); err == nil || !strings.Contains(err.Error(), "key") {
			t.Errorf("joined with no key: %v", err)
		}
	})
}

// A voter that is there and refused is not called unreachable.
func TestMissingAndRefused(t *testing.T) {
	simulated(t, 2, func(t *testing.T, net *testnet.Sim) {
		v := word("open sesame")
		ticket := tickets.Ticket{Class: v.Class(), Data: []byte(v)}
		var gs []*counterGroup
		for _, node := range net.Nodes() {
			if err := node.Discovery().AddTicket(ticket); err != nil {
				t.Fatal(err)
			}
			gs = append(gs, join(t, node, groups.KeyOf(v), groups.RequireTicket(v)))
		}
		net.WaitFor("both vote", func() bool { return gs[0].Status().Voters == 2 && gs[1].Status().Voters == 2 })
		if err := net.Node(1).Discovery().RemoveTicket(ticket.ID()); err != nil {
			t.Fatal(err)
		}
		net.WaitFor("the status says why the other is missing", func() bool {
			st := gs[0].Status()
			return !st.Online && strings.Contains(st.Reason, "no bond to "+net.Node(1).ID().Short()+": ") && strings.Contains(st.Reason, "carries none") &&
				len(st.Missing) == 1 && strings.Contains(st.Missing[0].Why, "carries none")
		})
	})
}
