package simnet

import (
	"maps"
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// conn is a connection: two ends that know each other.
type conn struct {
	number            uint64
	dialler, acceptor end
}

// state of an end. The acceptor starts idle, the dialler greeting.
type state uint8

const (
	idle     state = iota // the dial has not arrived
	greeting              // the hello is under way
	usable
	closed
)

// maxStreams is how many streams the other side may have open on one connection; more are aborted with CodeOverloaded.
const maxStreams = 1024

// end is one side of a connection. Everything it sends to the other goes through its lane, so it arrives in order.
type end struct {
	f     *Fabric
	conn  *conn
	host  *host // nil while idle
	dial  *dial // of a dialler
	self  id.PeerID
	peer  id.PeerID
	other *end
	out   lane

	state       state
	incarnation transport.Incarnation // of the peer
	since       time.Time             // when it became usable
	heard       time.Time             // when something last arrived
	rtt         time.Duration
	streams     map[uint64]*stream
	opened      uint64 // streams opened from this side
	accepted    int    // streams opened by the other side that are still open
}

// connect makes a connection whose dial has not left yet.
func (f *Fabric) connect(d *dial) *end {
	h, peer := d.host, d.peer
	c := &conn{number: f.number()}
	c.dialler = end{f: f, conn: c, host: h, dial: d, self: h.id, peer: peer, other: &c.acceptor, state: greeting}
	c.acceptor = end{f: f, conn: c, self: peer, peer: h.id, other: &c.dialler}
	for _, e := range []*end{&c.dialler, &c.acceptor} {
		e.out = lane{f: f, dir: direction{e.self, e.peer}}
		e.streams = make(map[uint64]*stream)
	}
	f.conns[c.number] = c
	return &c.dialler
}

// send has fn run when a message of the given size has reached the other side, if this side is open now and the other then.
func (e *end) send(size int, fn func()) {
	if e.state == closed {
		return
	}
	e.out.send(size, func() {
		if e.other.state == closed {
			return
		}
		e.other.heard = time.Now()
		fn()
	})
}

// up makes the end usable: its hello is done.
func (e *end) up(rtt time.Duration) {
	h := e.host
	e.state = usable
	e.since = time.Now()
	e.heard = e.since
	e.rtt = rtt
	h.supersede(e.peer, e.incarnation)
	h.conns[e.peer] = append(h.conns[e.peer], e)
	if len(h.conns[e.peer]) == 1 {
		h.emit(transport.Event{Kind: transport.Connected, Peer: e.peer, Incarnation: e.incarnation})
	}
	if d := h.dials[e.peer]; d != nil {
		d.finish(nil)
	}
	e.f.after(e.host.heartbeat, e.beat)
}

// beat pings the other side and gives up when it has been silent too long. It runs until the end is closed.
func (e *end) beat() {
	if e.state != usable {
		return
	}
	now := time.Now()
	next := now.Add(e.host.heartbeat)
	if !e.f.paused[e.self] {
		dead := e.heard.Add(e.host.deadAfter)
		if !now.Before(dead) {
			e.close(link.CodeTimeout)
			return
		}
		if dead.Before(next) {
			next = dead
		}
		e.send(controlSize, func() {
			e.other.send(controlSize, func() { e.rtt = time.Since(now) })
		})
	}
	e.f.at(next, e.beat)
}

// close ends the connection from this side, with a code that the other side learns.
func (e *end) close(code link.Code) {
	if e.state == closed {
		return
	}
	e.send(controlSize, func() { e.other.broken(&link.CloseError{Code: code, Remote: true}) })
	e.broken(&link.CloseError{Code: code})
}

// broken ends this side of the connection only.
func (e *end) broken(why *link.CloseError) {
	was := e.state
	if was == closed {
		return
	}
	e.state = closed
	for _, n := range slices.Sorted(maps.Keys(e.streams)) {
		e.streams[n].cut(why)
	}
	clear(e.streams)
	if was == usable {
		e.host.lost(e, why)
	} else {
		if why.Remote && why.Code != link.CodeUnexpectedClose && why.Code != link.CodeShutdown {
			e.refused(why.Code)
		}
		if e.dial != nil {
			e.dial.failed(why)
		}
	}
	if o := e.other; o.state == closed || o.state == idle {
		delete(e.f.conns, e.conn.number)
		e.out.drop()
		o.out.drop()
	}
}

// wakeAll lets every call on a stream look again.
func (e *end) wakeAll() {
	for _, s := range e.streams {
		s.wake()
	}
}

// incoming is a stream that the other side opened.
func (e *end) incoming(number uint64, protocol string) {
	if e.state != usable {
		return
	}
	handler := e.host.handlers[protocol]
	code := link.CodeUnknownProtocol
	if e.accepted >= maxStreams {
		handler, code = nil, link.CodeOverloaded
	}
	if handler == nil {
		e.send(controlSize, func() { e.other.aborted(number, code) })
		return
	}
	s := newStream(e, number, protocol)
	s.announced, s.foreign = true, true
	e.accepted++
	e.streams[number] = s
	e.host.wg.Go(func() { handler(s) })
}

// aborted is the other side's abort of a stream.
func (e *end) aborted(number uint64, code link.Code) {
	if s := e.streams[number]; s != nil {
		s.fail(&link.CloseError{Code: code, Remote: true})
	}
}
