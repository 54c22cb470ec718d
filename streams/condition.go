package streams

import (
	"github.com/mosaik-go/mosaik/discovery"
)

// Condition is a condition on the peers at the other ends of a producer's or consumer's live channels. Several together
// mean: at least so many peers ([AtLeast], by default one) of which each meets all of [Tagged] and [Matching]; and none of
// the conditions inside [Not] may be met. A list of nothing but Not has no minimum.
//
//	Subscribed(ctx)                                       // somebody
//	Subscribed(ctx, AtLeast(2), Tagged("eu", "gold"))     // two that have both tags
//	Subscribed(ctx, Not(Tagged("test")))                  // nobody with the tag
//
// Conditions judge the current entries of the peers, not those of when they connected.
type Condition struct {
	least int // zero: not set
	peer  func(discovery.PeerInfo) bool
	none  bool // AtLeast(0)
	not   []Condition
}

// AtLeast asks for n peers. Of several the largest counts; AtLeast(0) is always met.
func AtLeast(n int) Condition { return Condition{least: max(0, n), none: n <= 0} }

// Tagged asks for peers that have all of the tags.
func Tagged(tags ...string) Condition {
	return Matching(func(p discovery.PeerInfo) bool {
		for _, t := range tags {
			if !p.HasTag(t) {
				return false
			}
		}
		return true
	})
}

// Matching asks for peers for which fn holds. fn must not block or call back into the stream.
func Matching(fn func(discovery.PeerInfo) bool) Condition { return Condition{peer: fn} }

// Not asks that the conditions, taken together, are not met.
func Not(conditions ...Condition) Condition {
	return Condition{not: append(make([]Condition, 0, len(conditions)+1), conditions...)}
}

// met reports whether the conditions hold for the peers.
func met(conditions []Condition, peers []discovery.PeerInfo) bool {
	least, set := 0, false
	positive := len(conditions) == 0
	for _, c := range conditions {
		switch {
		case c.not != nil:
			if met(c.not, peers) {
				return false
			}
		case c.peer != nil:
			positive = true
		case c.none || c.least > 0:
			positive, set = true, true
			least = max(least, c.least)
		}
	}
	if !positive {
		return true
	}
	if !set {
		least = 1
	}
	count := 0
	for _, p := range peers {
		if matches(conditions, p) {
			count++
		}
	}
	return count >= least
}

func matches(conditions []Condition, p discovery.PeerInfo) bool {
	for _, c := range conditions {
		if c.peer != nil && !c.peer(p) {
			return false
		}
	}
	return true
}
