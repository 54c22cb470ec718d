package discovery

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/catalog"
	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// maxLead is how far versions may run ahead of the clock. Each change makes the version at least one millisecond newer, so
// a program that changes its entry more than once a millisecond for long has to wait a little.
const maxLead = time.Second

// ownEntry is who may change the node's own entry, which itself is in the store. One goroutine at a time does; it may have
// to wait while it holds the turn, so the turn is a token and not a mutex.
type ownEntry struct {
	turn    chan struct{} // capacity one
	changed chan struct{} // capacity one: there is something to announce
}

func newOwnEntry() *ownEntry {
	return &ownEntry{turn: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

func (o *ownEntry) lock()   { o.turn <- struct{}{} }
func (o *ownEntry) unlock() { <-o.turn }

// Me returns this node's own entry.
func (d *Discovery) Me() PeerEntry { return d.Catalog().Local().PeerEntry }

// MeSigned returns this node's own entry with its signature.
func (d *Discovery) MeSigned() SignedPeerEntry { return SignedPeerEntry{d.Catalog().Local().signed} }

// AddTags puts tags on this node's entry. Like all changes of it, it shows in the local catalog before it returns, spreads
// to the network at once, and makes no new version if it changes nothing. It waits while another change is made, and up
// to a second when there were more than a thousand within the last one. It fails with a [*LimitError] when the entry would
// become too large or a tag is empty, without changing it, and with [ErrClosed].
func (d *Discovery) AddTags(names ...string) error {
	if slices.Contains(names, "") {
		return errors.New("discovery: add tags: a tag is empty")
	}
	return d.changeOwn("add tags", addTags(names))
}

// RemoveTags takes tags off this node's entry.
func (d *Discovery) RemoveTags(names ...string) error {
	return d.changeOwn("remove tags", removeTags(names))
}

// AddTicket puts a ticket on this node's entry, where everybody on the network can read it.
func (d *Discovery) AddTicket(t tickets.Ticket) error { return d.changeOwn("add ticket", addTicket(t)) }

// RemoveTicket takes the ticket of this id off this node's entry.
func (d *Discovery) RemoveTicket(ticket id.ID) error {
	return d.changeOwn("remove ticket", removeTickets(func(t tickets.Ticket) bool { return t.ID() == ticket }))
}

// RemoveTicketsOf takes all tickets of a class off this node's entry.
func (d *Discovery) RemoveTicketsOf(class id.ID) error {
	return d.changeOwn("remove tickets", ofClass(class))
}

// ReplaceTicket takes all tickets of the ticket's class off this node's entry and puts this one on it, in one change.
func (d *Discovery) ReplaceTicket(t tickets.Ticket) error {
	return d.changeOwn("replace ticket", func(e *wire.Entry) bool {
		if len(e.Tickets) > 0 && onlyOfClass(e.Tickets, t) {
			return false
		}
		ofClass(t.Class)(e)
		addTicket(t)(e)
		return true
	})
}

func ofClass(class id.ID) edit {
	return removeTickets(func(t tickets.Ticket) bool { return t.Class == class })
}

// onlyOfClass reports whether t is there and no other ticket of its class is.
func onlyOfClass(all []tickets.Ticket, t tickets.Ticket) bool {
	there := false
	for _, o := range all {
		if o.Class != t.Class {
			continue
		}
		if o.ID() != t.ID() {
			return false
		}
		there = true
	}
	return there
}

// AddGroups says that this node is a member of the groups. It is for the packages of this module, as are the following.
func (d *Discovery) AddGroups(groups ...id.ID) error {
	return d.changeOwn("add groups", addIDs(fieldGroups, groups))
}

// RemoveGroups says that this node is no longer a member of the groups.
func (d *Discovery) RemoveGroups(groups ...id.ID) error {
	return d.changeOwn("remove groups", removeIDs(fieldGroups, groups))
}

// AddStreams says that this node produces the streams.
func (d *Discovery) AddStreams(streams ...id.ID) error {
	return d.changeOwn("add streams", addIDs(fieldStreams, streams))
}

// RemoveStreams says that this node no longer produces the streams.
func (d *Discovery) RemoveStreams(streams ...id.ID) error {
	return d.changeOwn("remove streams", removeIDs(fieldStreams, streams))
}

// changeOwn changes the own entry, signs and shows it, and has it announced.
func (d *Discovery) changeOwn(what string, change edit) error {
	d.own.lock()
	defer d.own.unlock()
	if d.closed() {
		return fmt.Errorf("discovery: %s: %w", what, ErrClosed)
	}
	before := PeerEntry{d.store.local().Entry.Entry}
	after, err := before.edit(change)
	if err != nil {
		return fmt.Errorf("discovery: %s: %w", what, err)
	}
	if after.e == before.e {
		return nil
	}
	d.pace(after.UpdatedAt())
	signed, err := after.Sign(d.env.Key)
	if err != nil {
		return fmt.Errorf("discovery: %s: %w", what, err)
	}
	d.store.change(func(c *catalog.Core, now int64) noise {
		c.SetLocal(&catalog.Record{Entry: signed.s.Entry, Signed: signed.s, Beat: c.Local().Beat})
		return urgent
	})
	select {
	case d.own.changed <- struct{}{}:
	default:
	}
	return nil
}

// pace waits while versions run too far ahead of the clock, but never long: if they do because the clock was set back,
// waiting does not help.
func (d *Discovery) pace(version time.Time) {
	if ahead := min(time.Until(version)-maxLead, maxLead); ahead > 0 {
		select {
		case <-time.After(ahead):
		case <-d.loopCtx.Done():
		}
	}
}
