package engine

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// server is a trunk that a consumer's node has opened.
type server struct {
	*trunk
	svc   *Service
	since time.Time

	mu      sync.Mutex // guards all following fields
	outlets map[uint32]*outlet
	asked   map[uint32]*request // not answered yet, those that were cancelled meanwhile included
	gone    bool
}

// ready implements port.
func (v *server) ready(o *outlet) { v.enlist(o) }

// serve runs a trunk that a peer has opened.
func (s *Service) serve(stream transport.Stream) {
	v := &server{
		trunk: newTrunk(stream), svc: s, since: time.Now(),
		outlets: make(map[uint32]*outlet), asked: make(map[uint32]*request),
	}
	defer context.AfterFunc(s.ctx, func() { v.abort(link.CodeShutdown) })()
	s.register(v)
	s.host.Protect(v.peer, wire.Protocol)
	err := v.read()
	s.mu.Lock()
	delete(s.served, v)
	s.mu.Unlock()
	s.host.Unprotect(v.peer, wire.Protocol)
	if errors.Is(err, io.EOF) {
		v.stream.Close()
		v.fail(err)
	} else {
		s.complain(v.peer, err)
		v.abort(codeOf(err))
	}
	<-v.done
	v.mu.Lock()
	v.gone = true
	outlets := v.outlets
	v.outlets = nil
	v.mu.Unlock()
	code, detail := ending(err)
	for _, o := range outlets {
		o.close(code, detail, false)
	}
}

// register enters a trunk. A peer that has too many loses the oldest.
func (s *Service) register(v *server) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	n, oldest := 0, v
	for o := range s.served {
		if o.peer == v.peer {
			n++
			if o.since.Before(oldest.since) {
				oldest = o
			}
		}
	}
	s.served[v] = struct{}{}
	s.mu.Unlock()
	if n >= maxTrunks {
		oldest.abort(link.CodeOverloaded)
	}
}

// ending says in a code and words how a trunk ended.
func ending(err error) (link.Code, string) {
	if errors.Is(err, io.EOF) {
		return link.CodeShutdown, "the peer closed"
	}
	return codeOf(err), "the connection ended"
}

func (s *Service) complain(peer id.PeerID, err error) {
	if errors.Is(err, &link.CloseError{Code: link.CodeProtocolViolation}) {
		s.log.Warn("closed a trunk of streams", "peer", peer.Short(), "err", err)
	} else {
		s.log.Debug("a trunk of streams ended", "peer", peer.Short(), "err", err)
	}
}

// read handles what the consumer's side sends until the trunk ends.
func (v *server) read() error {
	in := v.reader(wire.MaxControl)
	first, err := in.Next()
	if err != nil {
		return err
	}
	if err := wire.DecodePreface(first, v.svc.node.Network); err != nil {
		v.svc.metrics.rejected.Inc()
		return err
	}
	return each(in, v.handle)
}

func (v *server) handle(kind wire.Kind, body []byte) error {
	switch kind {
	case wire.KindPing:
	case wire.KindSubscribe:
		var f wire.Subscribe
		if err := f.Decode(body); err != nil {
			return violation("subscribe: %w", err)
		}
		r := &request{server: v, sub: f, peer: v.peer, since: time.Now()}
		v.mu.Lock()
		twice := v.outlets[f.Channel] != nil || v.asked[f.Channel] != nil
		over := len(v.outlets)+len(v.asked) >= maxChannels
		if !twice && !over {
			v.asked[f.Channel] = r
		}
		v.mu.Unlock()
		switch {
		case twice:
			return violation("channel %d is in use", f.Channel)
		case over:
			v.tell(wire.Refuse{Channel: f.Channel, Code: link.CodeOverloaded, Detail: "too many subscriptions"}.Append)
		default:
			v.svc.post(func() { v.svc.receive(r) })
		}
	case wire.KindCredit:
		var f wire.Credit
		if err := f.Decode(body); err != nil {
			return violation("credit: %w", err)
		}
		if o := v.outlet(f.Channel); o != nil {
			o.credit(f)
		}
	case wire.KindCancel:
		var f wire.Cancel
		if err := f.Decode(body); err != nil {
			return violation("cancel: %w", err)
		}
		if o := v.cancelled(f.Channel); o != nil {
			o.close(f.Code, "the consumer ended it", false)
		}
	default:
		return violation("unknown kind of frame %d", kind)
	}
	return nil
}

func (v *server) outlet(channel uint32) *outlet {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.outlets[channel]
}

// cancelled notes that the consumer has cancelled a channel. It returns the outlet, if there is one already.
func (v *server) cancelled(channel uint32) *outlet {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r := v.asked[channel]; r != nil {
		r.cancelled = true
	}
	return v.outlets[channel]
}

// wanted reports whether a request still has to be answered. One that has not is forgotten.
func (v *server) wanted(r *request) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.cancelled || v.gone {
		delete(v.asked, r.sub.Channel)
		return false
	}
	return true
}

// answer turns a request into an outlet. It reports false when nobody wants it any more.
func (v *server) answer(r *request, o *outlet) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.asked, r.sub.Channel)
	if r.cancelled || v.gone {
		return false
	}
	v.outlets[o.number] = o
	return true
}

// refuse answers a request with a reason.
func (v *server) refuse(r *request, code link.Code, detail string) {
	v.mu.Lock()
	delete(v.asked, r.sub.Channel)
	v.mu.Unlock()
	v.tell(wire.Refuse{Channel: r.sub.Channel, Code: code, Detail: detail}.Append)
}

func (s *Service) unlist(o *outlet) {
	if v, ok := o.port.(*server); ok {
		v.mu.Lock()
		delete(v.outlets, o.number)
		v.mu.Unlock()
	}
}
