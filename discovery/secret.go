package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Limits of what is remembered and logged of strangers. Anybody who knows the network's name can be one, under any number
// of identities.
const (
	strangersMost  = 64
	strangersNoted = 64               // refusals that wait to be looked at
	strangerStays  = 3 * time.Minute  // after the last refusal; nodes in company try a missing peer more often
	strangerAgain  = 10 * time.Minute // between warnings about one
	strangersBurst = 8                // warnings at once, and one a minute after that
)

// strangers are the peers that show the id of this network and are refused, or refuse this node, because their network
// secret is not this node's.
type strangers struct {
	mu    sync.Mutex // guards all following fields
	loud  *rate.Limiter
	peers map[PeerID]*stranger
}

type stranger struct {
	since, last, told time.Time
	times             int
}

func newStrangers() *strangers {
	return &strangers{loud: rate.NewLimiter(rate.Every(time.Minute), strangersBurst), peers: make(map[PeerID]*stranger)}
}

// refused takes note of a refusal and reports whether it is to be logged.
func (s *strangers) refused(p PeerID, now time.Time) (warn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	k := s.peers[p]
	if k == nil {
		if len(s.peers) >= strangersMost {
			return false
		}
		k = &stranger{since: now}
		s.peers[p] = k
	}
	k.last = now
	k.times++
	if !k.told.IsZero() && now.Sub(k.told) < strangerAgain || !s.loud.AllowN(now, 1) {
		return false
	}
	k.told = now
	return true
}

// forget takes note that a peer is no stranger.
func (s *strangers) forget(p PeerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

func (s *strangers) expireLocked(now time.Time) {
	for p, k := range s.peers {
		if now.Sub(k.last) > strangerStays {
			delete(s.peers, p)
		}
	}
}

// count returns how many there are; full says that there may be more.
func (s *strangers) count(now time.Time) (n int, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	return len(s.peers), len(s.peers) >= strangersMost
}

func (s *strangers) status(now time.Time) []StrangerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(now)
	var out []StrangerStatus
	for p, k := range s.peers {
		out = append(out, StrangerStatus{p, k.since, k.last, k.times})
	}
	slices.SortFunc(out, func(a, b StrangerStatus) int { return cmp.Or(a.Since.Compare(b.Since), a.Peer.Compare(b.Peer)) })
	return out
}

// noteRefused remembers that the host reports a refusal in the hello.
func (c *conns) noteRefused(e transport.Event) {
	if e.Code != link.CodeBadProof {
		return
	}
	c.mu.Lock()
	if len(c.refused) < strangersNoted {
		c.refused[e.Peer] = true
	}
	c.mu.Unlock()
	c.wake()
}

// takeRefused returns the peers of noteRefused since the last call.
func (c *conns) takeRefused() map[PeerID]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.refused) == 0 {
		return nil
	}
	out := c.refused
	c.refused = make(map[PeerID]bool)
	return out
}

// estrange takes note of a peer with another network secret.
func (d *Discovery) estrange(p PeerID) {
	if d.estranged.refused(p, time.Now()) {
		d.log.Warn("peer of this network refused: it has another network secret, or only one of the two nodes has one", "peer", p.Short())
	}
}

// Note says in words what keeps peers of this network away that nobody else can tell, empty most of the time: that there
// are peers of the same network name with another network secret. The Status of groups and streams has it too.
func (d *Discovery) Note() string {
	n, full := d.estranged.count(time.Now())
	const why = "another network secret; all nodes need the same, or none"
	switch {
	case n == 0:
		return ""
	case full:
		return fmt.Sprintf("%d peers of this network or more are refused: %s", n, why)
	case n == 1:
		return "1 peer of this network is refused: " + why
	default:
		return fmt.Sprintf("%d peers of this network are refused: %s", n, why)
	}
}
