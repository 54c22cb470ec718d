package discovery

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// PeerID is the identity of a node, see [id.PeerID].
type PeerID = id.PeerID

// PeerAddr is a peer and where it can be reached, see [id.PeerAddr].
type PeerAddr = id.PeerAddr

// What an entry may hold. Changes of the own entry beyond it fail with a [*LimitError]; entries of others beyond it are
// refused. The whole entry has at most MaxEntryBytes, which is the limit for many groups or large tickets.
const (
	MaxEntryBytes  = wire.MaxEntryBytes
	MaxTags        = wire.MaxTags
	MaxStreams     = wire.MaxStreams
	MaxGroups      = wire.MaxGroups
	MaxTickets     = wire.MaxTickets
	MaxTicketBytes = wire.MaxTicketBytes
)

// LimitError reports that something exceeds what an entry may hold.
type LimitError struct {
	What      string // for example "tags"
	Have, Max int    // in the unit that What names
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d, at most %d allowed", e.What, e.Have, e.Max)
}

// Errors of entries.
var (
	// ErrPeerIDChanged reports an address of another peer.
	ErrPeerIDChanged = errors.New("discovery: the address is another peer's")
	// ErrWrongKey reports a private key that is not the entry's peer's.
	ErrWrongKey = errors.New("discovery: the private key is not this peer's")
	// ErrBadSignature reports a signed entry that its peer did not sign.
	ErrBadSignature = errors.New("discovery: bad signature")
)

// protocolVersion is what this implementation writes into its entries.
const protocolVersion = "mosaik/1"

// PeerEntry is what a peer says of itself. It is immutable and cheap to copy; methods that change something return
// another entry with a newer version. The zero value is an entry of no peer.
type PeerEntry struct{ e *wire.Entry }

var _ tickets.Entry = PeerEntry{}

var noEntry wire.Entry

func (p PeerEntry) entry() *wire.Entry {
	if p.e == nil {
		return &noEntry
	}
	return p.e
}

// NewEntry returns an entry that says nothing but the address. Its version is the current time.
func NewEntry(network id.ID, addr PeerAddr) PeerEntry {
	return newEntry(network, addr, time.Now().UnixMilli())
}

func newEntry(network id.ID, addr PeerAddr, start int64) PeerEntry {
	e := &wire.Entry{
		Network:  network,
		Peer:     addr.ID,
		Start:    start,
		Update:   start,
		Protocol: protocolVersion,
		Addrs:    slices.Clone(addr.Addrs),
	}
	e.Sort()
	return PeerEntry{e}
}

// ID returns the peer's identity.
func (p PeerEntry) ID() PeerID { return p.entry().Peer }

// NetworkID returns the network that the entry belongs to.
func (p PeerEntry) NetworkID() id.ID { return p.entry().Network }

// Addr returns the peer's identity and addresses. The slice is the caller's.
func (p PeerEntry) Addr() PeerAddr {
	return PeerAddr{ID: p.entry().Peer, Addrs: slices.Clone(p.entry().Addrs)}
}

// Tags returns the ids of the tags in ascending order. The slice is the caller's, as are all slices that an entry returns.
func (p PeerEntry) Tags() []id.ID { return slices.Clone(p.entry().Tags) }

// HasTag reports whether the peer has the tag of this name.
func (p PeerEntry) HasTag(name string) bool { return contains(p.entry().Tags, id.Of(name)) }

// HasTagID reports whether the peer has the tag.
func (p PeerEntry) HasTagID(tag id.ID) bool { return contains(p.entry().Tags, tag) }

// Streams returns the ids of the streams that the peer produces.
func (p PeerEntry) Streams() []id.ID { return slices.Clone(p.entry().Streams) }

// HasStream reports whether the peer produces the stream.
func (p PeerEntry) HasStream(stream id.ID) bool { return contains(p.entry().Streams, stream) }

// Groups returns the ids of the groups that the peer has joined.
func (p PeerEntry) Groups() []id.ID { return slices.Clone(p.entry().Groups) }

// HasGroup reports whether the peer has joined the group.
func (p PeerEntry) HasGroup(group id.ID) bool { return contains(p.entry().Groups, group) }

// Tickets returns the peer's tickets in the order of their ids.
func (p PeerEntry) Tickets() []tickets.Ticket {
	out := slices.Clone(p.entry().Tickets)
	for i := range out {
		out[i].Data = bytes.Clone(out[i].Data)
	}
	return out
}

// TicketsOf returns the tickets of one class.
func (p PeerEntry) TicketsOf(class id.ID) []tickets.Ticket {
	return slices.DeleteFunc(p.Tickets(), func(t tickets.Ticket) bool { return t.Class != class })
}

// Subject returns the peer as ticket validators see it, for [tickets.Check].
func (p PeerEntry) Subject() tickets.Subject {
	return tickets.Subject{Peer: p.ID(), Network: p.NetworkID(), Entry: p}
}

// Version returns the entry's version.
func (p PeerEntry) Version() Version { return Version{p.entry().Start, p.entry().Update} }

// StartedAt returns when the node was opened, by its own clock.
func (p PeerEntry) StartedAt() time.Time { return time.UnixMilli(p.entry().Start) }

// UpdatedAt returns when the entry last changed, by its peer's clock.
func (p PeerEntry) UpdatedAt() time.Time { return time.UnixMilli(p.entry().Update) }

// Uptime returns how long the node has been open, never less than zero.
func (p PeerEntry) Uptime() time.Duration { return max(0, time.Since(p.StartedAt())) }

// Protocol names the version of the system that the peer runs, such as mosaik/1.
func (p PeerEntry) Protocol() string { return p.entry().Protocol }

// Equal reports whether two entries say the same, version included.
func (p PeerEntry) Equal(o PeerEntry) bool {
	return p.e == o.e || bytes.Equal(p.entry().Append(nil), o.entry().Append(nil))
}

// String returns a short form for logs.
func (p PeerEntry) String() string {
	e := p.entry()
	return fmt.Sprintf("%s v%d (%s; %d tags, %d streams, %d groups, %d tickets)",
		e.Peer.Short(), e.Update, strings.Join(e.Addrs, " "), len(e.Tags), len(e.Streams), len(e.Groups), len(e.Tickets))
}

// WithTags returns the entry with the tags added.
func (p PeerEntry) WithTags(names ...string) (PeerEntry, error) { return p.edit(addTags(names)) }

// WithoutTags returns the entry with the tags removed.
func (p PeerEntry) WithoutTags(names ...string) (PeerEntry, error) { return p.edit(removeTags(names)) }

// WithStreams returns the entry with the streams added.
func (p PeerEntry) WithStreams(streams ...id.ID) (PeerEntry, error) {
	return p.edit(addIDs(fieldStreams, streams))
}

// WithoutStreams returns the entry with the streams removed.
func (p PeerEntry) WithoutStreams(streams ...id.ID) (PeerEntry, error) {
	return p.edit(removeIDs(fieldStreams, streams))
}

// WithGroups returns the entry with the groups added.
func (p PeerEntry) WithGroups(groups ...id.ID) (PeerEntry, error) {
	return p.edit(addIDs(fieldGroups, groups))
}

// WithoutGroups returns the entry with the groups removed.
func (p PeerEntry) WithoutGroups(groups ...id.ID) (PeerEntry, error) {
	return p.edit(removeIDs(fieldGroups, groups))
}

// WithTicket returns the entry with the ticket added. Adding a ticket that is there changes nothing.
func (p PeerEntry) WithTicket(t tickets.Ticket) (PeerEntry, error) { return p.edit(addTicket(t)) }

// WithoutTicket returns the entry without the ticket of this id.
func (p PeerEntry) WithoutTicket(ticket id.ID) (PeerEntry, error) {
	return p.edit(removeTickets(func(t tickets.Ticket) bool { return t.ID() == ticket }))
}

// WithoutTicketsOf returns the entry without tickets of the class.
func (p PeerEntry) WithoutTicketsOf(class id.ID) (PeerEntry, error) {
	return p.edit(removeTickets(func(t tickets.Ticket) bool { return t.Class == class }))
}

// WithAddr returns the entry with other addresses. The version is newer even if they are the same. An address of another
// peer fails with [ErrPeerIDChanged].
func (p PeerEntry) WithAddr(addr PeerAddr) (PeerEntry, error) {
	if addr.ID != p.ID() {
		return p, fmt.Errorf("%w: %s instead of %s", ErrPeerIDChanged, addr.ID.Short(), p.ID().Short())
	}
	return p.edit(setAddrs(addr.Addrs))
}

// Sign signs the entry with its peer's key. Another key fails with [ErrWrongKey], an entry that is too large with a
// [*LimitError].
func (p PeerEntry) Sign(key ed25519.PrivateKey) (SignedPeerEntry, error) {
	if len(key) != ed25519.PrivateKeySize || id.PeerIDOf(key) != p.ID() {
		return SignedPeerEntry{}, fmt.Errorf("%w: %s", ErrWrongKey, p.ID().Short())
	}
	if err := check(p.entry()); err != nil {
		return SignedPeerEntry{}, err
	}
	return SignedPeerEntry{wire.SignEntry(p.e, key)}, nil
}

func check(e *wire.Entry) error {
	err := e.Check()
	if l, ok := errors.AsType[*wire.LimitError](err); ok {
		return (*LimitError)(l)
	}
	return err
}

func contains(sorted []id.ID, x id.ID) bool {
	_, found := slices.BinarySearchFunc(sorted, x, id.ID.Compare)
	return found
}
