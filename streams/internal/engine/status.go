package engine

import (
	"slices"
	"time"

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

// Note says what keeps peers away that nobody else can tell, see discovery.
func (s *Service) Note() string { return s.disc.Note() }

// LastEnded returns the channel that ended last, and when; nil before that.
func (s *Sink) LastEnded() (*Channel, time.Time) {
	c := s.lastEnded.Load()
	if c == nil {
		return nil, time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.until
}

// cutWarnEvery is the least time between two warnings that a stream cuts consumers off that are too slow.
const cutWarnEvery = time.Minute

// cutSlow ends the subscription of a consumer whose queue is full. Only the sink's own goroutine calls it.
func (s *Sink) cutSlow(o *outlet) {
	o.cut(link.CodeStreamTooSlow, "the queue is full")
	now := time.Now()
	if !s.warned.IsZero() && now.Sub(s.warned) < cutWarnEvery {
		return
	}
	s.warned = now
	s.svc.log.Warn("a consumer was too slow and is cut off; items are not sent while the online condition is not met",
		"stream", s.cfg.Name, "peer", o.channel.Consumer.Short(), "consumers left", s.consumers())
}

// explain says why a tie is not up.
func (t *tie) explain(u *upstream) Refusal {
	switch {
	case t.denied != "":
		return Refusal{Peer: t.peer, Code: link.CodeStreamNotAllowed, Detail: t.denied}
	case t.state == tieAsking && t.attempts.failures == 0: // while it is asked again, it is known why not last time
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
