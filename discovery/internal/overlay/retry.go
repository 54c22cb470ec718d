package overlay

import (
	"math/rand/v2"
	"time"
)

// Pauses between attempts to reach one peer: they double, with jitter of a quarter in each direction.
const (
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
)

// Retry counts failures in a row and says when to try again.
type Retry struct {
	Fails int
	At    time.Time
}

// Next returns the state after one more failure.
func (r Retry) Next(now time.Time, rng *rand.Rand) Retry {
	pause := retryMin << min(r.Fails, 6)
	pause = min(pause, retryMax)
	pause = time.Duration(float64(pause) * (0.75 + rng.Float64()/2))
	return Retry{Fails: r.Fails + 1, At: now.Add(pause)}
}
