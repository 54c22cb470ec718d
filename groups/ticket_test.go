package groups_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
	"github.com/mosaik-go/mosaik/tickets"
)

// word accepts tickets that hold the word.
type word string

func (w word) Class() id.ID     { return id.Of("groups test ticket") }
func (w word) Signature() id.ID { return id.Of("groups test ticket for " + string(w)) }

func (w word) Validate(_ context.Context, data []byte, _ tickets.Subject) (tickets.Expiration, error) {
	if string(data) != string(w) {
		return tickets.Expiration{}, errors.New("the word is wrong")
	}
	return tickets.Expiration{}, nil
}

// Only members whose ticket the group's validator accepts bond; a ticket that is withdrawn ends the bond.
func TestRequireTicket(t *testing.T) {
	simulated(t, 4, func(t *testing.T, net *testnet.Sim) {
		v := word("open sesame")
		for i, text := range []string{"open sesame", "open sesame", "open barley"} {
			if err := net.Node(i).Discovery().AddTicket(tickets.Ticket{Class: v.Class(), Data: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		var gs []*counterGroup
		for _, node := range net.Nodes() {
			gs = append(gs, join(t, node, groups.KeyOf(v), groups.RequireTicket(v)))
		}
		bonds := func(want ...int) func() bool {
			return func() bool {
				for i, n := range want {
					if len(gs[i].Bonds()) != n {
						return false
					}
				}
				return true
			}
		}
		net.WaitFor("the two with a ticket are bonded", bonds(1, 1, 0, 0))
		time.Sleep(3 * time.Second)
		if !bonds(1, 1, 0, 0)() {
			t.Errorf("bonds after a while: %d %d %d %d", len(gs[0].Bonds()), len(gs[1].Bonds()), len(gs[2].Bonds()), len(gs[3].Bonds()))
		}
		if text := gs[0].Status().String(); !strings.Contains(text, "the word is wrong") || !strings.Contains(text, "carries none") {
			t.Errorf("the status does not explain it: %s", text)
		}
		if id0, id1 := gs[0].ID(), join(t, net.Node(0), groups.KeyOf(v)).ID(); id0 == id1 {
			t.Error("a group without the validator has the same id")
		}
		net.Node(1).Discovery().RemoveTicketsOf(v.Class())
		net.WaitFor("the bond has ended", bonds(0, 0, 0, 0))
	})
}

// A node whose own ticket the group's validator refuses is told so, before it founds the group for itself alone and after;
// with a ticket that passes it finds its way to the others.
func TestOwnTicket(t *testing.T) {
	simulated(t, 3, func(t *testing.T, net *testnet.Sim) {
		v := word("open sesame")
		good := tickets.Ticket{Class: v.Class(), Data: []byte(v)}
		for i := range 2 {
			if err := net.Node(i).Discovery().AddTicket(good); err != nil {
				t.Fatal(err)
			}
		}
		var gs []*counterGroup
		for _, node := range net.Nodes() {
			gs = append(gs, join(t, node, groups.KeyOf(v), groups.RequireTicket(v)))
		}
		refused := func(text string) bool {
			return strings.Contains(text, "own ticket the group's validators refuse") && strings.Contains(text, "carries none")
		}
		net.WaitFor("the reason", func() bool { return refused(gs[2].Status().Reason) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := gs[2].When().Online(ctx); err == nil || !refused(err.Error()) {
			t.Errorf("waiting for online: %v", err)
		}
		net.WaitFor("all are online", func() bool { return gs[0].Status().Online && gs[1].Status().Online && gs[2].Status().Online })
		if st := gs[2].Status(); len(st.Members) != 1 || !refused(st.Note) || !refused(st.String()) {
			t.Errorf("alone, it does not say why: %v", st)
		}
		for _, g := range gs[:2] {
			if st := g.Status(); strings.Contains(st.String(), "own ticket") {
				t.Errorf("a node whose ticket passes: %v", st)
			}
		}
		execute(t, gs[0], 1)
		execute(t, gs[2], 10)
		if err := net.Node(2).Discovery().AddTicket(good); err != nil {
			t.Fatal(err)
		}
		net.WaitFor("three voters of one history", func() bool {
			for _, g := range gs {
				if st := g.Status(); !st.Online || st.Voters != 3 || st.Note != "" || g.Committed() != 2 {
					return false
				}
			}
			return true
		})
		equal(t, "the sum", query(t, gs[1], groups.Strong).Value, 11)
		if err := net.Node(2).Discovery().RemoveTicketsOf(v.Class()); err != nil {
			t.Fatal(err)
		}
		net.WaitFor("the ticket being missed", func() bool {
			return refused(gs[2].Status().Reason) && !gs[2].Status().Online && gs[0].Status().Online
		})
	})
}
