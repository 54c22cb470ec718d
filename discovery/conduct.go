package discovery

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/mosaik-go/mosaik/internal/link"
)

// What happens to peers that misbehave. A forged signature is never an accident; a message that makes no sense may be one.
const (
	banFor       = 10 * time.Minute
	strikesToBan = 3
	strikeFor    = 10 * time.Minute // after which a strike is forgotten
)

// Comparisons that one peer may ask for: a few at once, then one every half second.
const (
	serveRate  = rate.Limit(2)
	serveBurst = 20
)

// maxConduct bounds the memory of misbehaviour and of what peers asked for; the oldest goes first.
const maxConduct = 1024

// conduct remembers how peers behave.
type conduct struct {
	scolds *rate.Limiter // of warnings in the log

	mu    sync.Mutex
	peers map[PeerID]*record
}

type record struct {
	strikes int
	last    time.Time
	serves  *rate.Limiter
}

func newConduct() *conduct {
	return &conduct{scolds: rate.NewLimiter(rate.Every(scoldEvery), scoldBurst), peers: make(map[PeerID]*record)}
}

// of returns the record of a peer. The mutex is held.
func (c *conduct) of(p PeerID, now time.Time) *record {
	r := c.peers[p]
	if r == nil {
		if len(c.peers) >= maxConduct {
			c.forgetOldest()
		}
		r = &record{serves: rate.NewLimiter(serveRate, serveBurst)}
		c.peers[p] = r
	}
	if now.Sub(r.last) > strikeFor {
		r.strikes = 0
	}
	r.last = now
	return r
}

func (c *conduct) forgetOldest() {
	var oldest PeerID
	var last time.Time
	for p, r := range c.peers {
		if last.IsZero() || r.last.Before(last) {
			oldest, last = p, r.last
		}
	}
	delete(c.peers, oldest)
}

// strike notes misbehaviour and reports whether it was once too often.
func (c *conduct) strike(p PeerID, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.of(p, now)
	r.strikes++
	if r.strikes < strikesToBan {
		return false
	}
	r.strikes = 0
	return true
}

// mayAsk reports whether a peer may ask for a comparison now.
func (c *conduct) mayAsk(p PeerID, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of(p, now).serves.AllowN(now, 1)
}

// Warnings about misbehaviour that are logged at once, and then one each second; identities cost nothing, so there may be
// any number. Those beyond are for the debug level, and the counters count all.
const (
	scoldBurst = 20
	scoldEvery = time.Second
)

// scold logs what was done about a peer that misbehaved.
func (d *Discovery) scold(what string, p PeerID, reason string) {
	level := slog.LevelWarn
	if !d.conduct.scolds.Allow() {
		level = slog.LevelDebug
	}
	d.log.Log(d.loopCtx, level, what, "peer", p.Short(), "reason", reason)
}

// blame holds a violation against a peer: its connections are closed, and at the third within ten minutes it is banned.
func (d *Discovery) blame(p PeerID, what string) {
	d.store.refuse("violation")
	if d.conduct.strike(p, time.Now()) {
		d.scold("peer banned", p, what)
		d.store.refuse("banned")
		d.host.Ban(p, banFor)
		return
	}
	d.scold("peer disconnected", p, what)
	d.host.Disconnect(p, link.CodeProtocolViolation)
}
