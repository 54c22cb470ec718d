// Package tickets holds the credentials that peers carry in their entries and the interface by which streams and
// groups judge them. A ticket is opaque here: its class says which validator understands it.
package tickets

import (
	"context"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// Ticket is one credential of a peer. Everybody on the network can read it, so its data must prove something about the
// peer it is bound to rather than be a secret.
type Ticket struct {
	Class id.ID
	Data  []byte
}

// ID returns the identifier of the ticket: equal class and data give equal ids.
func (t Ticket) ID() id.ID { return t.Class.Derive([]byte("ticket"), t.Data) }

// Entry is what a validator sees of the peer entry that carries the ticket.
type Entry interface {
	ID() id.PeerID
	Tags() []id.ID
	HasTag(name string) bool
	Tickets() []Ticket
	StartedAt() time.Time
}

// Subject is the peer whose ticket is judged.
type Subject struct {
	Peer    id.PeerID
	Network id.ID
	Entry   Entry
}

// Expiration is the time at which an accepted ticket stops being valid. The zero value never expires.
type Expiration struct{ At time.Time }

// Never reports whether there is no expiration.
func (e Expiration) Never() bool { return e.At.IsZero() }

// Earlier returns whichever of e and o comes first.
func (e Expiration) Earlier(o Expiration) Expiration {
	if e.Never() || (!o.Never() && o.At.Before(e.At)) {
		return o
	}
	return e
}

// Later returns whichever of e and o comes last.
func (e Expiration) Later(o Expiration) Expiration {
	if e.Never() || (!o.Never() && e.At.After(o.At)) {
		return e
	}
	return o
}

// Expired reports whether the time has come.
func (e Expiration) Expired(now time.Time) bool { return !e.Never() && !now.Before(e.At) }

// Validator judges tickets of one class. Implementations must be safe for concurrent use.
type Validator interface {
	// Class returns the class of tickets that the validator understands.
	Class() id.ID
	// Signature identifies the validator and all its settings: equal signatures must mean equal judgement. It becomes
	// part of the identity of groups that require the validator.
	Signature() id.ID
	// Validate accepts the ticket data for the peer, until the returned expiration, or says why not.
	Validate(ctx context.Context, data []byte, peer Subject) (Expiration, error)
}
