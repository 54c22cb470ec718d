// Package transport is the narrow face between mosaik and the network: authenticated connections between peers and
// byte streams on them, each stream belonging to a named protocol.
//
// A connection is usable only after the hello: both sides have shown the same network id, a compatible version, their
// incarnation and, if the network has one, a proof of its secret. Heartbeats then run on every connection, and a
// connection that stays silent too long is closed. So a stream handed to a protocol always comes from a live peer of the
// same network, whose identity the transport has proven.
//
// Two implementations exist: package p2p speaks TCP+TLS and QUIC through libp2p; package simnet keeps everything in
// memory, under faults that a test chooses.
package transport

import (
	"context"
	"errors"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// Errors of a [Host]. Failures that carry a typed reason are *[link.CloseError].
var (
	// ErrClosed reports that the host is closed.
	ErrClosed = errors.New("transport: host closed")
	// ErrNoAddress reports that no address is known for the peer.
	ErrNoAddress = errors.New("transport: no known address")
	// ErrUnreachable reports that no known address of the peer could be dialled.
	ErrUnreachable = errors.New("transport: peer unreachable")
	// ErrSelf reports an attempt to reach the node's own identity.
	ErrSelf = errors.New("transport: peer is this node")
)

// Incarnation orders the lives of one identity: the time a node was opened, in milliseconds since the Unix epoch. A
// higher incarnation of a peer replaces a lower one.
type Incarnation int64

// Stream is one stream of one protocol to one peer.
type Stream interface {
	link.Stream
	Peer() id.PeerID
	Protocol() string
	Transport() string // "tcp", "quic" or "sim"
}

// Refuse is a handler that turns streams away with [link.CodeShutdown]. A part of a node that closes leaves it behind: others
// may not have heard yet that the node goes, and are not to take it for one that does not know the protocol.
func Refuse(s Stream) { s.Abort(link.CodeShutdown) }

// Host is a node's end of the network. All methods are safe for concurrent use.
type Host interface {
	// ID returns the node's own identity.
	ID() id.PeerID

	// Incarnation returns the incarnation that this host shows in its hellos.
	Incarnation() Incarnation

	// Addr returns the node's identity and the addresses that others can dial now.
	Addr() id.PeerAddr

	// AddrsChanged returns a channel of capacity one that holds a token after the addresses changed.
	AddrsChanged() <-chan struct{}

	// Handle sets the handler of a protocol. Each incoming stream runs it in its own goroutine, which the host waits for
	// on Close; the handler owns the stream and must Close or Abort it. Streams of protocols without a handler are
	// refused with [link.CodeUnknownProtocol]. A nil handler removes the protocol.
	Handle(protocol string, handler func(Stream))

	// Learn adds addresses to what is known of a peer, of which the latest 16 are kept. It does not dial.
	Learn(addr id.PeerAddr)

	// Connect makes sure that there is a connection to the peer with its hello done, dialling the given and the known
	// addresses if there is none. It returns nil when a usable connection exists.
	Connect(ctx context.Context, addr id.PeerAddr) error

	// Open opens a stream of the protocol to the peer, connecting first if needed. It retries once on a fresh
	// connection when the connection it used turns out to be dead. The remote handler may start only after the first
	// write or CloseWrite, and never learns of a stream that is closed before. Without a deadline in ctx it gives up
	// after 10 s. When too many streams are open already it waits for one to end or fails with [link.CodeOverloaded]; the
	// peer's refusal may also come with the first Read.
	Open(ctx context.Context, peer id.PeerID, protocol string) (Stream, error)

	// Connected reports whether a usable connection to the peer exists, Peers lists those that have one.
	Connected(peer id.PeerID) bool
	Peers() []id.PeerID

	// Connections returns the connection in use for each of these peers, in the same order.
	Connections() []Connection

	// RTT returns the latest round-trip time measured on a live connection to the peer.
	RTT(peer id.PeerID) (time.Duration, bool)

	// Disconnect closes all connections to the peer with the code. They are over for this host when it returns; it does
	// not wait for the peer.
	Disconnect(peer id.PeerID, code link.Code)

	// Supersede says that the peer is known to have lived in the given incarnation: connections of older ones are closed
	// with [link.CodeSupplanted] and older hellos refused.
	Supersede(peer id.PeerID, newest Incarnation)

	// Ban disconnects the peer and refuses it for the duration, with [link.CodeBanned].
	Ban(peer id.PeerID, d time.Duration)

	// Protect keeps idle connections to the peer from being closed while the tag is set; Unprotect removes the tag. A host
	// closes those that have been idle longest when it has many, with [link.CodeUnneeded].
	Protect(peer id.PeerID, tag string)
	Unprotect(peer id.PeerID, tag string)

	// Watch calls fn, in order and never concurrently, for each event from now on until cancel is called. fn must not
	// block and must not call cancel.
	Watch(fn func(Event)) (cancel func())

	// Close says goodbye on all connections, gives the other sides a moment (600 ms at most) to read what is under way, closes the
	// connections, stops all handlers by failing their streams, and waits for them. It is idempotent, and every call
	// returns after the host is gone.
	Close() error

	// Kill is Close without the goodbye: sockets vanish as if the process had died. It is for tests of failure.
	Kill()
}

// Connection is a usable connection.
type Connection struct {
	Peer      id.PeerID
	Transport string // "tcp", "quic" or "sim"
	Dialled   bool   // by this side
	Since     time.Time
}

// Event is something that happened to the connections of a host.
type Event struct {
	Kind        EventKind
	Peer        id.PeerID
	Incarnation Incarnation // of the peer, for Connected and Disconnected
	Code        link.Code   // why, for Disconnected and Refused
}

// EventKind tells events apart.
type EventKind uint8

const (
	// Connected: the first usable connection to the peer is up.
	Connected EventKind = iota + 1
	// Disconnected: the last usable connection to the peer is gone.
	Disconnected
	// Refused: a peer was turned away in the hello, or turned this node away.
	Refused
	// DuplicateIdentity: another live node uses this node's private key.
	DuplicateIdentity
)
