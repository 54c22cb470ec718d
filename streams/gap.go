package streams

import (
	"fmt"

	"github.com/mosaik-go/mosaik/streams/internal/engine"
)

// Gap is a hole in what came from one producer: Lost items are missing between the item before and the one after. When
// Exact is false the number is uncertain: at most Lost are missing of what the consumer's keys select, or, for
// [ProducerRestarted], at least Lost and unknown ones from before.
type Gap struct {
	Producer PeerID
	Lost     uint64
	Exact    bool
	Cause    GapCause
}

// String says in a line what is missing and why, for people.
func (g Gap) String() string {
	about := ""
	switch {
	case g.Exact:
	case g.Cause == ProducerRestarted:
		about = "at least "
	default:
		about = "at most "
	}
	return fmt.Sprintf("%s%d items of %s are missing: %v", about, g.Lost, g.Producer.Short(), g.Cause)
}

// GapCause says why items are missing. Its String says it in words.
type GapCause = engine.Cause

const (
	// Lagged: this consumer was too slow, and the producer's policy was to drop.
	Lagged = engine.Lagged
	// Away: there was no connection while they were sent, this consumer having been disconnected for being too slow
	// included.
	Away = engine.Away
	// ProducerRestarted: the producer began anew.
	ProducerRestarted = engine.Restarted
	// Undecodable: an item came that the codec refuses.
	Undecodable = engine.Undecodable
)
