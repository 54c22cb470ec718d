package tickets_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clerk accepts tickets that hold a number of hours, or "never".
type clerk struct{ class string }

var errNoHours = errors.New("no hours")

var day = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func (c clerk) Class() id.ID     { return id.Of(c.class) }
func (c clerk) Signature() id.ID { return id.Of("clerk " + c.class) }

func (c clerk) Validate(ctx context.Context, data []byte, s tickets.Subject) (tickets.Expiration, error) {
	switch {
	case s.Peer != s.Entry.ID() || s.Network.IsZero():
		return tickets.Expiration{}, errors.New("not the subject that was asked about")
	case string(data) == "never":
		return tickets.Expiration{}, nil
	}
	d, err := time.ParseDuration(string(data))
	if err != nil {
		return tickets.Expiration{}, errNoHours
	}
	return tickets.Expiration{At: day.Add(d)}, nil
}

// carrier returns a peer that carries tickets, given as class and content in turn.
func carrier(t *testing.T, of ...string) tickets.Subject {
	t.Helper()
	e := discovery.NewEntry(id.Of("network"), discovery.PeerAddr{ID: id.PeerID{1}})
	for i := 0; i < len(of); i += 2 {
		var err error
		if e, err = e.WithTicket(tickets.Ticket{Class: id.Of(of[i]), Data: []byte(of[i+1])}); err != nil {
			t.Fatal(err)
		}
	}
	return e.Subject()
}

func at(h int) tickets.Expiration {
	return tickets.Expiration{At: day.Add(time.Duration(h) * time.Hour)}
}

// Of several tickets of one class the one that lasts longest counts.
func TestCheck(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		carries []string
		want    tickets.Expiration
		reason  string
	}{
		"one":                      {[]string{"a", "1h"}, at(1), ""},
		"the longest of three":     {[]string{"a", "1h", "a", "3h", "a", "2h"}, at(3), ""},
		"never is longest":         {[]string{"a", "1h", "a", "never", "a", "2h"}, tickets.Expiration{}, ""},
		"bad ones do not matter":   {[]string{"a", "x", "a", "1h", "a", "y"}, at(1), ""},
		"other classes neither":    {[]string{"b", "9h", "a", "1h"}, at(1), ""},
		"none":                     {nil, tickets.Expiration{}, "carries none"},
		"only of another class":    {[]string{"b", "1h"}, tickets.Expiration{}, "carries none"},
		"only one that is no good": {[]string{"a", "x"}, tickets.Expiration{}, "not accepted"},
	} {
		got, err := tickets.Check(ctx, clerk{"a"}, carrier(t, c.carries...))
		if c.reason == "" {
			if err != nil || got != c.want {
				t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
			}
			continue
		}
		if !errors.Is(err, tickets.ErrInvalid) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(err, errNoHours) != (c.reason == "not accepted") {
			t.Errorf("%s: the validator's reason is lost in %v", name, err)
		}
	}
}

// Of several validators all must accept, and the earliest expiration counts.
func TestCheckAll(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	both := []tickets.Validator{clerk{"a"}, clerk{"b"}}
	if got, err := tickets.CheckAll(ctx, nil, carrier(t)); err != nil || !got.Never() {
		t.Errorf("no validators: %v, %v", got, err)
	}
	if got, err := tickets.CheckAll(ctx, both, carrier(t, "a", "2h", "b", "1h")); err != nil || got != at(1) {
		t.Errorf("two: %v, %v", got, err)
	}
	if got, err := tickets.CheckAll(ctx, both, carrier(t, "a", "never", "b", "1h")); err != nil || got != at(1) {
		t.Errorf("one for ever: %v, %v", got, err)
	}
	if _, err := tickets.CheckAll(ctx, both, carrier(t, "a", "2h")); !errors.Is(err, tickets.ErrInvalid) {
		t.Errorf("one is missing: %v", err)
	}
}

func TestExpiration(t *testing.T) {
	t.Parallel()
	never := tickets.Expiration{}
	for _, c := range []struct{ a, b, earlier, later tickets.Expiration }{
		{at(1), at(2), at(1), at(2)}, {at(2), at(1), at(1), at(2)}, {at(1), at(1), at(1), at(1)},
		{never, at(1), at(1), never}, {at(1), never, at(1), never}, {never, never, never, never},
	} {
		if got := c.a.Earlier(c.b); got != c.earlier {
			t.Errorf("the earlier of %v and %v is %v", c.a, c.b, got)
		}
		if got := c.a.Later(c.b); got != c.later {
			t.Errorf("the later of %v and %v is %v", c.a, c.b, got)
		}
	}
	if never.Expired(day) || !at(0).Expired(day) || !at(-1).Expired(day) || at(1).Expired(day) {
		t.Error("Expired does not compare with the time")
	}
}

func TestTicketID(t *testing.T) {
	t.Parallel()
	a := tickets.Ticket{Class: id.Of("a"), Data: []byte("x")}
	if a.ID() != (tickets.Ticket{Class: id.Of("a"), Data: []byte("x")}).ID() {
		t.Error("equal tickets have different ids")
	}
	for _, o := range []tickets.Ticket{{Class: id.Of("b"), Data: []byte("x")}, {Class: id.Of("a"), Data: []byte("y")}, {Class: id.Of("a")}} {
		if o.ID() == a.ID() {
			t.Errorf("%v and %v have one id", a, o)
		}
	}
}
