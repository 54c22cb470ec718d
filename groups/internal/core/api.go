package core

import (
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// MemberID names one incarnation of a member inside one genesis. It is random, never zero and never reused.
type MemberID uint64

// GenesisID names one history of a group.
type GenesisID = wire.Genesis

// Preference says how much a member wants to lead.
type Preference uint8

const (
	Normal    Preference = iota // votes and leads
	Reluctant                   // votes, and leads only when no Normal member can
	Observer                    // never votes, never founds
)

// Config is what a Replica is created with. Times are durations of the clock that the driver passes to each method.
type Config struct {
	Group     id.ID
	Self      id.PeerID
	BootNonce uint64 // random, differs for each Replica ever created; one that resumes takes that of its first life
	Seed      uint64 // of all randomness that the engine itself uses

	Preference Preference
	Expect     int // members that must agree before a first genesis is founded; at least 1

	Tick            time.Duration // interval of Tick calls
	Heartbeat       time.Duration
	ElectionTimeout time.Duration
	BootstrapDelay  time.Duration
	VolatileRemoval time.Duration // an unreachable voter is removed after this
	DurableRemoval  time.Duration // the same for one with a durable log
	Patience        time.Duration // a call fails when no leader is known for this long
	MaxVoters       int
	MaxInflight     int // entries left uncommitted before items are held back (K)
	MaxEntryBytes   int
	MaxPendingCalls int // session window of this member
	MaxPendingBytes int
	MaxUncommitted  uint64 // bytes in the leader's log that are not committed
	Durable         bool   // the log survives this process
	Saved           []Saved

	Snapshots   bool  // the state machine can be written out and read back; otherwise the log is kept whole
	ChunkBytes  int   // of images that this member asks for while it leads
	KeepEntries int   // in the log, beyond what reachable members need
	MostEntries int   // in the log, whoever needs them
	MostBytes   int64 // likewise

	Log RaftLogger

	Merge   MergePolicy
	Resolve func(items []Item) []Resolved // for MergeResolve; it must not fail, and answer the same for the same items

	AvailabilityFirst time.Duration // without a majority for so long members go on without it; zero: never

	Flaws Flaws
}

// RaftLogger receives the log lines of the raft library.
type RaftLogger interface {
	Debugf(format string, v ...any)
	Infof(format string, v ...any)
	Warningf(format string, v ...any)
	Errorf(format string, v ...any)
}

// Call is one local Execute or Feed: Count commands, encoded back to back in Payload as the host's codec wants them.
// The engine never looks into Payload. A call is atomic in the log: its commands occupy consecutive user indices. The
// host must not change a Call after Submit and before its end.
type Call struct {
	Count   int
	Payload []byte // of a Feed: never to be changed; of others: not before the call has ended
	Feed    bool   // done when the leader has appended it, rather than when this member applies it
	Host    any    // the driver's own data, returned with the call
}

// Failure says why a call ended without being applied here.
type Failure uint8

const (
	// NotApplied outcomes: the call never entered a log and never will.
	FailedOffline    Failure = iota + 1 // no leader within Patience
	FailedTooLarge                      // exceeds MaxEntryBytes
	FailedOverloaded                    // the session window is full
	FailedCancelled                     // Cancel came before it was sent
	FailedClosed                        // the group closed before it was sent
	// FailedUnknown: the call was sent; it may have been applied, or still be applied, at most once.
	FailedUnknown
)

// Index is a user index: the number of commands in a log prefix. The first command has index 1.
type Index = uint64

// Output is everything the driver must do after a Flush, in this order: send, apply, with the reset between if told to, answer. Slices are
// reused by the next Flush but one unless the driver sets them to nil.
type Output struct {
	Send   []Envelope
	Apply  []Apply
	Acked  []Ack
	Failed []Failed
	Reads  []ReadReady

	Drop     []uint64     // images that are needed no longer, by the id of their mark
	Diverged []Divergence // marks at which this member's state was not what the group agreed on
	Fetch    *Fetch       // non-nil: fetch this instead of anything else, or nothing any more
	News     []News
	Answers  []Answer

	Status *Status // non-nil when it changed; immutable
	Left   bool    // Leave is complete: the removal is committed, or waiting for it was given up
	Reset  bool    // the member begins anew: Apply, after its first Before runs, is for a fresh state machine, and reads that wait for an index have to be asked again
	Before int     // runs that Apply brings for the state machine that Reset ends
	Fatal  error   // the engine found a broken invariant and refuses further work

	// Rest, if not nil, allows the driver to stop ticking and do what Rest says instead, until there is anything to tell
	// the engine. Then it tells Wake first.
	Rest *Rest
}

// Envelope is a message for another member's engine. Messages to one peer must arrive in order or not at all.
type Envelope struct {
	To      id.PeerID
	Message wire.Message
}

// Apply is a run of committed items for the state machine, in log order with duplicates removed. When all are applied
// the driver calls Applied(RaftIndex). A run may be empty: only the raft index advances.
type Apply struct {
	Items     []Item
	RaftIndex uint64
	Term      uint64
	Install   *Install // replace the machine first; such a run has no items
	Mark      *Mark    // take a view when the items are applied
}

// Saved is an image that an earlier life of this member has left.
type Saved struct {
	Mark  uint64 // names it from now on; not zero
	State *State // the engine's part
	Root  Root

	of wire.Genesis // see image
}

// Item is one call's commands in the log.
type Item struct {
	First   Index // user index of its first command
	Count   int
	Payload []byte
	Call    *Call // the local call that this is, or nil; when set, the call ends here
}

// Ack ends a Feed call: the leader has appended it at user indices First to First+Count-1. They are final unless
// leadership changes before the commit.
type Ack struct {
	Call  *Call
	First Index
}

// Failed ends a call without effect known here.
type Failed struct {
	Call   *Call
	Reason Failure
}

// Read is one strong read.
type Read struct {
	Host any // the driver's own data, returned with the read

	since time.Duration
}

// ReadReady answers a read: the local state serves it once RaftIndex is applied. OK is false when no leader
// confirmed it within Patience.
type ReadReady struct {
	Read      *Read
	OK        bool
	RaftIndex uint64
}

// Role is the raft role of this member.
type Role uint8

const (
	RoleBlank Role = iota // no genesis yet
	RoleLearner
	RoleFollower
	RoleCandidate
	RoleLeader
)

// Member is one entry of the committed member table.
type Member struct {
	ID         MemberID
	Peer       id.PeerID
	Preference Preference
	Voter      bool
	Durable    bool          // has a durable log
	Reachable  bool          // as this member sees it
	LastSeen   time.Duration // clock of the last contact, zero if never
}

// Status is a snapshot of what the engine knows.
type Status struct {
	Role      Role
	Term      uint64
	Genesis   GenesisID
	Member    MemberID
	Leader    id.PeerID // zero when unknown
	Online    bool      // there is a leader, and this member has applied up to what that leader had committed when it was met
	Committed Index     // user index handed out for applying
	RaftIndex uint64    // raft index handed out for applying
	Members   []Member  // by peer id
	Voters    int
	Reason    string        // in words, why the group is not online here; empty when it is
	Since     time.Duration // clock when Online last changed
	Fetch     *FetchStatus  // of the state, nil when none is under way
	LogFirst  uint64        // raft indices of the entries in the log; none if LogLast is below LogFirst
	LogLast   uint64
	LogBytes  int64
	LogCut    bool        // the log does not begin where the history does
	Note      string      // in words, what else is going on with the history; empty most of the time
	Origin    wire.Origin // how the history began
	Absorbed  []genesis.Absorption
	Missing   []Missing // voters without whom there is no majority; empty while there is one
}

// Engine is what a driver sees of a Replica: one group's consensus engine on one node. It does no I/O, starts no
// goroutine and reads no clock; now is a monotonic clock that the driver chooses. It is not safe for concurrent use: the
// driver serialises all calls. Methods only take in an event; Flush then works out what follows and fills out. A driver
// should hand in all events that wait before each Flush, since that is what batches.
type Engine interface {
	Tick(now time.Duration)

	// Wake ends a rest that Output.Rest had allowed and the driver has taken.
	Wake(now time.Duration, x *Rest)

	// PeerUp says that a bond to a peer that knows the group key is up: messages to it can now be sent. PeerDown says
	// that it is gone; closed is true when the connection was seen to close, rather than fallen silent.
	PeerUp(now time.Duration, peer id.PeerID)
	PeerDown(now time.Duration, peer id.PeerID, closed bool)

	// Listed tells the engine which peers the catalog lists as members of the group, bonded or not.
	Listed(now time.Duration, peers []id.PeerID)

	// Receive takes in a decoded message from a bonded peer. Whatever it contains, it cannot break the engine.
	Receive(now time.Duration, from id.PeerID, m wire.Message)

	Submit(now time.Duration, c *Call)
	Cancel(now time.Duration, c *Call)
	Read(now time.Duration, r *Read)

	// Applied says that the state machine has applied all up to the raft index.
	Applied(now time.Duration, raftIndex uint64)

	// Persisted says that all batches of the log up to seq are safe, or, with an error, that they and all later ones
	// may be lost.
	Persisted(now time.Duration, seq uint64, err error)

	// Retire starts the graceful end of a member that will come back as itself: its calls end and leadership is handed
	// over, the membership stays. Output.Left reports that it may be stopped.
	Retire(now time.Duration)

	// Imaged says that the image of a mark was written, and its root, or, if the root is zero, that it could not be.
	// ImageUsed says that a member fetches from one; it need not be told more than once a second.
	Imaged(now time.Duration, mark uint64, root Root)
	ImageUsed(now time.Duration, mark uint64)

	// FetchProgress says how many bytes of how many a Fetch has got, Fetched that the machine is prepared, with the
	// engine's part of the state, or that the fetch has failed. The driver keeps the machine until it is told to install
	// it, or to fetch something else.
	FetchProgress(now time.Duration, fetch uint64, done, total int64)
	Fetched(now time.Duration, fetch uint64, state []byte, err error)

	// Leave starts a graceful departure: leadership is handed over, the membership ended. Output.Left reports the end.
	Leave(now time.Duration)

	// Ask puts a question about leadership or recovery. Output.Answers brings the answer, after a few seconds at most.
	Ask(now time.Duration, q *Question)

	// Stop fails all calls, reads and questions that wait.
	Stop(now time.Duration)

	Flush(now time.Duration, out *Output)
}
