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

// GapCause says why items are missing.
type GapCause uint8

const (
	// Lagged: this consumer was too slow, and the producer's policy was to drop items or, see [Disconnect], the consumer,
	// which then missed what was sent until it was back.
	Lagged GapCause = GapCause(engine.Lagged)
	// Away: there was no connection while they were sent.
	Away GapCause = GapCause(engine.Away)
	// ProducerRestarted: the producer began anew.
	ProducerRestarted GapCause = GapCause(engine.Restarted)
	// Undecodable: an item came that the codec refuses.
	Undecodable GapCause = GapCause(engine.Undecodable)
)

// String says in words why items are missing.
func (c GapCause) String() string {
	switch c {
	case Lagged:
		return "the consumer was too slow"
	case Away:
		return "there was no connection"
	case ProducerRestarted:
		return "the producer began anew"
	case Undecodable:
		return "the codec refuses it"
	default:
		return "unknown cause"
	}
}

func gapOf(g engine.Gap) Gap {
	return Gap{Producer: g.Producer, Lost: g.Lost, Exact: g.Exact, Cause: GapCause(g.Cause)}
}
