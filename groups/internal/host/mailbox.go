package host

import (
	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// mailbox is what waits for the group loop. The loop swaps it with an empty one and hands all of it to the engine before
// it asks what follows, so whatever came in together is answered together.
//
// It is bounded: calls by the window, messages by a budget of bytes per peer at which the peer's reader waits, reads and
// cancellations by the number of callers that wait, the rest is a flag each.
type mailbox struct {
	peers   []peerEvent // in the order in which they happened
	calls   []*Call
	cancels []*Call
	reads   []*Read
	bulk    []bulkEvent
	asks    []*core.Question
	listed  []id.PeerID
	relist  bool   // listed is to be taken over
	stored  uint64 // batches of the log up to here are safe, if it is not zero
	failed  error  // why later ones will not be
	tick    bool
	wake    bool // progress of the applier that the engine should hear of now
	retire  bool
	leave   bool
	stop    bool
}

// peerEvent is something that a bond reports.
type peerEvent struct {
	kind   peerEventKind
	closed bool // for peerDown
	bond   *bond.Bond
	msg    wire.Message // for peerMessage
}

type peerEventKind uint8

const (
	peerMessage peerEventKind = iota
	peerUp
	peerDown
)

func (m *mailbox) empty() bool {
	return len(m.peers) == 0 && len(m.calls) == 0 && len(m.cancels) == 0 && len(m.reads) == 0 && len(m.bulk) == 0 &&
		len(m.asks) == 0 && m.stored == 0 && m.failed == nil &&
		!m.relist && !m.tick && !m.wake && !m.retire && !m.leave && !m.stop
}

// reset empties the mailbox and keeps its slices, unless a burst has made them large.
func (m *mailbox) reset() {
	m.peers = recycle(m.peers)
	m.calls = recycle(m.calls)
	m.cancels = recycle(m.cancels)
	m.reads = recycle(m.reads)
	m.bulk = recycle(m.bulk)
	m.asks = recycle(m.asks)
	m.listed, m.relist = nil, false
	m.stored, m.failed = 0, nil
	m.tick, m.wake, m.retire, m.leave, m.stop = false, false, false, false, false
}

// keepSlots is the largest slice that an idle mailbox keeps.
const keepSlots = 4096

func recycle[T any](s []T) []T {
	if cap(s) > keepSlots {
		return nil
	}
	clear(s)
	return s[:0]
}
