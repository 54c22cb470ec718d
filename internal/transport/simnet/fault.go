package simnet

import (
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// SetLink sets the quality of the direction from one peer to another. It holds for what is sent from now on. The peers
// need not exist yet, and keep their links over restarts.
func (f *Fabric) SetLink(from, to id.PeerID, l Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.linkOf(direction{from, to}).link = l
}

// SetLinks sets the quality of all directions, present and future ones.
func (f *Fabric) SetLinks(l Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opts.Link = l
	for _, s := range f.links {
		s.link = l
	}
}

// Block stalls one direction: what is sent is held back, as if every packet was lost, until Unblock or Heal. Blocking
// only one of the two directions makes an asymmetric partition.
func (f *Fabric) Block(from, to id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blocked[direction{from, to}] = true
}

// Unblock ends Block.
func (f *Fabric) Unblock(from, to id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.blocked, direction{from, to})
	f.release()
}

// Partition splits the network: traffic between different groups stalls, in both directions. Peers named in no group,
// those that start later included, form one more group. It replaces an earlier partition and leaves blocked directions
// and isolated peers as they are.
func (f *Fabric) Partition(groups ...[]id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.side)
	for i, group := range groups {
		for _, p := range group {
			f.side[p] = i + 1
		}
	}
	f.release()
}

// Isolate stalls all traffic from and to the peer.
func (f *Fabric) Isolate(p id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alone[p] = true
}

// Rejoin ends Isolate.
func (f *Fabric) Rejoin(p id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.alone, p)
	f.release()
}

// Heal ends every partition, isolation and block. Pauses go on.
func (f *Fabric) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.side)
	clear(f.alone)
	clear(f.blocked)
	f.release()
}

// Reset breaks all connections between two peers at once, as when each side gets a TCP reset.
func (f *Fabric) Reset(a, b id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.ends() {
		if e.self == a && e.peer == b || e.self == b && e.peer == a {
			e.broken(&link.CloseError{Code: link.CodeUnexpectedClose, Remote: true})
		}
	}
}

// Pause freezes a peer's transport, as far as SIGSTOP can be played inside one process: nothing leaves it or reaches it,
// and calls of its own program on streams wait, deadlines notwithstanding, until Resume. Goroutines of the program that
// do something else go on running. Others notice the silence after a while, the peer itself does not.
func (f *Fabric) Pause(p id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused[p] = true
}

// Resume ends Pause.
func (f *Fabric) Resume(p id.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resume(p)
}

func (f *Fabric) resume(p id.PeerID) {
	if !f.paused[p] {
		return
	}
	delete(f.paused, p)
	for _, e := range f.ends() {
		if e.self == p {
			e.heard = time.Now() // a process that wakes up first reads what has queued up
			e.wakeAll()
		}
	}
	for _, pl := range f.places {
		if pl.peer == p && pl.host != nil {
			close(pl.host.resumed)
			pl.host.resumed = make(chan struct{})
		}
	}
	f.release()
}

// isBlocked reports whether nothing gets through now.
func (f *Fabric) isBlocked(d direction) bool {
	return f.paused[d.from] || f.paused[d.to] || f.alone[d.from] || f.alone[d.to] ||
		f.side[d.from] != f.side[d.to] || f.blocked[d]
}

// release lets lanes go on that are no longer blocked.
func (f *Fabric) release() {
	for _, e := range f.ends() {
		e.out.release()
	}
}
