package engine

import "github.com/mosaik-go/mosaik/id"

// Cause says why items are missing.
type Cause uint8

const (
	// Lagged: the consumer was too slow, and the producer dropped items or the consumer.
	Lagged Cause = iota + 1
	// Away: the items were sent while there was no connection.
	Away
	// Restarted: the producer began a new life, and what else was lost with the old one is unknown.
	Restarted
	// Undecodable: an item could not be decoded.
	Undecodable
)

// Gap is a hole in what came from one producer.
type Gap struct {
	Producer id.PeerID
	Lost     uint64
	Exact    bool // otherwise Lost is the most or, for Restarted, the least
	Cause    Cause
}
