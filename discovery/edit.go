package discovery

import (
	"bytes"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// edit is a change of an entry. It may replace the entry's slices but not write into them, and reports whether it
// changed anything.
type edit func(e *wire.Entry) bool

// field selects one of an entry's id lists.
type field func(e *wire.Entry) *[]id.ID

func fieldTags(e *wire.Entry) *[]id.ID    { return &e.Tags }
func fieldStreams(e *wire.Entry) *[]id.ID { return &e.Streams }
func fieldGroups(e *wire.Entry) *[]id.ID  { return &e.Groups }

func addTags(names []string) edit    { return addIDs(fieldTags, tagIDs(names)) }
func removeTags(names []string) edit { return removeIDs(fieldTags, tagIDs(names)) }

func tagIDs(names []string) []id.ID {
	out := make([]id.ID, len(names))
	for i, n := range names {
		out[i] = id.Of(n)
	}
	return out
}

func addIDs(f field, add []id.ID) edit {
	return func(e *wire.Entry) bool {
		ids := f(e)
		before := len(*ids)
		*ids = append(slices.Clone(*ids), add...)
		slices.SortFunc(*ids, id.ID.Compare)
		*ids = slices.Compact(*ids)
		return len(*ids) != before
	}
}

func removeIDs(f field, remove []id.ID) edit {
	return func(e *wire.Entry) bool {
		ids := f(e)
		before := len(*ids)
		*ids = slices.DeleteFunc(slices.Clone(*ids), func(x id.ID) bool { return slices.Contains(remove, x) })
		return len(*ids) != before
	}
}

func addTicket(t tickets.Ticket) edit {
	return func(e *wire.Entry) bool {
		added := wire.Entry{Tickets: append(slices.Clone(e.Tickets), tickets.Ticket{Class: t.Class, Data: bytes.Clone(t.Data)})}
		added.Sort()
		before := len(e.Tickets)
		e.Tickets = added.Tickets
		return len(e.Tickets) != before
	}
}

func removeTickets(which func(tickets.Ticket) bool) edit {
	return func(e *wire.Entry) bool {
		before := len(e.Tickets)
		e.Tickets = slices.DeleteFunc(slices.Clone(e.Tickets), which)
		return len(e.Tickets) != before
	}
}

func setAddrs(addrs []string) edit {
	return func(e *wire.Entry) bool {
		sorted := wire.Entry{Addrs: slices.Clone(addrs)}
		sorted.Sort()
		e.Addrs = sorted.Addrs
		return true
	}
}

// edit returns the changed entry with the next version, or the entry itself when nothing changed.
func (p PeerEntry) edit(changes ...edit) (PeerEntry, error) { return p.editAt(time.Now(), changes...) }

func (p PeerEntry) editAt(now time.Time, changes ...edit) (PeerEntry, error) {
	e := *p.entry()
	changed := false
	for _, c := range changes {
		if c(&e) {
			changed = true
		}
	}
	if !changed {
		return p, nil
	}
	if err := check(&e); err != nil {
		return p, err
	}
	v := p.Version().next(now)
	e.Start, e.Update = v.Start, v.Update
	return PeerEntry{&e}, nil
}
