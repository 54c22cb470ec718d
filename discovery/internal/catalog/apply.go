package catalog

import "github.com/mosaik-go/mosaik/discovery/internal/wire"

// Verdict is what an update means to a catalog.
type Verdict uint8

// The verdicts. The first four change the catalog.
const (
	Added     Verdict = iota + 1 // a peer that was not there
	Updated                      // newer content
	Refreshed                    // only a newer sign of life
	Departed                     // the peer left; it need not have been known
	Held                         // the origin changes too often: kept, and applied later
	Known                        // nothing new
	Missing                      // a beat of an entry that is not here: ask for it
	Gone                         // the peer has departed in this incarnation or a later one
	Outdated                     // no sign of life within the purge age
	Future                       // beyond the allowed drift of clocks
	Foreign                      // of another network
	Full                         // the catalog holds as many peers as it may
	Conflict                     // about this node, but not from it: somebody else uses its identity
)

var verdictNames = [...]string{
	Added: "added", Updated: "updated", Refreshed: "refreshed", Departed: "departed", Held: "held", Known: "known",
	Missing: "missing", Gone: "gone", Outdated: "outdated", Future: "future", Foreign: "foreign", Full: "full",
	Conflict: "conflict",
}

// String returns the name of the verdict, which is also the reason label of the metric of refusals.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) && v > 0 {
		return verdictNames[v]
	}
	return "unknown"
}

// Changed reports whether the catalog changed, so that the update must be passed on.
func (v Verdict) Changed() bool { return v >= Added && v <= Departed }

// Refused reports whether the update was turned down for what it is, rather than for being old news.
func (v Verdict) Refused() bool { return v >= Gone && v <= Conflict }

// Outcome is what applying an update did.
type Outcome struct {
	Verdict Verdict
	Before  *Record     // nil: the peer was not there; unsigned only if Verdict is Added
	After   *Record     // nil: it is not there now
	Tell    wire.Update // what to pass on if Verdict.Changed
	WasLost bool        // this node could not reach the peer
	Lost    bool        // and still believes so
	Age     int64       // of Future, how far ahead, and of Outdated, how old, in milliseconds
}

// Examine says what Apply would do, before any signature is checked: it sets Verdict and Age. Only Apply knows of Held.
func (c *Core) Examine(u wire.Update, now int64) Outcome {
	v, age := c.judge(u, now)
	return Outcome{Verdict: v, Age: age}
}

func (c *Core) judge(u wire.Update, now int64) (v Verdict, age int64) {
	if u.Entry != nil && u.Entry.Network != c.cfg.Network {
		return Foreign, 0
	}
	p := u.Peer()
	if p == c.cfg.Self {
		return c.judgeOwn(u), 0
	}
	newest, alive := times(u)
	if ahead := newest - now; ahead > c.cfg.MaxDrift {
		return Future, ahead
	}
	if old := now - alive; old > c.cfg.PurgeAfter {
		return Outdated, old
	}
	var rec *Record
	if o := c.origins[p]; o != nil {
		rec = o.rec
		if o.tomb != nil && o.tomb.Start >= u.Start() {
			if u.Depart != nil {
				return Known, 0
			}
			return Gone, 0
		}
	}
	switch {
	case u.Depart != nil && rec == nil && (c.graves >= c.cfg.MaxPeers || c.crowded()):
		return Full, 0
	case u.Depart != nil && rec != nil && rec.Entry.Start > u.Depart.Start:
		return Known, 0
	case u.Depart != nil:
		return Departed, 0
	case u.Entry == nil:
		return judgeBeat(rec, u.Beat), 0
	case rec == nil && (len(c.order) >= c.cfg.MaxPeers || c.crowded()):
		return Full, 0
	case rec == nil:
		return Added, 0
	case compare(u.Entry, rec.Signed) > 0:
		return Updated, 0
	case u.Beat != nil && judgeBeat(rec, u.Beat) == Refreshed:
		return Refreshed, 0
	}
	return Known, 0
}

// crowded reports whether there is no room for another origin. Departures of known peers need none, so without this
// bound on the sum an endless procession of peers that come and go would fill the memory with tombstones.
func (c *Core) crowded() bool { return len(c.order)+c.graves >= 2*c.cfg.MaxPeers }

// judgeOwn judges an update about this node. Old news of it and of its earlier lives are normal.
func (c *Core) judgeOwn(u wire.Update) Verdict {
	if c.local == nil {
		return Known
	}
	_, alive := times(u)
	start := c.local.Entry.Start
	switch {
	case u.Start() < start:
		return Known
	case u.Start() > start || u.Depart != nil || alive > c.local.Alive():
		return Conflict
	case u.Entry != nil && u.Entry.Entry.Update > c.local.Entry.Update:
		return Conflict
	}
	return Known
}

func judgeBeat(rec *Record, b *wire.Beat) Verdict {
	switch {
	case rec == nil || rec.Entry.Start < b.Start:
		return Missing
	case rec.Entry.Start > b.Start:
		return Known
	case rec.Entry.Update < b.Content:
		return Missing
	case b.At >= rec.Alive()+BeatGap:
		return Refreshed
	}
	return Known
}

// times returns the largest time that an update names and the sign of life that it is.
func times(u wire.Update) (newest, alive int64) {
	if u.Depart != nil {
		return u.Depart.At, u.Depart.At
	}
	if u.Entry != nil {
		alive = u.Entry.Entry.Update
	}
	if u.Beat != nil {
		alive = max(alive, u.Beat.At)
	}
	return alive, alive
}

// Apply takes in an update whose signatures are valid.
func (c *Core) Apply(u wire.Update, now int64) Outcome {
	v, age := c.judge(u, now)
	out := Outcome{Verdict: v, Age: age}
	if !v.Changed() {
		return out
	}
	o := c.origins[u.Peer()]
	if o == nil {
		o = &origin{tokens: newBucket(c.cfg.Burst, now)}
		c.origins[u.Peer()] = o
	}
	out.Before = o.rec
	out.WasLost = o.lost != 0
	switch v {
	case Departed:
		c.bury(o, u.Depart)
		out.Tell = u
	case Refreshed:
		out.After = &Record{Entry: o.rec.Entry, Signed: o.rec.Signed, Beat: u.Beat}
		out.Tell = wire.Update{Beat: u.Beat}
		c.put(o, out.After)
	case Added, Updated:
		if !o.tokens.take(c.cfg.Burst, c.cfg.Refill, now) {
			c.hold(o, u)
			return Outcome{Verdict: Held, Before: o.rec, After: o.rec}
		}
		out.After = &Record{Entry: u.Entry.Entry, Signed: u.Entry, Beat: latest(u.Beat, o.rec, u.Entry.Start)}
		out.Tell = out.After.Update()
		if out.Before == nil {
			out.Before = c.extra[u.Peer()]
		}
		delete(c.extra, u.Peer())
		c.put(o, out.After)
	}
	if out.WasLost && out.After != nil && c.proves(o, out) {
		c.find(o)
	}
	out.Lost = o.lost != 0
	return out
}

// latest returns the later of a beat and the one that is known of the same incarnation.
func latest(b *wire.Beat, known *Record, start int64) *wire.Beat {
	if known == nil || known.Beat == nil || known.Beat.Start != start {
		return b
	}
	if b == nil || b.At < known.Beat.At {
		return known.Beat
	}
	return b
}

// bury replaces what is known of a peer by its departure.
func (c *Core) bury(o *origin, d *wire.Depart) {
	until := d.At
	if o.rec != nil {
		until = max(until, o.rec.Alive())
	}
	if o.tomb == nil {
		c.graves++
	}
	until += c.cfg.PurgeAfter
	c.take(o)
	o.tomb = &tombstone{d, until}
	c.expireAfter(until)
}
