package discovery

import (
	"time"

	"github.com/mosaik-go/mosaik/internal/link"
)

// tellAgain is the least time between two warnings of the same kind in the log. The counters count each case.
const tellAgain = time.Minute

// refuse counts a refusal.
func (s *store) refuse(reason string) {
	s.count.refused.WithLabelValues(reason).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[reason]++
}

// isRefusal reports whether a peer that closes with the code has something against this node.
func isRefusal(code link.Code) bool {
	switch code {
	case link.CodeSuccess, link.CodeShutdown, link.CodeUnneeded, link.CodeUnexpectedClose, link.CodeCancelled, link.CodeTimeout:
		return false
	default:
		return true
	}
}

// refusedBy takes note that a peer turned this node down.
func (d *Discovery) refusedBy(p PeerID, code link.Code) {
	s := d.store
	s.mu.Lock()
	s.refusedByPeers[code.Label()]++
	warn := code != link.CodeOverloaded && s.tellLocked("refused by "+code.Label())
	s.mu.Unlock()
	if warn {
		d.log.Warn("refused by a peer", "peer", p.Short(), "reason", code.String())
	}
}

// drifted takes note of a peer whose clock differs too much.
func (d *Discovery) drifted(p PeerID, off time.Duration, ahead bool) {
	s := d.store
	s.mu.Lock()
	s.drift = &DriftStatus{Peer: p, Off: off, Ahead: ahead, At: time.Now()}
	warn := s.tellLocked("drift")
	s.mu.Unlock()
	if warn {
		d.log.Warn("peer refused: its clock and this node's differ too much", "peer", p.Short(), "off", off, "ahead", ahead)
	}
}

// tellLocked reports whether a warning of this kind may be logged now. Kinds are few: they are not made of what peers say.
func (s *store) tellLocked(kind string) bool {
	now := time.Now()
	if last, ok := s.told[kind]; ok && now.Sub(last) < tellAgain {
		return false
	}
	s.told[kind] = now
	return true
}
