package engine

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// Backoff is how the time between attempts to subscribe grows.
type Backoff struct {
	Initial    time.Duration
	Multiplier float64
	Jitter     float64 // from 0 to 1: each pause is drawn from pause × [1-Jitter, 1+Jitter]
	Max        time.Duration
	GiveUp     time.Duration // after failing for so long; negative: never
}

// pause returns how long to wait after the n-th failure in a row, n counting from 1.
func (b Backoff) pause(n int) time.Duration {
	d := float64(b.Initial) * math.Pow(b.Multiplier, float64(n-1))
	d = min(d, float64(b.Max))
	return time.Duration(d * (1 - b.Jitter + 2*b.Jitter*rand.Float64()))
}

// Refusal is why there is no subscription between two peers, remembered so that it is not asked for again and again.
type Refusal struct {
	Peer   id.PeerID
	Code   link.Code
	Detail string
	Remote bool      // the other side refused
	Since  time.Time // of the first in a row
	Tries  int       // in a row
	Retry  time.Time // not tried again before, unless something changes; zero: not at all until then
}

// attempts is the history of one consumer with one producer.
type attempts struct {
	failures int
	since    time.Time // of the first of them
	last     Refusal
	retry    time.Time
	resting  bool // gave up until something changes
}

// failed notes a failure.
func (a *attempts) failed(b Backoff, r Refusal, now time.Time) {
	if a.failures == 0 {
		a.since = now
	}
	a.failures++
	a.retry = now.Add(b.pause(a.failures))
	a.resting = b.GiveUp >= 0 && now.Sub(a.since) >= b.GiveUp
	r.Since, r.Tries, r.Retry = a.since, a.failures, a.retry
	if a.resting {
		r.Retry = time.Time{}
	}
	a.last = r
}

// hurry makes the next attempt due at once, because something changed.
func (a *attempts) hurry() {
	a.retry = time.Time{}
	if a.resting {
		a.resting, a.failures = false, 0
	}
}

// settled forgets the failures.
func (a *attempts) settled() { *a = attempts{} }

// due reports whether it is time for an attempt.
func (a *attempts) due(now time.Time) bool { return !a.resting && !now.Before(a.retry) }
