package engine

import (
	"context"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// Times of the consumer's side.
const (
	answerTimeout = 45 * time.Second // the producer may have to check tickets
	partingTime   = 3 * time.Second  // for the last items of a producer that has withdrawn the stream
	steadyAfter   = 5 * time.Second  // a subscription that lived so long was no failure
	syncTimeout   = 10 * time.Second
	promptPause   = 250 * time.Millisecond // between attempts that a producer can bring about
	maxRetries    = maxChannels            // streams of one peer that are to be tried again in one look
)

// tieState is how far a tie has got.
type tieState uint8

const (
	tieIdle   tieState = iota // waits until it is time to ask, or for the connection
	tieAsking                 // waits for the answer
	tieUp                     // receives
)

// tie is what a source has with one producer. It is the loop's.
type tie struct {
	src      *Source
	peer     id.PeerID
	state    tieState
	in       *inlet // when asking or up
	asked    time.Time
	version  discovery.Version // of the producer's entry when it was last looked at
	unlisted time.Time         // since when the producer does not announce the stream
	attempts attempts
	syncing  bool
	slow     bool      // the last subscription ended because this consumer was too slow
	prompted time.Time // when something that the producer said last made an attempt due, or will
	denied   string    // why this side does not want it; empty when it does
	round    uint64    // of the look that saw the producer listed
}

// pursue brings the ties of a source nearer to what the catalog says.
func (s *Service) pursue(src *Source, catalog discovery.Catalog, plan *schedule) {
	for p := range catalog.WithStream(src.cfg.Stream) {
		s.consider(src, p, plan)
	}
	if _, _, ok := s.Borrow(src.cfg.Stream); ok && !src.cfg.RemoteOnly {
		s.consider(src, catalog.Local(), plan)
	}
	for _, t := range src.ties {
		if t.denied == "" {
			plan.wanted[t.peer] = true
		}
		if t.round == plan.round {
			t.unlisted = time.Time{}
			s.advance(t, plan)
			continue
		}
		if t.unlisted.IsZero() {
			t.unlisted = plan.now
		}
		// A producer that closes in order sends what it has queued first, and its word may travel slower than its entry.
		end := t.unlisted.Add(partingTime)
		if t.state != tieIdle && plan.now.Before(end) {
			plan.at(end)
			continue
		}
		s.sever(t, link.CodeSuccess, "the producer does not announce the stream any more")
		delete(src.ties, t.peer)
	}
	plan.at(src.keeper.next(plan.now))
}

// consider makes the tie to a producer, and judges it.
func (s *Service) consider(src *Source, p discovery.PeerInfo, plan *schedule) {
	t := src.ties[p.ID()]
	if t == nil {
		t = &tie{src: src, peer: p.ID(), version: p.Version()}
		src.ties[p.ID()] = t
	}
	t.round = plan.round
	if t.version != p.Version() {
		t.version = p.Version()
		t.attempts.hurry()
		if u := s.peers[p.ID()]; u != nil {
			u.attempts.hurry()
		}
	}
	verdict, reason := src.keeper.check(p, plan.now)
	if verdict == allowed {
		reason = ""
	}
	t.denied = reason
	if verdict == denied && t.state != tieIdle {
		s.sever(t, link.CodeStreamNotAllowed, reason)
	}
}

// advance does what is due for a tie whose producer is listed.
func (s *Service) advance(t *tie, plan *schedule) {
	plan.soon()
	switch {
	case t.state == tieAsking && plan.now.Sub(t.asked) > answerTimeout:
		s.sever(t, link.CodeTimeout, "the producer did not answer")
		s.failed(t, link.CodeTimeout, "the producer did not answer", false)
	case t.state != tieIdle || t.denied != "" || t.syncing:
	case !t.attempts.due(plan.now):
		if !t.attempts.resting {
			plan.at(t.attempts.retry)
		}
	case t.src.full(t.peer): // the source says when it is not
	case t.peer == s.self:
		s.askHere(t)
	default:
		u := s.upstream(t.peer)
		if u.client == nil {
			s.dial(u, plan)
			return
		}
		s.ask(t, u.client)
	}
}

// subscription returns what is asked for, without the channel.
func (t *tie) subscription() wire.Subscribe {
	c := &t.src.cfg
	sub := wire.Subscribe{
		Stream:      c.Stream,
		Fingerprint: c.Fingerprint,
		Codec:       c.Codec,
		Window:      wire.Window{Items: uint32(c.Window.Items), Bytes: uint32(c.Window.Bytes)},
		Keys:        c.Keys,
	}
	if at, ok := t.src.position(t.peer); ok {
		sub.Resume, sub.Epoch, sub.Position = true, at.epoch, at.last
	}
	return sub
}

func (s *Service) asking(t *tie, in *inlet) {
	t.state, t.in, t.asked = tieAsking, in, time.Now()
}

// ask asks a peer.
func (s *Service) ask(t *tie, c *client) {
	sub := t.subscription()
	c.number++
	sub.Channel = c.number
	in := &inlet{src: t.src, peer: t.peer, tie: t, number: c.number, window: sub.Window, slow: t.slow, trunk: c.trunk}
	c.mu.Lock()
	if c.inlets == nil {
		c.mu.Unlock()
		return // the trunk has ended, which the loop hears next
	}
	c.inlets[in.number] = in
	c.mu.Unlock()
	s.asking(t, in)
	c.tell(sub.Append)
}

// askHere asks this node.
func (s *Service) askHere(t *tie) {
	sub := t.subscription()
	s.here++
	sub.Channel = s.here
	in := &inlet{src: t.src, peer: t.peer, tie: t, number: s.here, window: sub.Window, slow: t.slow}
	s.asking(t, in)
	s.receive(&request{inlet: in, sub: sub, peer: s.self, since: time.Now()})
}

// accepted begins a subscription. For those of peers the reader of the trunk has called open before.
func (s *Service) accepted(in *inlet, a wire.Accept) {
	if in.outlet != nil {
		s.open(in, a)
	}
	t := in.tie
	if t.in != in || t.state != tieAsking { // was severed meanwhile
		ch := in.channel.Load()
		ch.end(link.CodeCancelled, "")
		t.src.roster.remove(ch)
		return
	}
	t.state, t.asked, t.slow = tieUp, time.Now(), false
	t.src.metrics.up(1)
	s.log.Debug("subscribed", "stream", in.src.cfg.Stream.Short(), "peer", in.peer.Short())
}

// open makes an inlet ready to take items in, and shows its channel: before the first item comes.
func (s *Service) open(in *inlet, a wire.Accept) {
	info, known := s.disc.Catalog().Get(in.peer)
	if !known {
		info = discovery.PeerInfo{}
	}
	before, resumed := in.src.position(in.peer)
	in.epoch = a.Epoch
	in.window = wire.Window{Items: min(in.window.Items, a.Window.Items), Bytes: min(in.window.Bytes, a.Window.Bytes)} // never more than was granted
	ch := newChannel(in.src.cfg.Stream, in.peer, s.self, in.number, in.src.cfg.Keys, info)
	in.src.noteEpoch(in.peer, position{a.Epoch, a.Position})
	in.channel.Store(ch)
	in.src.roster.add(ch)
	if !ch.Live() { // was ended meanwhile
		in.src.roster.remove(ch)
	}
	switch {
	case !resumed:
	case before.epoch != a.Epoch:
		in.src.put(in, nil, 0, Gap{Lost: a.Lost, Cause: Restarted}, 0)
	case a.Lost > 0:
		cause := Away
		if in.slow {
			cause = Lagged
		}
		in.src.put(in, nil, 0, Gap{Lost: a.Lost, Exact: a.Exact, Cause: cause}, 0)
	}
	ch.dropped.Add(a.Lost)
}

// refused handles a refusal by the producer.
func (s *Service) refused(in *inlet, code link.Code, detail string) {
	t := in.tie
	if t.in != in {
		return
	}
	t.untie()
	s.failed(t, code, detail, true)
	if code == link.CodeUnknownPeer && t.peer != s.self {
		s.introduce(t)
	}
	s.nudge()
}

// introduce makes the producer's node know this one, by an exchange of catalogs.
func (s *Service) introduce(t *tie) {
	info, known := s.disc.Catalog().Get(t.peer)
	if !known || t.syncing {
		return
	}
	t.syncing = true
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, syncTimeout)
		defer cancel()
		err := s.disc.SyncWith(ctx, info.Addr())
		s.post(func() {
			t.syncing = false
			if err == nil {
				t.prompt(time.Now())
			} else {
				s.log.Debug("cannot exchange catalogs with a producer", "peer", t.peer.Short(), "err", err)
			}
		})
	})
}

// ended handles the end of a subscription that the producer or the connection brought.
func (s *Service) ended(in *inlet, e wire.End) {
	in.closed.Store(true)
	if e.Lost > 0 {
		in.src.put(in, nil, 0, Gap{Lost: e.Lost, Exact: true, Cause: Lagged}, e.Last)
		if ch := in.channel.Load(); ch != nil {
			ch.dropped.Add(e.Lost)
		}
	}
	t := in.tie
	if t.in != in {
		return
	}
	up := t.state == tieUp
	s.close(in, e.Code, e.Detail)
	t.slow = t.slow || e.Code == link.CodeStreamTooSlow
	if up && time.Since(t.asked) >= steadyAfter {
		t.attempts.settled()
	}
	s.failed(t, e.Code, e.Detail, true)
	s.nudge()
}

// failed notes why a tie is not up.
func (s *Service) failed(t *tie, code link.Code, detail string, remote bool) {
	t.attempts.failed(t.src.cfg.Backoff, Refusal{Peer: t.peer, Code: code, Detail: detail, Remote: remote}, time.Now())
	s.metrics.refused(code)
}

// encourage makes a source try again now with a peer.
func (s *Service) encourage(src *Source, peer id.PeerID) {
	if t := src.ties[peer]; t != nil && t.state == tieIdle {
		t.prompt(time.Now())
		s.nudge()
	}
}

// prompt makes the next attempt due because of something that the producer said: now, but not again and again.
func (t *tie) prompt(now time.Time) {
	t.attempts.hurry()
	switch due := t.prompted.Add(promptPause); {
	case now.Before(t.prompted): // will be
	case now.Before(due):
		t.prompted = due
	default:
		t.prompted = now
	}
	t.attempts.retry = t.prompted
}

// sever ends what a tie has, from this side.
func (s *Service) sever(t *tie, code link.Code, detail string) {
	in := t.in
	if in == nil {
		return
	}
	in.closed.Store(true)
	if in.trunk != nil {
		if u := s.peers[t.peer]; u != nil && u.client != nil && u.client.trunk == in.trunk {
			u.client.forget(in)
		}
		in.trunk.tell(wire.Cancel{Channel: in.number, Code: code}.Append)
	}
	if in.outlet != nil {
		in.outlet.close(code, "the consumer ended it", false)
	} else if in.trunk == nil {
		s.withdrawRequest(in)
	}
	s.close(in, code, detail)
}

// withdrawRequest forgets a request of this node that waits for a ticket check.
func (s *Service) withdrawRequest(in *inlet) {
	s.waiting = slices.DeleteFunc(s.waiting, func(r *request) bool { return r.inlet == in })
}

// close ends an inlet and frees its tie.
func (s *Service) close(in *inlet, code link.Code, detail string) {
	t := in.tie
	if t.state == tieUp {
		t.src.metrics.up(-1)
	}
	if ch := in.channel.Load(); ch != nil {
		ch.end(code, detail)
		t.src.roster.remove(ch)
	}
	t.untie()
	s.log.Debug("a subscription ended", "stream", in.src.cfg.Stream.Short(), "peer", in.peer.Short(),
		"reason", explain(code, detail))
}

func (t *tie) untie() { t.state, t.in = tieIdle, nil }

// drop ends all ties of a source that is no more.
func (s *Service) drop(src *Source, code link.Code) {
	for _, t := range src.ties {
		s.sever(t, code, "the consumer was closed")
	}
	clear(src.ties)
}
