package core

import "github.com/mosaik-go/mosaik/id"

// NewsKind tells news apart.
type NewsKind uint8

const (
	// NewsAbsorbed: this member's history has taken in From, with Commands commands.
	NewsAbsorbed NewsKind = iota + 1
	// NewsMerged: this member's history From, with Commands commands, is over; the member joins Into. The state machine
	// starts anew.
	NewsMerged
	// NewsDivergence: Items, which were committed in From, are not taken over into Into as they are. With State they are only
	// the last ones; the driver must keep the state of the machine, as it is when all of From is applied and before the
	// reset that comes with these news.
	NewsDivergence
	// NewsForked: this member has forked Into off from From, because Lost will not come back, as Reason says.
	NewsForked
	// NewsFollowed: this member leaves From for Into, which another survivor has forked off.
	NewsFollowed
	// NewsQuorumLost: the voters Lost are missing, so there is no majority. NewsQuorumBack: there is one again.
	NewsQuorumLost
	NewsQuorumBack
)

// News is something about the group's history that its users may want to know.
type News struct {
	Kind       NewsKind
	From, Into GenesisID
	Commands   Index
	Items      []Item
	Lost       []id.PeerID
	Lossy      bool // acknowledged commands may be missing, or, of a merge, were not taken over
	State      bool
	Reason     string
}

// MergePolicy says what happens to the commands of a history that merges into another one.
type MergePolicy uint8

const (
	MergeRepropose MergePolicy = iota // they are proposed there again, each exactly once
	MergeSurface                      // they are handed to the application
	MergeResolve                      // the application says what is proposed in their place
)

// Resolved is one call that a MergeResolve proposes.
type Resolved struct {
	Count   int
	Payload []byte
}
