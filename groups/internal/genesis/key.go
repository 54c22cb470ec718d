// Package genesis decides how the histories of a group begin and end: the ballot by which one is founded, and the
// protocol by which two that were founded apart become one. All of it is pure: what a log says is folded into a [Line],
// what a leader does about it is decided by a [Merger], and a [Ballot] answers messages.
//
// # Merging
//
// Of two histories that meet the one with the lower [Key] gives way. Its leader
//
//  1. freezes it: from that entry of its log on it takes no commands, so all it holds is final;
//  2. asks the leader of the other history to absorb it, which that grants by an entry of its own log;
//  3. proposes its commands there, in their order and under their original session numbers, so that each of them is
//     taken once however often this is tried, and whatever detours it takes;
//  4. dissolves it, by a last entry of its log, once all are committed there. Its members join the other history.
//
// A history can be proposed again if its log reaches back to where the other one parts from it. One that cannot is fixed:
// the other gives way to it, if that can be proposed again. If both are fixed, the one with the lower key gives way all the
// same, without step 3: its members hand what it held to the application.
//
// An attempt that makes no progress is given up: the history thaws and later tries again, under a higher number, and
// answers to lower numbers are ignored. A history grants only while it is not frozen itself; of two that are frozen and
// wait for each other the one with the higher key thaws. So no cycle of dissolved histories can come about: along it,
// each would have to have granted before it froze.
package genesis

import (
	"bytes"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// ID names a history.
type ID = wire.Genesis

// Key orders the histories of a group.
type Key struct {
	Fixed    bool   // cannot be proposed again in the other history
	Forced   uint64 // forks that were forced on the way here
	Commands uint64
	ID       ID
}

// Beats reports whether a history with key k absorbs one with key o. One that is fixed stays; then the one
// that left the agreed line less often, which is the one that kept a majority; then the longer one.
func (k Key) Beats(o Key) bool {
	switch {
	case k.Fixed != o.Fixed:
		return k.Fixed
	case k.Forced != o.Forced:
		return k.Forced < o.Forced
	case k.Commands != o.Commands:
		return k.Commands > o.Commands
	default:
		return bytes.Compare(k.ID[:], o.ID[:]) < 0
	}
}
