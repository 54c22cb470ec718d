package overlay

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// MaxContacts bounds how many contacts are remembered beside those the node was opened with.
const MaxContacts = 256

// maxAddrs bounds the addresses of one contact; the oldest go first.
const maxAddrs = 32

// Origin says where a contact comes from. A later one outranks an earlier one.
type Origin uint8

// The origins.
const (
	Found     Origin = iota + 1 // given up after several failures
	Dialled                     // by the program: tried on and on
	Bootstrap                   // the node was opened with it: tried on and on, never forgotten
)

// retryInCompany is the least pause between attempts to reach a missing contact while there are neighbours. It lets two
// halves of a network that were apart for so long that they forgot each other find together again.
const retryInCompany = 60 * time.Second

// giveUpAfter is how many failures in a row end the attempts to reach a contact that was only found, not given.
const giveUpAfter = 6

// String returns found, dialled or bootstrap.
func (o Origin) String() string {
	switch o {
	case Found:
		return "found"
	case Dialled:
		return "dialled"
	default:
		return "bootstrap"
	}
}

// Contact is a peer that is reached out to because somebody named it.
type Contact struct {
	Addr   id.PeerAddr
	Origin Origin
	Retry  Retry
	Err    error // of the last attempt

	busy bool
	seq  int
}

// Contacts is the list of contacts. A contact that is in the catalog is left alone.
type Contacts struct {
	rng  *rand.Rand
	list map[id.PeerID]*Contact
	seq  int
}

// NewContacts returns an empty list.
func NewContacts(rng *rand.Rand) *Contacts {
	return &Contacts{rng: rng, list: make(map[id.PeerID]*Contact)}
}

// Add adds a contact, or addresses to one. It is due at once if that brought anything new.
func (c *Contacts) Add(addr id.PeerAddr, from Origin) {
	k := c.list[addr.ID]
	if k == nil {
		if from != Bootstrap && len(c.list)-c.count(Bootstrap) >= MaxContacts && !c.forget() {
			return
		}
		c.seq++
		k = &Contact{Addr: id.PeerAddr{ID: addr.ID}, seq: c.seq}
		c.list[addr.ID] = k
	}
	k.Origin = max(k.Origin, from)
	for _, a := range addr.Addrs {
		if !slices.Contains(k.Addr.Addrs, a) {
			k.Addr.Addrs = append(slices.Clone(k.Addr.Addrs), a)
			k.Retry = Retry{}
		}
	}
	if extra := len(k.Addr.Addrs) - maxAddrs; extra > 0 {
		k.Addr.Addrs = k.Addr.Addrs[extra:]
	}
}

// count returns how many contacts are of the origin.
func (c *Contacts) count(of Origin) (n int) {
	for _, k := range c.list {
		if k.Origin == of {
			n++
		}
	}
	return n
}

// forget makes room: it forgets the contact of the lowest origin that was added first and is not being dialled.
func (c *Contacts) forget() bool {
	var first *Contact
	for _, k := range c.list {
		if k.Origin == Bootstrap || k.busy {
			continue
		}
		if first == nil || cmp.Or(cmp.Compare(k.Origin, first.Origin), cmp.Compare(k.seq, first.seq)) < 0 {
			first = k
		}
	}
	if first == nil {
		return false
	}
	delete(c.list, first.Addr.ID)
	return true
}

// Due returns the contacts to try now, at most max of them under way at a time, and when to ask again.
func (c *Contacts) Due(now time.Time, known func(id.PeerID) bool, alone bool, max int) (due []id.PeerAddr, next time.Time) {
	waiting := make([]*Contact, 0, len(c.list))
	for _, k := range c.list {
		switch {
		case k.busy:
			max--
		case known(k.Addr.ID):
			k.Retry, k.Err = Retry{}, nil
		default:
			waiting = append(waiting, k)
		}
	}
	slices.SortFunc(waiting, func(a, b *Contact) int { return cmp.Or(a.Retry.At.Compare(b.Retry.At), cmp.Compare(a.seq, b.seq)) })
	for _, k := range waiting {
		at := k.Retry.At
		if !alone && k.Retry.Fails > 0 && !at.IsZero() {
			at = at.Add(retryInCompany)
		}
		if now.Before(at) {
			next = earlier(next, at)
			continue
		}
		if max > 0 {
			max--
			k.busy = true
			due = append(due, k.Addr)
		}
	}
	return due, next
}

// Claim takes note of an attempt that did not come from Due. It ends with Done, as any other.
func (c *Contacts) Claim(p id.PeerID) {
	if k := c.list[p]; k != nil {
		k.busy = true
	}
}

// Done takes note of how an attempt ended. A contact that was only found is forgotten after several failures.
func (c *Contacts) Done(p id.PeerID, err error, now time.Time) {
	k := c.list[p]
	if k == nil {
		return
	}
	k.busy = false
	k.Err = err
	if err == nil {
		k.Retry = Retry{At: now.Add(retryMin)} // should be in the catalog; if it was refused, not at once again
		return
	}
	k.Retry = k.Retry.Next(now, c.rng)
	if k.Origin == Found && k.Retry.Fails >= giveUpAfter {
		delete(c.list, p)
	}
}

// Hurry makes a contact due at once: an address was learned elsewhere.
func (c *Contacts) Hurry(p id.PeerID) {
	if k := c.list[p]; k != nil {
		k.Retry = Retry{}
	}
}

// All returns the contacts in the order in which they were added.
func (c *Contacts) All() []Contact {
	out := make([]Contact, 0, len(c.list))
	for _, k := range c.list {
		out = append(out, *k)
	}
	slices.SortFunc(out, func(a, b Contact) int { return cmp.Compare(a.seq, b.seq) })
	return out
}
