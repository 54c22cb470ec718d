// Package logstore is where groups keep their logs: the interface, and a store in memory.
package logstore

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/id"
)

// Store keeps the logs of all groups of a node. It is safe for concurrent use.
type Store interface {
	// Open returns the log of a group, empty if there is none yet. A log is open once at a time.
	Open(group id.ID) (Log, error)
	// Close closes the store; its logs must not be used afterwards.
	Close() error
}

// Log is the log of one group, read by the raft library and written by the group's engine. Its methods are called from
// one goroutine at a time. Entries are shared, not copied, and must not be changed by anyone.
type Log interface {
	raft.Storage

	// Append writes hard state, if it is not nil, and entries, which may replace the log's tail, and returns when they
	// are as safe as the store can make them.
	Append(state *raftpb.HardState, entries []*raftpb.Entry) error

	// Reset makes the log empty behind a snapshot without content: the position and the members with which a history
	// begins.
	Reset(begin *raftpb.SnapshotMetadata) error

	// Install empties the log behind a snapshot whose content is elsewhere: its last position is that of the snapshot, and
	// the entries and older positions are gone. The hard state stays.
	Install(snapshot *raftpb.SnapshotMetadata) error

	// Compact gives up the entries up to and including an index, whose term stays known. It does nothing if they are gone
	// already. Their memory, or space, is given back soon, if not at once.
	Compact(upTo uint64) error

	// Size returns the bytes that the entries take, about.
	Size() int64

	// Images returns the snapshot images of the group.
	Images() Images

	// Close ends the use of the log.
	Close() error
}
