package discovery

import (
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/overlay"
	"github.com/mosaik-go/mosaik/discovery/registry"
)

// Times between looks into the same-host registry.
const (
	lookAlone     = time.Second
	lookInCompany = 30 * time.Second
)

// shelf is a node's use of the same-host registry. A nil shelf does nothing.
type shelf struct {
	d       *Discovery
	dir     string
	reg     *registry.Registry // nil: cannot be used
	err     error              // why
	readdr  chan struct{}      // capacity one: the addresses changed
	missing chan PeerID        // peers that were listed and did not answer
	stopped chan struct{}      // closed when runShelf has ended
}

func (d *Discovery) openShelf() *shelf {
	s := &shelf{
		d:       d,
		dir:     d.cfg.RegistryDir,
		readdr:  make(chan struct{}, 1),
		missing: make(chan PeerID, 64),
		stopped: make(chan struct{}),
	}
	if s.dir == "" {
		s.dir = registry.Dir()
	}
	if s.reg, s.err = registry.Open(s.dir, d.env.Network, d.self); s.err != nil {
		d.log.Warn("same-host registry not used", "err", s.err)
	}
	return s
}

// runShelf publishes this node and finds others.
func (d *Discovery) runShelf() {
	s := d.shelf
	defer close(s.stopped)
	if s.reg == nil {
		return
	}
	s.publish()
	s.look()
	timer := time.NewTimer(lookAlone)
	defer timer.Stop()
	for {
		select {
		case <-d.loopCtx.Done():
			return
		case <-s.readdr:
			s.publish()
		case p := <-s.missing:
			s.reg.Unreachable(p)
		case <-timer.C:
			if !s.reg.Touch() {
				s.publish() // somebody cleaned up too much
			}
			s.look()
			pause := lookInCompany
			if d.alone() {
				pause = lookAlone
			}
			timer.Reset(pause)
		}
	}
}

func (s *shelf) publish() {
	if err := s.reg.Publish(s.d.host.Addr()); err != nil {
		s.d.log.Warn("not published in the same-host registry", "err", err)
	}
}

func (s *shelf) look() {
	found, err := s.reg.List()
	if err != nil {
		s.d.log.Warn("same-host registry not read", "err", err)
		return
	}
	for _, f := range found {
		if !s.d.store.known(f.Addr.ID) {
			s.d.hood.addContact(f.Addr, overlay.Found)
		}
	}
}

// moved says that the node's addresses changed.
func (s *shelf) moved() {
	if s == nil {
		return
	}
	select {
	case s.readdr <- struct{}{}:
	default:
	}
}

// reached takes note of an attempt to reach a contact, which may have come from here.
func (s *shelf) reached(p PeerID, err error) {
	if s == nil || err == nil {
		return
	}
	select {
	case s.missing <- p:
	default: // it will fail again
	}
}

// close removes this node from the registry. The loop must have ended.
func (s *shelf) close() {
	if s == nil || s.reg == nil {
		return
	}
	<-s.stopped
	if err := s.reg.Withdraw(); err != nil {
		s.d.log.Warn("not removed from the same-host registry", "err", err)
	}
}

func (s *shelf) status() RegistryStatus {
	if s == nil {
		return RegistryStatus{}
	}
	return RegistryStatus{Dir: s.dir, Err: s.err}
}

// alone reports whether there is no neighbour.
func (d *Discovery) alone() bool {
	d.hood.mu.Lock()
	defer d.hood.mu.Unlock()
	_, alone := d.hood.core.Alone()
	return alone
}
