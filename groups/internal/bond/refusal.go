package bond

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// Refusal says why there is no bond to a peer.
type Refusal struct {
	Code   link.Code
	Reason string // more than the code says, may be empty
	Remote bool   // the peer refused
}

// String returns the refusal in words.
func (r Refusal) String() string {
	who := "refused here"
	if r.Remote {
		who = "refused by the peer"
	}
	if r.Code == link.CodeGroupFailed && r.Remote {
		return "the group failed on that node"
	}
	if r.Reason == "" {
		return fmt.Sprintf("%s: %v", who, r.Code)
	}
	return fmt.Sprintf("%s: %v: %s", who, r.Code, r.Reason)
}

// PeerRefusal is a refusal that is remembered.
type PeerRefusal struct {
	Refusal
	Peer  id.PeerID
	Since time.Time // of the first in a row
	Tries int       // how many in a row
	Retry time.Time // not tried again before, unless the peer tries or its entry changes

	told time.Time // when a refusal of the peer was last reported
	what string    // label of its code
}

// reportEvery is the shortest time between two reports about one peer, which can make up as many refusals as it likes.
const reportEvery = time.Second

// report reports whether the refusal is to be reported, and takes note if it is. One that only repeats what was reported
// is not, nor is one that says that a peer comes or goes.
func (r *PeerRefusal) report(now time.Time) bool {
	switch r.Code {
	case link.CodeShutdown, link.CodeGroupNotFound, link.CodeUnknownPeer, link.CodeGroupFailed:
		return false
	}
	what := r.Code.Label()
	if what == r.what || now.Sub(r.told) < reportEvery {
		return false
	}
	r.told, r.what = now, what
	return true
}

// patience is how the time between tries grows after refusals of one kind.
type patience struct{ first, most time.Duration }

// patienceFor says how long to wait: short for what a moment may change, long for what somebody has to repair.
func patienceFor(code link.Code) patience {
	switch code {
	case link.CodeGroupNotFound, link.CodeShutdown, link.CodeUnknownPeer, link.CodeGroupFailed:
		return patience{500 * time.Millisecond, time.Minute}
	case link.CodeGroupTimeout:
		return patience{time.Second, time.Minute}
	case link.CodeGroupNotAllowed:
		return patience{2 * time.Second, time.Minute}
	default:
		return patience{5 * time.Second, 5 * time.Minute}
	}
}

// delay returns how long to wait after the n-th failure in a row, n counting from 1: doubling, with a quarter of jitter
// either way.
func (p patience) delay(n int) time.Duration {
	d := p.most
	if n < 20 {
		d = min(p.most, p.first<<(n-1))
	}
	return d*3/4 + rand.N(d/2+1)
}

// failedMost bounds the peers that are remembered because the group failed there, though they are not listed any more.
const failedMost = 64

// remember notes a refusal after those before it, which may be nil.
func remember(before *PeerRefusal, peer id.PeerID, r Refusal, now time.Time) *PeerRefusal {
	next := &PeerRefusal{Refusal: r, Peer: peer, Since: now, Tries: 1}
	if before != nil {
		next.told, next.what = before.told, before.what
		if before.Code == r.Code {
			next.Since = before.Since
			next.Tries = before.Tries + 1
		}
	}
	next.Retry = now.Add(patienceFor(r.Code).delay(next.Tries))
	return next
}

// describe returns what a peer is told and shown about a reason, within the limit of the wire.
func describe(reason string) string {
	if len(reason) > maxReason {
		return reason[:maxReason]
	}
	return reason
}
