package overlay

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

var errDown = errors.New("down")

func nobody(id.PeerID) bool { return false }

func at(p id.PeerID, addrs ...string) id.PeerAddr { return id.PeerAddr{ID: p, Addrs: addrs} }

func newContacts() *Contacts { return NewContacts(rand.New(rand.NewPCG(1, 1))) }

// due asks for the contacts that are due, without company.
func due(c *Contacts, now time.Time) []id.PeerAddr {
	out, _ := c.Due(now, nobody, true, 100)
	return out
}

func TestContactsAreTriedInOrder(t *testing.T) {
	t.Parallel()
	c := newContacts()
	c.Add(at(peer(2), "/b"), Bootstrap)
	c.Add(at(peer(1), "/a"), Dialled)
	c.Add(at(peer(3), "/c"), Found)
	got, _ := c.Due(t0, nobody, true, 2)
	if len(got) != 2 || got[0].ID != peer(2) || got[1].ID != peer(1) {
		t.Fatalf("due %v, want the first two", got)
	}
	if more, _ := c.Due(t0, nobody, true, 2); len(more) != 0 {
		t.Errorf("%v are due beyond the limit", more)
	}
	c.Done(peer(2), nil, t0)
	if more, _ := c.Due(t0, nobody, true, 2); len(more) != 1 || more[0].ID != peer(3) {
		t.Errorf("due %v, want the third", more)
	}
}

func TestContactsThatAreKnownAreLeftAlone(t *testing.T) {
	t.Parallel()
	c := newContacts()
	c.Add(at(peer(1)), Bootstrap)
	known := true
	ask := func(now time.Time) []id.PeerAddr {
		out, _ := c.Due(now, func(id.PeerID) bool { return known }, false, 8)
		return out
	}
	if got := ask(t0); len(got) != 0 {
		t.Errorf("due %v", got)
	}
	known = false
	if got := ask(t0); len(got) != 1 {
		t.Errorf("a contact that fell out of the catalog is not tried again")
	}
}

func TestContactRetries(t *testing.T) {
	t.Parallel()
	c := newContacts()
	c.Add(at(peer(1), "/a"), Bootstrap)
	now := t0
	for n := range 40 {
		if got := due(c, now); len(got) != 1 {
			t.Fatalf("attempt %d: due %v", n, got)
		}
		c.Done(peer(1), errDown, now)
		if got := due(c, now); len(got) != 0 {
			t.Fatalf("attempt %d: tried again at once", n)
		}
		_, next := c.Due(now, nobody, true, 8)
		if pause := next.Sub(now); pause <= 0 || pause > retryMax*5/4 {
			t.Fatalf("attempt %d: the next is in %v", n, pause)
		}
		now = next
	}
	if all := c.All(); len(all) != 1 || all[0].Retry.Fails != 40 || !errors.Is(all[0].Err, errDown) {
		t.Errorf("a bootstrap contact is tried for ever: %+v", all)
	}
	// In company there is no hurry.
	_, next := c.Due(now.Add(-time.Millisecond), nobody, false, 8)
	if next.Sub(now) < retryInCompany-time.Second {
		t.Errorf("in company the next attempt is in %v", next.Sub(now))
	}
	// A new address, or news of the peer, makes it due at once.
	c.Done(peer(1), errDown, now)
	c.Add(at(peer(1), "/b"), Found)
	if got := due(c, now); len(got) != 1 || !slices.Equal(got[0].Addrs, []string{"/a", "/b"}) {
		t.Errorf("with a new address: due %v", got)
	}
	c.Done(peer(1), errDown, now)
	c.Add(at(peer(1), "/b"), Found)
	if got := due(c, now); len(got) != 0 {
		t.Errorf("with nothing new: due %v", got)
	}
	c.Hurry(peer(1))
	if got := due(c, now); len(got) != 1 {
		t.Errorf("after news: due %v", got)
	}
}

func TestFoundContactsAreGivenUp(t *testing.T) {
	t.Parallel()
	c := newContacts()
	c.Add(at(peer(1)), Found)
	c.Add(at(peer(2)), Dialled)
	for n := range giveUpAfter {
		now := t0.Add(time.Duration(n) * time.Hour)
		if got := due(c, now); len(got) != 2 {
			t.Fatalf("attempt %d: due %v", n, got)
		}
		c.Done(peer(1), errDown, now)
		c.Done(peer(2), errDown, now)
	}
	if all := c.All(); len(all) != 1 || all[0].Addr.ID != peer(2) {
		t.Errorf("left are %+v, want the dialled one", all)
	}
	c.Done(peer(1), nil, t0) // too late, and harmless
}

func TestContactsAreBounded(t *testing.T) {
	t.Parallel()
	c := newContacts()
	c.Add(at(peer(0)), Bootstrap)
	c.Add(at(peer(1)), Dialled)
	c.Add(at(peer(2)), Found)
	due(c, t0) // all are being tried, and stay
	for n := 3; n < 1000; n++ {
		c.Add(at(peer(n)), Found)
	}
	all := c.All()
	if len(all) != MaxContacts+1 {
		t.Fatalf("%d contacts, want %d and a bootstrap one", len(all), MaxContacts)
	}
	for n := range 3 {
		if all[n].Addr.ID != peer(n) {
			t.Errorf("contact %d was forgotten while it was being tried", n)
		}
	}
	if last := all[len(all)-1].Addr.ID; last != peer(999) {
		t.Errorf("the newest is %v", last)
	}
	for n := 2000; n < 2600; n++ {
		c.Add(at(peer(n)), Bootstrap) // those that the node was opened with are all kept
	}
	if got := len(c.All()); got != MaxContacts+601 {
		t.Errorf("%d contacts after 600 more bootstrap ones", got)
	}
	for n := range 50 {
		c.Add(at(peer(0), "/"+peer(n).String()), Found)
	}
	if got := len(c.All()[0].Addr.Addrs); got != maxAddrs {
		t.Errorf("%d addresses of one contact, want %d", got, maxAddrs)
	}
}

// However many peers a node was opened with, there is room for those that it is told of later.
func TestBootstrapContactsLeaveRoom(t *testing.T) {
	t.Parallel()
	c := newContacts()
	for n := range MaxContacts + 10 {
		c.Add(at(peer(n)), Bootstrap)
	}
	c.Add(at(peer(1000)), Dialled)
	if all := c.All(); len(all) != MaxContacts+11 {
		t.Errorf("%d contacts, want %d bootstrap ones and the dialled one", len(all), MaxContacts+10)
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	c := newContacts()
	c.Add(at(peer(1)), Dialled)
	c.Claim(peer(1))
	c.Claim(peer(2)) // unknown
	if got := due(c, t0); len(got) != 0 {
		t.Errorf("due %v, though somebody is at it", got)
	}
	c.Done(peer(1), errDown, t0)
	if got := due(c, t0.Add(time.Hour)); len(got) != 1 {
		t.Error("not tried again after a failure")
	}
}

func TestOriginNames(t *testing.T) {
	t.Parallel()
	for o, want := range map[Origin]string{Found: "found", Dialled: "dialled", Bootstrap: "bootstrap"} {
		if o.String() != want {
			t.Errorf("%d is called %q, want %q", o, o, want)
		}
	}
	c := newContacts()
	c.Add(at(peer(1)), Bootstrap)
	c.Add(at(peer(1)), Found)
	if got := c.All()[0].Origin; got != Bootstrap {
		t.Errorf("a bootstrap contact that was found too is called %v", got)
	}
}
