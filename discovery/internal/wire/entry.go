package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// What an entry may hold. An entry goes to every peer of the network, so it has to stay small.
const (
	MaxEntryBytes  = 64 << 10 // the encoded entry
	MaxAddrs       = 32
	MaxAddrBytes   = 256
	MaxTags        = 256
	MaxStreams     = 1024
	MaxGroups      = 1536
	MaxTickets     = 64
	MaxTicketBytes = 16 << 10
	maxProtocol    = 32
)

// entryFormat is the first byte of an encoded entry.
const entryFormat = 1

// ErrIncompatible reports an entry of a format that this version does not know.
var ErrIncompatible = errors.New("incompatible entry format")

// LimitError reports that something exceeds what an entry may hold.
type LimitError struct {
	What      string
	Have, Max int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d, at most %d allowed", e.What, e.Have, e.Max)
}

// Entry is what a peer says of itself. Addrs, Tags, Streams, Groups and Tickets (by ticket id) are strictly ascending.
// Entries are shared and never changed once made.
type Entry struct {
	Network       id.ID
	Peer          id.PeerID
	Start, Update int64 // the version, milliseconds since the Unix epoch
	Protocol      string
	Addrs         []string
	Tags          []id.ID
	Streams       []id.ID
	Groups        []id.ID
	Tickets       []tickets.Ticket
}

// Sort brings the lists into their order and removes duplicates. The lists must belong to the caller.
func (e *Entry) Sort() {
	slices.Sort(e.Addrs)
	e.Addrs = slices.Compact(e.Addrs)
	for _, ids := range []*[]id.ID{&e.Tags, &e.Streams, &e.Groups} {
		slices.SortFunc(*ids, id.ID.Compare)
		*ids = slices.Compact(*ids)
	}
	slices.SortFunc(e.Tickets, compareTickets)
	e.Tickets = slices.CompactFunc(e.Tickets, func(a, b tickets.Ticket) bool { return compareTickets(a, b) == 0 })
}

func compareTickets(a, b tickets.Ticket) int { return a.ID().Compare(b.ID()) }

// Check returns a *[LimitError] when the entry holds more than it may.
func (e *Entry) Check() error {
	for _, l := range []LimitError{
		{"addresses", len(e.Addrs), MaxAddrs},
		{"tags", len(e.Tags), MaxTags},
		{"streams", len(e.Streams), MaxStreams},
		{"groups", len(e.Groups), MaxGroups},
		{"tickets", len(e.Tickets), MaxTickets},
		{"bytes of the protocol name", len(e.Protocol), maxProtocol},
	} {
		if l.Have > l.Max {
			return &l
		}
	}
	for _, a := range e.Addrs {
		if len(a) > MaxAddrBytes {
			return &LimitError{"bytes of an address", len(a), MaxAddrBytes}
		}
	}
	for _, t := range e.Tickets {
		if len(t.Data) > MaxTicketBytes {
			return &LimitError{"bytes of a ticket", len(t.Data), MaxTicketBytes}
		}
	}
	if n := e.size(); n > MaxEntryBytes {
		return &LimitError{"bytes of the entry", n, MaxEntryBytes}
	}
	return nil
}

// size returns an upper bound of the encoded size that is at most a few dozen bytes too high.
func (e *Entry) size() int {
	n := 1 + 2*id.Size + 2*8 + 1 + len(e.Protocol) + 5*3
	for _, a := range e.Addrs {
		n += 2 + len(a)
	}
	n += id.Size * (len(e.Tags) + len(e.Streams) + len(e.Groups))
	for _, t := range e.Tickets {
		n += id.Size + 3 + len(t.Data)
	}
	return n
}

// Append appends the encoding of a sorted entry to dst.
func (e *Entry) Append(dst []byte) []byte {
	dst = append(dst, entryFormat)
	dst = append(dst, e.Network[:]...)
	dst = append(dst, e.Peer[:]...)
	dst = appendTime(dst, e.Start)
	dst = appendTime(dst, e.Update)
	dst = appendText(dst, e.Protocol)
	dst = binary.AppendUvarint(dst, uint64(len(e.Addrs)))
	for _, a := range e.Addrs {
		dst = appendText(dst, a)
	}
	dst = appendIDs(dst, e.Tags)
	dst = appendIDs(dst, e.Streams)
	dst = appendIDs(dst, e.Groups)
	dst = binary.AppendUvarint(dst, uint64(len(e.Tickets)))
	for _, t := range e.Tickets {
		dst = append(dst, t.Class[:]...)
		dst = binary.AppendUvarint(dst, uint64(len(t.Data)))
		dst = append(dst, t.Data...)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// DecodeEntry reads an encoded entry. The entry shares no memory with b.
func DecodeEntry(b []byte) (*Entry, error) {
	if len(b) > MaxEntryBytes {
		return nil, malformed("entry: %d bytes, at most %d allowed", len(b), MaxEntryBytes)
	}
	r := reader{b: b}
	if f := r.byte("format"); r.err == nil && f != entryFormat {
		return nil, fmt.Errorf("entry: format %d: %w", f, ErrIncompatible)
	}
	e := new(Entry)
	r.fill("network", e.Network[:])
	e.Peer = r.peer("peer")
	e.Start = r.time("start")
	e.Update = r.time("update")
	if e.Update < e.Start {
		r.fail("update before start")
	}
	e.Protocol = string(r.take("protocol", int(r.uvarint("protocol", maxProtocol))))
	if n := r.count("addresses", MaxAddrs, 1); n > 0 {
		e.Addrs = make([]string, n)
	}
	for i := range e.Addrs {
		e.Addrs[i] = string(r.take("address", int(r.uvarint("address", MaxAddrBytes))))
		if i > 0 && strings.Compare(e.Addrs[i-1], e.Addrs[i]) >= 0 {
			r.fail("addresses: not strictly ascending")
		}
	}
	e.Tags = r.ids("tags", MaxTags)
	e.Streams = r.ids("streams", MaxStreams)
	e.Groups = r.ids("groups", MaxGroups)
	if n := r.count("tickets", MaxTickets, id.Size+1); n > 0 {
		e.Tickets = make([]tickets.Ticket, n)
	}
	for i := range e.Tickets {
		t := &e.Tickets[i]
		r.fill("ticket class", t.Class[:])
		t.Data = bytes.Clone(r.take("ticket", int(r.uvarint("ticket", MaxTicketBytes))))
		if i > 0 && compareTickets(e.Tickets[i-1], *t) >= 0 {
			r.fail("tickets: not strictly ascending")
		}
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("entry: %w", err)
	}
	return e, nil
}
