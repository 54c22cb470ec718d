// Package wire holds the messages that the engines of a group's members exchange, and their encoding.
//
// A message is one byte for its kind, the genesis it belongs to, and its fields: integers as unsigned varints, byte
// strings with their length before them. A message has one encoding: what is longer than it needs to be is refused.
// Decoding checks every length against what is left before it allocates, and limits the number of entries, so that
// hostile bytes cost a bounded multiple of their own size.
package wire

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/id"
)

// Genesis names one history of a group: 16 random bytes. The zero value is no history.
type Genesis [16]byte

// IsZero reports whether g names no history.
func (g Genesis) IsZero() bool { return g == Genesis{} }

// Message is one message between two members' engines.
type Message interface {
	kind() byte
	append(dst []byte) []byte
}

// Kinds of messages, their first byte. The numbers are part of the protocol.
const (
	kindHello byte = iota + 1
	kindJoin
	kindAccept
	kindRemoved
	kindLeave
	kindLeft
	kindForward
	kindAck
	kindExpect
	kindRead
	kindReadIndex
	kindRaft
)

// Kinds of founding, merging and forking.
const (
	kindPrepare byte = iota + 30
	kindPromise
	kindElect
	kindElected
	kindFounded
	kindAbsorb
	kindVerdict
	kindRepropose
	kindReproposed
	kindMuster
	kindStanding
	kindFork
	kindTransfer
	kindFarewell
	kindExpel
	kindDismiss
)

// PreferenceMost is the highest value of a preference: the members' wish to lead, as core.Preference counts it.
const PreferenceMost = 2

// Member is one row of the member table.
type Member struct {
	ID         uint64
	Peer       id.PeerID
	Nonce      uint64 // of the engine's life, or of the lives of one with a durable log
	Preference uint8
	Durable    bool // has a durable log, so it comes back as itself
}

// Hello says where a member stands. It is sent when a bond comes up and whenever it changes in a way that others act on,
// and again until the receiver is known to have heard the latest version.
type Hello struct {
	Seq        uint64  // version, from one; a lower one than heard before is out of date
	Heard      uint64  // latest version of the receiver's hello that came to the sender, zero if none
	Ask        bool    // the sender wants an answer
	Genesis    Genesis // zero: the member has no history yet
	Nonce      uint64  // of the engine's life
	Member     uint64  // the sender's id in that history, or the one it asks to join with
	Preference uint8
	Leaving    bool      // the sender is about to go for good
	Joining    bool      // the sender has not come as far in the log as to find itself there
	Leader     id.PeerID // zero: unknown
	Commands   uint64    // user index committed
	Forced     uint64    // forks that were forced, among those that led to the history
	Cut        uint64    // raft index up to which the sender's log was cut
	Parents    []Parent  // of the history
	Frozen     bool      // the history takes no commands, since it is about to merge into another
	Gone       []Gone    // histories that the sender knows to be over, the latest last

	Committed, CommittedTerm uint64 // raft index and term of the last entry that the sender knows to be committed
}

// Gone says that a history is over, and which one its members went to.
type Gone struct {
	From, Into Genesis
	Round      uint64 // of the muster after which a survivor forked Into off; zero if From agreed on its end
	Lost       bool   // Into has not taken over what From held
}

// Join asks the leader to be taken in as the given member.
type Join struct {
	Genesis    Genesis
	Member     uint64
	Nonce      uint64
	Preference uint8
	Durable    bool
}

// Accept tells a joiner that it is a member, and how the history began.
type Accept struct {
	Origin Origin
	Member uint64
}

// Removed tells a member that it was taken out of the group.
type Removed struct {
	Genesis Genesis
	Member  uint64
}

// Leave asks the leader to be taken out.
type Leave struct {
	Genesis Genesis
	Member  uint64
}

// Left tells others that a member is gone for good, whether or not the group has agreed yet. From the leader to the one
// that leaves it is the acknowledgement of Leave.
type Left struct {
	Genesis Genesis
	Member  uint64
}

// Item is the commands of one call.
type Item struct {
	Count   uint32
	Payload []byte
}

// Forward hands calls to the leader. They have consecutive numbers in the session, which is the caller's wherever it is a
// member.
type Forward struct {
	Genesis Genesis
	Member  uint64
	Session uint64
	First   uint64 // number of the first item
	Ack     bool   // an Ack is wanted once they are in the log
	Items   []Item
}

// Ack says at which user index the calls from First on, Calls of them, start in the leader's log.
type Ack struct {
	Genesis Genesis
	First   uint64
	Calls   uint64
	Index   uint64
}

// Expect asks for calls from the given number on: what came did not follow on what the log holds.
type Expect struct {
	Genesis Genesis
	Next    uint64
}

// Read asks the leader for an index that serves a linearizable read.
type Read struct {
	Genesis Genesis
	ID      uint64
}

// ReadIndex answers a Read.
type ReadIndex struct {
	Genesis Genesis
	ID      uint64
	Index   uint64 // raft index
}

// Raft carries a message of the raft library. The library's message belongs to whoever holds it.
type Raft struct {
	Genesis Genesis
	Msg     *raftpb.Message
}

func (*Hello) kind() byte     { return kindHello }
func (*Join) kind() byte      { return kindJoin }
func (*Accept) kind() byte    { return kindAccept }
func (*Removed) kind() byte   { return kindRemoved }
func (*Leave) kind() byte     { return kindLeave }
func (*Left) kind() byte      { return kindLeft }
func (*Forward) kind() byte   { return kindForward }
func (*Ack) kind() byte       { return kindAck }
func (*Expect) kind() byte    { return kindExpect }
func (*Read) kind() byte      { return kindRead }
func (*ReadIndex) kind() byte { return kindReadIndex }
func (*Raft) kind() byte      { return kindRaft }
