package simnet

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// errStreamClosed is the error of reading or writing a direction that this side has closed.
var errStreamClosed = errors.New("simnet: stream closed on this side")

// stream is one side of a stream.
type stream struct {
	end      *end
	number   uint64
	protocol string
	foreign  bool // opened by the other side

	announced bool // the other side was told of the stream
	aborted   bool

	readable     sync.Cond
	readErr      *link.CloseError
	readDeadline time.Time
	in           []byte // arrived and not read
	ended        bool   // all that will arrive has arrived
	deaf         bool   // this side has closed reading
	consumed     int    // read since the last credit was sent

	writable      sync.Cond
	writeErr      *link.CloseError
	writeDeadline time.Time
	window        int // bytes that may be written
	finished      bool
}

func newStream(e *end, number uint64, protocol string) *stream {
	s := &stream{end: e, number: number, protocol: protocol, window: e.f.opts.Window}
	s.readable.L = &e.f.mu
	s.writable.L = &e.f.mu
	return s
}

func (s *stream) Peer() id.PeerID   { return s.end.peer }
func (s *stream) Protocol() string  { return s.protocol }
func (s *stream) Transport() string { return "sim" }

// Read waits for data, the end, an error or the read deadline. Data that is there is returned even when the deadline has
// passed.
func (s *stream) Read(p []byte) (int, error) {
	f := s.end.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.paused[s.end.self] && s.readErr == nil:
			s.readable.Wait()
			continue
		case s.readErr != nil:
			return 0, s.readErr
		case s.deaf:
			return 0, errStreamClosed
		case len(p) == 0:
			return 0, nil
		case len(s.in) > 0:
			n := copy(p, s.in)
			s.in = s.in[n:]
			s.credit(n)
			return n, nil
		case s.ended:
			return 0, io.EOF
		case expired(s.readDeadline):
			return 0, os.ErrDeadlineExceeded
		}
		f.wait(&s.readable, s.readDeadline)
	}
}

// Write waits until all of p has found room in the window, which the other side opens by reading.
func (s *stream) Write(p []byte) (int, error) {
	f := s.end.f
	f.mu.Lock()
	defer f.mu.Unlock()
	written := 0
	for {
		switch {
		case f.paused[s.end.self] && s.writeErr == nil:
			s.writable.Wait()
			continue
		case s.writeErr != nil:
			return written, s.writeErr
		case s.finished:
			return written, errStreamClosed
		case expired(s.writeDeadline):
			return written, os.ErrDeadlineExceeded
		}
		s.announce()
		for s.window > 0 && written < len(p) {
			n := min(len(p)-written, s.window, maxSegment)
			data := append([]byte(nil), p[written:written+n]...)
			s.window -= n
			written += n
			s.toTwin(n, func(t *stream) { t.arrived(data) })
		}
		if written == len(p) {
			return written, nil
		}
		f.wait(&s.writable, s.writeDeadline)
	}
}

func expired(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

// announce tells the other side of the stream, before anything else about it is sent.
func (s *stream) announce() {
	if !s.announced {
		s.announced = true
		number, protocol, o := s.number, s.protocol, s.end.other
		s.end.send(controlSize+len(protocol), func() { o.incoming(number, protocol) })
	}
}

// toTwin runs fn on the other side of the stream when a message of the given size has got there.
func (s *stream) toTwin(size int, fn func(*stream)) {
	number, o := s.number, s.end.other
	s.end.send(controlSize+size, func() {
		if t := o.streams[number]; t != nil {
			fn(t)
		}
	})
}

// arrived takes in data from the other side.
func (s *stream) arrived(data []byte) {
	if s.deaf {
		s.credit(len(data))
		return
	}
	s.in = append(s.in, data...)
	s.readable.Broadcast()
}

// credit lets the other side write more after n bytes have been consumed.
func (s *stream) credit(n int) {
	s.consumed += n
	if give := s.consumed; give*4 >= s.end.f.opts.Window && !s.ended {
		s.consumed = 0
		s.toTwin(0, func(t *stream) {
			t.window += give
			t.writable.Broadcast()
		})
	}
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.end.f.mu.Lock()
	defer s.end.f.mu.Unlock()
	s.readDeadline = t
	s.readable.Broadcast()
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.end.f.mu.Lock()
	defer s.end.f.mu.Unlock()
	s.writeDeadline = t
	s.writable.Broadcast()
	return nil
}

func (s *stream) CloseWrite() error {
	s.end.f.mu.Lock()
	defer s.end.f.mu.Unlock()
	if s.writeErr != nil {
		return s.writeErr
	}
	s.finish()
	return nil
}

// finish ends this side's writing in order.
func (s *stream) finish() {
	if s.finished {
		return
	}
	s.finished = true
	s.writable.Broadcast()
	s.announce()
	s.toTwin(0, func(t *stream) {
		t.ended = true
		t.readable.Broadcast()
		t.forgetIfDone()
	})
	s.forgetIfDone()
}

func (s *stream) Close() error {
	s.end.f.mu.Lock()
	defer s.end.f.mu.Unlock()
	if s.deaf {
		return nil
	}
	s.deaf = true
	s.readable.Broadcast()
	unread := len(s.in)
	s.in = nil
	switch {
	case s.writeErr != nil:
	case !s.announced: // nobody knows of it
		s.finished = true
		s.forget()
	default:
		s.credit(unread)
		s.finish()
	}
	return nil
}

func (s *stream) Abort(code link.Code) error {
	s.end.f.mu.Lock()
	defer s.end.f.mu.Unlock()
	if s.aborted {
		return nil
	}
	if s.announced {
		number, o := s.number, s.end.other
		s.end.send(controlSize, func() { o.aborted(number, code) })
	}
	s.fail(&link.CloseError{Code: code})
	return nil
}

// fail ends all calls on this side with the error of an abort; what has arrived is lost.
func (s *stream) fail(why *link.CloseError) {
	s.aborted = true
	s.in = nil
	if s.readErr == nil {
		s.readErr = why
	}
	if s.writeErr == nil {
		s.writeErr = why
	}
	s.wake()
	s.forget()
}

// cut ends all calls on this side because the connection is gone; only what has arrived as a whole can still be read.
func (s *stream) cut(why *link.CloseError) {
	if s.writeErr == nil {
		s.writeErr = why
	}
	if s.readErr == nil && !s.ended {
		s.readErr = why
		s.in = nil
	}
	s.wake()
}

func (s *stream) wake() {
	s.readable.Broadcast()
	s.writable.Broadcast()
}

// forgetIfDone takes the stream off its connection once both directions have ended in order. What has arrived can still
// be read.
func (s *stream) forgetIfDone() {
	if s.finished && s.ended {
		s.forget()
	}
}

func (s *stream) forget() {
	if s.end.streams[s.number] == s {
		delete(s.end.streams, s.number)
		if s.foreign {
			s.end.accepted--
		}
	}
}
