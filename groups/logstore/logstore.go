// Package logstore is where groups keep their logs: the interface, and a store in memory. Package logstore/pebble has
// one on disk.
package logstore

import (
	"errors"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/id"
)

// Reasons why a store, or a log in it, cannot be used. Stores wrap them.
var (
	// ErrCorrupt reports that what the store holds is damaged: bytes that do not match their checksum, or a log with
	// something missing in its middle. What else was acknowledged may be missing too, so a member must not go on
	// with such a log; see docs/durability.md for what to do.
	ErrCorrupt = errors.New("logstore: the store is corrupt; if a majority of each group is there without it, move its " +
		"directory away and start with an empty one: the members on it then get everything from the others")

	// ErrLocked reports that another process, or another store in this one, has the directory open.
	ErrLocked = errors.New("logstore: the store is in use")

	// ErrOtherNode reports that the store holds the logs of a node with another identity.
	ErrOtherNode = errors.New("logstore: the store belongs to another node")

	// ErrOpen reports that the log is open already.
	ErrOpen = errors.New("logstore: the log is open already")

	// ErrClosed reports that the store or the log was closed.
	ErrClosed = errors.New("logstore: closed")
)

// Store keeps the logs of all groups of a node. It is safe for concurrent use.
type Store interface {
	// Durable reports whether what the store says is safe survives the process and the machine.
	Durable() bool

	// Claim says whose logs the store is to keep. A durable store belongs to the first node that claims it, for good, and
	// fails with [ErrOtherNode] for any other: a member's log is useless, and dangerous, under another identity.
	Claim(node id.PeerID) error

	// Open returns the log of a group, empty if there is none yet. It reads from disk and may write, so it blocks. A log
	// is open once at a time, [ErrOpen] otherwise.
	//
	// notify reports that all batches up to the sequence number are safe, or, with an error, that they may never be and
	// that no later one will. It is called from a goroutine of the store, in order, never concurrently for one log and
	// never after the log's Close has returned; it must not block and must not call the store.
	Open(group id.ID, notify func(seq uint64, err error)) (Log, error)

	// Close closes the store once everything submitted is safe, or cannot be. Its logs must not be used afterwards.
	Close() error
}

// Lister is an optional interface of a [Store] that can tell what it holds.
type Lister interface {
	// Groups returns the groups of which the store has a log that is not empty, by id.
	Groups() ([]id.ID, error)
}

// Batch is a change of a log, made as one: after a crash all of it is there or nothing.
type Batch struct {
	// Begin, if it is not nil, first makes the log empty behind a position: the one at which a history begins, or that of
	// a snapshot whose content is elsewhere. Its last position is that one, and older positions are gone.
	Begin *raftpb.SnapshotMetadata

	State   *raftpb.HardState // nil: as it was
	Entries []*raftpb.Entry   // may replace the log's tail
	Record  []byte            // nil: as it was; empty: none
	Schema  []byte            // nil: as it was; empty: none
}

// Forget is the batch after which a log is as if it had never been used, but for its schema.
func Forget() Batch {
	return Batch{Begin: new(raftpb.SnapshotMetadata), State: new(raftpb.HardState), Record: []byte{}}
}

// Log is the log of one group, read by the raft library and written by the group's engine. Its methods are called from
// one goroutine at a time. Entries are shared, not copied, and must not be changed by anyone.
//
// Reads show every batch that was submitted, whether it is safe yet or not.
type Log interface {
	raft.Storage

	// Submit makes a change. Batches become safe in the order in which they were submitted, and count up seq. If safe is
	// true this one needs no waiting: it is as safe as the store can make it, or is one that may be lost in a crash
	// without harm, which is so of a state that differs in its commit index alone. Otherwise the notify function of Open
	// reports it. After an error the log takes nothing more.
	//
	// Submit blocks while too much waits to be written.
	Submit(b Batch) (seq uint64, safe bool, err error)

	// Compact gives up the entries up to and including an index, whose term stays known. It does nothing if they are gone
	// already. Their memory, or space, is given back soon, if not at once.
	Compact(upTo uint64) error

	// Size returns the bytes that the entries take, about.
	Size() int64

	// Images returns the snapshot images of the group.
	Images() Images

	// Record returns the engine's own durable record, empty if there is none.
	Record() []byte

	// Schema returns what whoever uses the log has written about the commands in it, empty if nothing. It means nothing
	// to the store.
	Schema() []byte

	// Close ends the use of the log once all that was submitted is safe, or cannot be.
	Close() error
}
