package discovery

import (
	"errors"
	"fmt"
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
	dirs    []string
	regs    []*registry.Registry // those that can be used
	err     error                // why none can be used
	readdr  chan struct{}        // capacity one: the addresses changed
	missing chan PeerID          // peers that were listed and did not answer
	stopped chan struct{}        // closed when runShelf has ended
}

// ErrIdentityInUse reports that this process or another on this host runs a node with the same identity on the same network.
var ErrIdentityInUse = errors.New("the identity is in use")

// holderGrace is how long the end of another node with this node's identity is waited for: it may just be ending.
const holderGrace = time.Second

func (d *Discovery) openShelf() (*shelf, error) {
	s := &shelf{
		d:       d,
		readdr:  make(chan struct{}, 1),
		missing: make(chan PeerID, 64),
		stopped: make(chan struct{}),
	}
	wanted := registry.Dirs()
	if d.cfg.RegistryDir != "" {
		wanted = []string{d.cfg.RegistryDir}
	}
	var errs []error
	for _, dir := range wanted {
		reg, err := registry.Open(dir, d.env.Network, d.self)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := claim(reg); err != nil {
			s.release()
			return nil, err
		}
		s.dirs = append(s.dirs, dir)
		s.regs = append(s.regs, reg)
	}
	if len(s.regs) == 0 {
		s.dirs = wanted
		s.err = errors.Join(errs...)
		d.log.Warn("same-host registry not used", "err", s.err)
	} else if len(errs) > 0 {
		d.log.Info("same-host registry used in part", "dirs", s.dirs, "err", errors.Join(errs...))
	}
	return s, nil
}

// claim makes sure that nobody else on this host runs this node.
func claim(reg *registry.Registry) error {
	for end := time.Now().Add(holderGrace); ; time.Sleep(10 * time.Millisecond) {
		pid, ok := reg.Claim()
		switch {
		case ok:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("discovery: %w: process %d on this host runs this node", ErrIdentityInUse, pid)
		}
	}
}

// runShelf publishes this node and finds others.
func (d *Discovery) runShelf() {
	s := d.shelf
	defer close(s.stopped)
	if len(s.regs) == 0 {
		return
	}
	for _, reg := range s.regs {
		s.publish(reg)
	}
	s.look()
	timer := time.NewTimer(lookAlone)
	defer timer.Stop()
	for {
		select {
		case <-d.loopCtx.Done():
			return
		case <-s.readdr:
			for _, reg := range s.regs {
				s.publish(reg)
			}
		case p := <-s.missing:
			for _, reg := range s.regs {
				reg.Unreachable(p)
			}
		case <-timer.C:
			for _, reg := range s.regs {
				if !reg.Touch() {
					s.publish(reg) // somebody cleaned up too much
				}
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

func (s *shelf) publish(reg *registry.Registry) {
	if err := reg.Publish(s.d.ownAddr()); err != nil {
		s.d.log.Warn("not published in the same-host registry", "dir", reg.Path(), "err", err)
	}
}

func (s *shelf) look() {
	for _, reg := range s.regs {
		found, err := reg.List()
		if err != nil {
			s.d.log.Warn("same-host registry not read", "err", err)
			continue
		}
		for _, f := range found {
			if !s.d.store.known(f.Addr.ID) {
				s.d.hood.addContact(f.Addr, overlay.Found)
			}
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
	if s == nil {
		return
	}
	<-s.stopped
	for _, reg := range s.regs {
		if err := reg.Withdraw(); err != nil {
			s.d.log.Warn("not removed from the same-host registry", "err", err)
		}
	}
}

// release lets others run this node. Nothing is published any more.
func (s *shelf) release() {
	if s == nil {
		return
	}
	for _, reg := range s.regs {
		reg.Release()
	}
}

func (s *shelf) status() RegistryStatus {
	if s == nil {
		return RegistryStatus{}
	}
	return RegistryStatus{Dirs: s.dirs, Err: s.err}
}

// alone reports whether there is no neighbour.
func (d *Discovery) alone() bool {
	d.hood.mu.Lock()
	defer d.hood.mu.Unlock()
	_, alone := d.hood.core.Alone()
	return alone
}
