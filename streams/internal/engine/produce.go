package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/streams/internal/fan"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// CodeNoKeys refuses a consumer that asks for keys of a stream that has none.
const CodeNoKeys link.Code = 10422

// Limits on what a peer may ask for.
const (
	maxChannels  = 8192 // subscriptions on one trunk
	maxParked    = 1024 // refused subscriptions that are remembered for each stream
	maxTurned    = 1024 // refusals that are remembered for the status
	checkPending = 30 * time.Second
	holdPlace    = time.Second // before a free place is offered to those that were refused
	confirmAfter = 10 * time.Second
	maxTrunks    = 4 // of one peer; more than one only while old ones are not known to be dead
)

// request is a subscription that somebody asks for.
type request struct {
	server    *server // nil: this node
	inlet     *inlet  // of this node
	sub       wire.Subscribe
	peer      id.PeerID
	since     time.Time
	cancelled bool // guarded by the server's mutex
}

// receive handles a new request. Like everything about requests it runs in the loop.
func (s *Service) receive(r *request) {
	if r.server != nil {
		if rtt, ok := s.host.RTT(r.peer); ok {
			s.disc.ObserveRTT(r.peer, rtt)
		}
	}
	if !s.decide(r, s.disc.Catalog(), time.Now()) {
		s.waiting = append(s.waiting, r)
	}
}

// reconsider looks at the requests that wait for ticket checks.
func (s *Service) reconsider(catalog discovery.Catalog) {
	waiting := s.waiting
	s.waiting = nil
	now := time.Now()
	for _, r := range waiting {
		if !s.decide(r, catalog, now) {
			s.waiting = append(s.waiting, r)
		}
	}
}

// decide answers a request, or reports false if that has to wait.
func (s *Service) decide(r *request, catalog discovery.Catalog, now time.Time) bool {
	if r.server != nil && !r.server.wanted(r) {
		return true
	}
	info, known := catalog.Get(r.peer)
	if !known {
		s.metrics.rejected.Inc()
		s.refuse(r, nil, link.CodeUnknownPeer, "no entry of the peer is known here")
		return true
	}
	s.mu.Lock()
	k := s.sinks[r.sub.Stream]
	if k != nil && k.refs == 0 {
		k = nil
	}
	s.mu.Unlock()
	if k == nil {
		s.metrics.rejected.Inc()
		s.refuse(r, nil, link.CodeStreamNotFound, "there is no such stream here")
		return true
	}
	if code, detail := k.compatible(&r.sub); code != 0 {
		k.metrics.rejected.Inc()
		s.refuse(r, k, code, detail)
		return true
	}
	if most := k.cfg.MaxConsumers; most > 0 && k.consumers() >= most {
		k.metrics.rejected.Inc()
		s.refuse(r, k, link.CodeStreamNoCapacity, fmt.Sprintf("all %d places are taken", most))
		s.park(k, r, link.CodeStreamNoCapacity, nil)
		return true
	}
	switch verdict, reason := k.keeper.check(info, now); verdict {
	case undecided:
		if now.Sub(r.since) < checkPending {
			return false
		}
		reason = "the ticket check took too long"
		fallthrough
	case denied:
		k.metrics.rejected.Inc()
		s.refuse(r, k, link.CodeStreamNotAllowed, reason)
		s.park(k, r, link.CodeStreamNotAllowed, info.Version())
		return true
	}
	s.accept(r, k, info)
	return true
}

// compatible checks that both ends mean the same by the stream.
func (s *Sink) compatible(sub *wire.Subscribe) (link.Code, string) {
	tolerant := s.cfg.Fingerprint.IsZero() || sub.Fingerprint.IsZero()
	switch {
	case sub.Codec != s.cfg.Codec:
		return link.CodeStreamSchemaMismatch, fmt.Sprintf("the producer encodes with %s, the consumer with %s", s.cfg.Codec, sub.Codec)
	case sub.Fingerprint != s.cfg.Fingerprint && !tolerant:
		return link.CodeStreamSchemaMismatch, fmt.Sprintf("the producer's items are of schema %s, the consumer's of %s",
			s.cfg.Fingerprint.Short(), sub.Fingerprint.Short())
	case len(sub.Keys) > 0 && !s.cfg.Keyed:
		return CodeNoKeys, "the producer gives its items no keys"
	}
	return 0, ""
}

// accept makes the outlet of a request.
func (s *Service) accept(r *request, k *Sink, info discovery.PeerInfo) {
	window := narrow(r.sub.Window, k.cfg.Queue)
	limits := fan.Limits{Items: int(window.Items), Bytes: int(window.Bytes)}
	ch := newChannel(k.cfg.Stream, s.self, r.peer, r.sub.Channel, r.sub.Keys, info)
	var p port = r.inlet
	if r.server != nil {
		p = r.server
	}
	o := newOutlet(k, ch, r.sub.Channel, limits, p)
	if r.server != nil && !r.server.answer(r, o) {
		return
	}
	a, ok := k.attach(o, r.sub.Resume, r.sub.Epoch, r.sub.Position)
	if !ok {
		s.unlist(o)
		s.refuse(r, k, link.CodeStreamNotFound, "the producer is being closed")
		return
	}
	a.Channel, a.Window = r.sub.Channel, window
	s.metrics.accepted.Inc()
	k.metrics.accepted.Inc()
	k.metrics.consumers.Inc()
	delete(s.turned, turnedKey{k.cfg.Stream, r.peer})
	s.log.Debug("accepted a consumer", "stream", k.cfg.Stream.Short(), "peer", r.peer.Short())
	if in := r.inlet; in != nil {
		in.outlet = o
		s.accepted(in, a)
	}
	o.begin(a)
	if r.inlet != nil {
		o.confirm()
	}
	if o.closed.Load() { // the trunk ended meanwhile
		k.detach(o, o.stats())
	}
}

// refuse answers a request with a reason.
func (s *Service) refuse(r *request, k *Sink, code link.Code, detail string) {
	s.log.Debug("refused a consumer", "stream", r.sub.Stream.Short(), "peer", r.peer.Short(), "reason", explain(code, detail))
	s.note(r.sub.Stream, Refusal{Peer: r.peer, Code: code, Detail: detail})
	if r.server == nil {
		s.refused(r.inlet, code, detail)
		return
	}
	r.server.refuse(r, code, detail)
}

// turnedKey names a peer that was refused by a stream.
type turnedKey struct {
	stream id.ID
	peer   id.PeerID
}

// note remembers a refusal for the status.
func (s *Service) note(stream id.ID, r Refusal) {
	key := turnedKey{stream, r.Peer}
	now := time.Now()
	if old := s.turned[key]; old != nil && old.Code == r.Code {
		old.Tries++
		old.Detail = r.Detail
		return
	}
	if len(s.turned) >= maxTurned {
		for other := range s.turned {
			delete(s.turned, other)
			break
		}
	}
	r.Since, r.Tries = now, 1
	s.turned[key] = &r
}

// park remembers a refused request, to tell the consumer when it is worth another try.
func (s *Service) park(k *Sink, r *request, code link.Code, seen any) {
	stream, v, in := r.sub.Stream, r.server, r.inlet
	notify := func() bool {
		if v == nil {
			s.encourage(in.src, s.self)
			return true
		}
		return v.tell(func(dst []byte) []byte { return wire.AppendRetry(dst, stream) })
	}
	k.parked = slices.DeleteFunc(k.parked, func(p parked) bool { return p.peer == r.peer && p.code == code })
	if len(k.parked) >= maxParked {
		k.parked = slices.Delete(k.parked, 0, 1)
	}
	k.parked = append(k.parked, parked{code: code, peer: r.peer, seen: seen, notify: notify})
}

// freed cleans up after an outlet that has ended.
func (s *Service) freed(o *outlet) {
	s.unlist(o)
	o.sink.metrics.consumers.Dec()
	code, detail := o.channel.Reason()
	s.log.Debug("a consumer is gone", "stream", o.sink.cfg.Stream.Short(), "peer", o.channel.Consumer.Short(),
		"reason", explain(code, detail))
	s.nudge()
}

// review judges the consumers of a sink by their current entries, and those that were refused.
func (s *Service) review(k *Sink, catalog discovery.Catalog, plan *schedule) {
	k.fan.Lock()
	outlets := k.outlets
	k.fan.Unlock()
	for _, o := range outlets {
		plan.soon()
		if o.overdue(plan.now) {
			o.cut(link.CodeTimeout, "the consumer did not confirm the acceptance")
			continue
		}
		info, known := catalog.Get(o.channel.Consumer)
		if !known {
			continue // its connection tells when it is gone
		}
		if verdict, reason := k.keeper.check(info, plan.now); verdict == denied {
			s.note(k.cfg.Stream, Refusal{Peer: info.ID(), Code: link.CodeStreamNotAllowed, Detail: reason})
			version := info.Version()
			o.cut(link.CodeStreamNotAllowed, reason)
			r := &request{peer: info.ID(), sub: wire.Subscribe{Stream: k.cfg.Stream}}
			switch p := o.port.(type) {
			case *server:
				r.server = p
			case *inlet:
				r.inlet = p
			}
			s.park(k, r, link.CodeStreamNotAllowed, version)
		}
	}
	free := 0
	if most := k.cfg.MaxConsumers; most > 0 && k.consumers() < most {
		// The one that has left may only have lost its connection, and come back.
		if k.freeSince.IsZero() {
			k.freeSince = plan.now
		}
		if due := k.freeSince.Add(holdPlace); plan.now.Before(due) {
			plan.at(due)
		} else {
			free = most - k.consumers()
		}
	} else {
		k.freeSince = time.Time{}
	}
	queue := k.parked
	k.parked = nil
	for _, p := range queue {
		retry := false
		switch p.code {
		case link.CodeStreamNoCapacity:
			if free > 0 {
				if p.notify() {
					free--
				}
				continue
			}
		default:
			info, known := catalog.Get(p.peer)
			if known && info.Version() != p.seen {
				verdict, _ := k.keeper.check(info, plan.now)
				if retry = verdict == allowed; !retry && verdict == denied {
					p.seen = info.Version()
				}
			}
		}
		if retry {
			p.notify()
		} else {
			k.parked = append(k.parked, p)
		}
	}
	plan.at(k.keeper.next(plan.now))
}
