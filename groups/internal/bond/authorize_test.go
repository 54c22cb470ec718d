package bond

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
	"github.com/mosaik-go/mosaik/tickets"
)

// needTicket accepts entries with a ticket whose data is the time it expires at, as text.
func needTicket(l *Local) {
	l.Authorize = func(_ context.Context, e Listing) (tickets.Expiration, error) {
		if e.Entry == nil || len(e.Entry.Tickets()) == 0 {
			return tickets.Expiration{}, errors.New("no ticket")
		}
		switch data := string(e.Entry.Tickets()[0].Data); data {
		case "forever":
			return tickets.Expiration{}, nil
		case "panic":
			panic("validator")
		default:
			at, err := time.Parse(time.RFC3339, data)
			return tickets.Expiration{At: at}, err
		}
	}
}

func ticket(data string) tickets.Entry { return entryOf(tickets.Ticket{Data: []byte(data)}) }

// told returns the latest that a sink was told of the own entry.
func told(s *testSink) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judged
}

// Only peers whose tickets are accepted are bonded, for as long as they are.
func TestTickets(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1, n2, n3 := w.node(), w.node(), w.node(), w.node()
		g := id.Of("g")
		sinks := []*testSink{n0.join(g, needTicket), n1.join(g, needTicket), n2.join(g, needTicket), n3.join(g, needTicket)}
		n0.list(g, ticket("forever"))
		n1.list(g, ticket("forever"))
		n3.list(g, ticket("panic"))
		w.within(5*time.Second, "the two with tickets are bonded", bonded(sinks[0], sinks[1]))
		time.Sleep(30 * time.Second)
		for i, s := range sinks {
			want := 1 - i/2
			if up, _, _, _ := s.count(); up != want {
				t.Errorf("node %d has %d bonds, want %d", i, up, want)
			}
		}
		var reasons []string
		for _, r := range n0.mesh.Refusals(g) {
			reasons = append(reasons, r.String())
			if r.Code != link.CodeGroupNotAllowed {
				t.Errorf("refusal: %v", r)
			}
		}
		if all := strings.Join(reasons, "; "); !strings.Contains(all, "no ticket") {
			t.Errorf("reasons: %s", all)
		}

		// They may have been judged before they had a ticket.
		if got := told(sinks[0]); got != "" {
			t.Errorf("one with a good ticket is told %q", got)
		}
		if got := told(sinks[3]); !strings.Contains(got, "panicked") {
			t.Errorf("one whose own ticket is refused is told %q", got)
		}

		// Given later, a ticket opens the door.
		n2.list(g, ticket("forever"))
		w.within(5*time.Second, "the third is bonded", bonded(sinks[0], sinks[1], sinks[2]))

		// Withdrawn, it closes it.
		n1.list(g, nil)
		w.within(5*time.Second, "the second is out, and knows why", func() bool {
			return told(sinks[1]) == "no ticket" && sinks[0].bond(n1) == nil && sinks[1].bond(n0) == nil && sinks[0].bond(n2) != nil
		})
	})
}

// An expired ticket ends the bond; one renewed in time does not interrupt it.
func TestTicketExpiry(t *testing.T) {
	inWorld(t, simnet.Options{}, func(t *testing.T, w *world) {
		n0, n1 := w.node(), w.node()
		g := id.Of("g")
		s0, s1 := n0.join(g, needTicket), n1.join(g, needTicket)
		in := func(d time.Duration) tickets.Entry { return ticket(time.Now().Add(d).Format(time.RFC3339)) }
		n0.list(g, ticket("forever"))
		n1.list(g, in(time.Minute))
		w.within(5*time.Second, "bonded", bonded(s0, s1))
		time.Sleep(50 * time.Second)
		n1.list(g, in(time.Minute))
		time.Sleep(30 * time.Second)
		if up, ups, downs, _ := s0.count(); up != 1 || ups != 1 || downs != 0 {
			t.Fatalf("renewed in time: %d bonds, %d ups, %d downs", up, ups, downs)
		}
		w.within(40*time.Second, "the bond ends with the ticket", func() bool { return s0.bond(n1) == nil })
		w.within(time.Second, "its owner knows", func() bool { return told(s1) == "the ticket has expired" })
		n1.list(g, in(time.Hour))
		w.within(5*time.Second, "a new ticket brings it back", bonded(s0, s1))
		if got := told(s1); got != "" {
			t.Errorf("its owner was told %q", got)
		}
	})
}
