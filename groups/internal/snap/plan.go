package snap

import (
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// Plan decides, for one fetch, what to ask whom. The manifest comes first, from anybody; its hash must be the root. Then
// chunks are asked for in order, one at a time from each source, so the fastest get the most to do. The leader, which has
// other work, is asked only while fewer than two others serve.
//
// Whoever does not answer in time, or no longer has the state, is left alone for a while and then asked again; whoever
// answers with something else than what was asked for is not asked again at all. What one could not give another is asked
// for. The fetch fails when nothing came for a long time, or when nobody is left.
//
// Chunks are handed on in order. How far the plan runs ahead of what was taken is bounded, and so is the memory it needs.
type Plan struct {
	root     id.ID
	limits   Limits
	sources  []*source // by preference: the leader last, else by peer
	manifest *Manifest
	raw      []byte

	taken   int            // chunks handed on
	next    int            // chunks never asked for begin here
	again   []int          // chunks to ask for again, in order
	arrived map[int][]byte // chunks that wait for those before them
	done    int64          // bytes that have arrived

	progress time.Duration // when something last arrived
	failed   error
}

// Limits of a plan. The zero value means the defaults.
type Limits struct {
	Window   int           // chunks asked for or arrived, and not taken; default 32
	Answer   time.Duration // for one answer; default 10 s
	Pause    time.Duration // before a source that failed is asked again, doubling up to 16 times; default 500 ms
	Patience time.Duration // without anything arriving; default 30 s
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if l.Window == 0 {
		l.Window = 32
	}
	set(&l.Answer, 10*time.Second)
	set(&l.Pause, 500*time.Millisecond)
	set(&l.Patience, 30*time.Second)
	return l
}

// source is a member to ask.
type source struct {
	peer   id.PeerID
	leader bool
	here   bool // can be reached
	banned bool
	asked  *Request // under way
	since  time.Duration
	pause  time.Duration
	until  time.Duration // not to be asked before
	why    string        // the last failure
}

// Ask is an order to send a request to a peer. The driver reports its end with Answer or Fail.
type Ask struct {
	Peer id.PeerID
	Request
}

// NewPlan returns the plan of a fetch that begins now. Sources come with SetSources.
func NewPlan(now time.Duration, root id.ID, limits Limits) *Plan {
	return &Plan{root: root, limits: limits.withDefaults(), arrived: make(map[int][]byte), progress: now}
}

// SetSources says who can be asked, and who of them leads. A source that is gone is asked again when it is back.
func (p *Plan) SetSources(peers []id.PeerID, leader id.PeerID) {
	for _, s := range p.sources {
		s.here, s.leader = false, s.peer == leader
	}
	for _, who := range peers {
		s := p.source(who)
		if s == nil {
			s = &source{peer: who, leader: who == leader}
			p.sources = append(p.sources, s)
		}
		s.here = true
	}
	slices.SortFunc(p.sources, func(a, b *source) int {
		if a.leader != b.leader {
			if a.leader {
				return 1
			}
			return -1
		}
		return a.peer.Compare(b.peer)
	})
}

func (p *Plan) source(who id.PeerID) *source {
	for _, s := range p.sources {
		if s.peer == who {
			return s
		}
	}
	return nil
}

// Next returns what to ask now. The driver calls it whenever something has changed, and from time to time.
func (p *Plan) Next(now time.Duration) []Ask {
	if p.failed != nil || p.Complete() {
		return nil
	}
	for _, s := range p.sources {
		if s.asked != nil && now-s.since >= p.limits.Answer {
			p.lose(s, now, "no answer in time")
		}
	}
	if now-p.progress >= p.limits.Patience {
		p.failed = fmt.Errorf("snap: nothing arrived for %v%s", p.limits.Patience, p.reasons())
		return nil
	}
	if len(p.sources) > 0 && !slices.ContainsFunc(p.sources, func(s *source) bool { return !s.banned }) {
		p.failed = fmt.Errorf("snap: nobody is left to fetch from%s", p.reasons())
		return nil
	}
	var asks []Ask
	others := 0 // sources that serve, without the leader
	for _, s := range p.sources {
		if !s.leader && s.usable(now) {
			others++
		}
	}
	for _, s := range p.sources {
		if !s.usable(now) || s.asked != nil || s.leader && others >= 2 {
			continue
		}
		want, ok := p.want()
		if !ok {
			break
		}
		s.asked, s.since = &want, now
		asks = append(asks, Ask{s.peer, want})
	}
	return asks
}

func (s *source) usable(now time.Duration) bool { return s.here && !s.banned && now >= s.until }

// want returns the next thing to ask for and books it.
func (p *Plan) want() (Request, bool) {
	if p.manifest == nil {
		for _, s := range p.sources {
			if s.asked != nil {
				return Request{}, false // one is enough
			}
		}
		return Request{Manifest: true}, true
	}
	if len(p.again) > 0 {
		c := p.again[0]
		p.again = p.again[1:]
		return Request{Chunk: c}, true
	}
	if p.next < len(p.manifest.Hashes) && p.next < p.taken+p.limits.Window {
		p.next++
		return Request{Chunk: p.next - 1}, true
	}
	return Request{}, false
}

// Answer takes what a peer answered. bytes belong to the plan from then on.
func (p *Plan) Answer(now time.Duration, who id.PeerID, r Request, reply Reply, bytes []byte) {
	s := p.source(who)
	if s == nil || s.asked == nil || *s.asked != r {
		return // too late, and asked for elsewhere
	}
	switch reply {
	case Here:
	case NotYet:
		p.lose(s, now, "still writes the state out")
		s.pause, s.until = 0, now+p.limits.Pause/4
		return
	case Unknown:
		p.lose(s, now, "does not have the state")
		return
	default:
		p.lose(s, now, "refuses")
		return
	}
	if r.Manifest {
		m, err := DecodeManifest(bytes)
		if err != nil || RootOf(bytes) != p.root {
			p.ban(s, now, "sent a wrong manifest")
			return
		}
		p.manifest, p.raw = m, bytes
	} else {
		if len(bytes) != p.manifest.ChunkSize(r.Chunk) || HashOf(bytes) != p.manifest.Hashes[r.Chunk] {
			p.ban(s, now, fmt.Sprintf("sent a wrong chunk %d", r.Chunk))
			return
		}
		p.arrived[r.Chunk] = bytes
		p.done += int64(len(bytes))
	}
	s.asked, s.pause, s.until, s.why = nil, 0, 0, ""
	p.progress = now
}

// Fail says that a request could not be answered for a reason that lies in the connection.
func (p *Plan) Fail(now time.Duration, who id.PeerID, r Request, why string) {
	if s := p.source(who); s != nil && s.asked != nil && *s.asked == r {
		p.lose(s, now, why)
	}
}

// lose takes back what a source was asked for, and leaves it alone for a while.
func (p *Plan) lose(s *source, now time.Duration, why string) {
	if r := s.asked; r != nil && !r.Manifest {
		at, _ := slices.BinarySearch(p.again, r.Chunk)
		p.again = slices.Insert(p.again, at, r.Chunk)
	}
	s.asked = nil
	s.pause = min(max(2*s.pause, p.limits.Pause), 16*p.limits.Pause)
	s.until = now + s.pause
	s.why = why
}

func (p *Plan) ban(s *source, now time.Duration, why string) {
	p.lose(s, now, why)
	s.banned = true
}

// Take returns the next chunk in order, nil if it is not here yet.
func (p *Plan) Take() []byte {
	c := p.arrived[p.taken]
	if c != nil {
		delete(p.arrived, p.taken)
		p.taken++
	}
	return c
}

// Complete reports whether all chunks were taken.
func (p *Plan) Complete() bool { return p.manifest != nil && p.taken == len(p.manifest.Hashes) }

// Manifest returns the manifest, decoded and as it is encoded, nil before it is here.
func (p *Plan) Manifest() (*Manifest, []byte) { return p.manifest, p.raw }

// Progress returns how many bytes of how many have arrived; the latter is zero while it is not known.
func (p *Plan) Progress() (done, total int64) {
	if p.manifest == nil {
		return 0, 0
	}
	return p.done, p.manifest.Size
}

// Err returns why the fetch has failed, nil while it has not.
func (p *Plan) Err() error { return p.failed }

// reasons says what is wrong with each source.
func (p *Plan) reasons() string {
	text := ""
	for _, s := range p.sources {
		why := s.why
		switch {
		case !s.here:
			why = "is gone"
		case why == "":
			continue
		}
		text += fmt.Sprintf("; %s %s", s.peer.Short(), why)
	}
	return text
}
