package engine

import (
	"slices"

	"github.com/mosaik-go/mosaik/internal/link"
)

// inLoop runs fn where the loop's fields may be read, and waits for it.
func (s *Service) inLoop(fn func()) {
	done := make(chan struct{})
	s.post(func() {
		fn()
		close(done)
	})
	select {
	case <-done:
	case <-s.looped:
		select {
		case <-done:
		default: // the service has ended; fn does not run
		}
	}
}

// Refusals returns the peers that announce the stream and have no subscription, and why, by peer id.
func (s *Source) Refusals() (out []Refusal) {
	s.svc.inLoop(func() {
		for _, t := range s.ties {
			if t.state == tieUp {
				continue
			}
			out = append(out, t.explain(s.svc.peers[t.peer]))
		}
	})
	sortRefusals(out)
	return out
}

// explain says why a tie is not up.
func (t *tie) explain(u *upstream) Refusal {
	switch {
	case t.denied != "":
		return Refusal{Peer: t.peer, Code: link.CodeStreamNotAllowed, Detail: t.denied}
	case t.state == tieAsking:
		return Refusal{Peer: t.peer, Detail: "waiting for the producer's answer", Remote: true, Since: t.asked}
	case t.attempts.failures > 0:
		return t.attempts.last
	case u != nil && u.attempts.failures > 0:
		return u.attempts.last
	default:
		return Refusal{Peer: t.peer, Detail: "connecting"}
	}
}

// Refusals returns the peers that were refused lately and not accepted since, and why, by peer id.
func (s *Sink) Refusals() (out []Refusal) {
	s.svc.inLoop(func() {
		for key, r := range s.svc.turned {
			if key.stream == s.cfg.Stream {
				out = append(out, *r)
			}
		}
	})
	sortRefusals(out)
	return out
}

func sortRefusals(r []Refusal) {
	slices.SortFunc(r, func(a, b Refusal) int { return a.Peer.Compare(b.Peer) })
}
