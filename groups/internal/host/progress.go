package host

import (
	"container/heap"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// progress is how far the machine has applied the log, and who waits for it to get further.
type progress struct {
	user atomic.Uint64 // user index applied

	mu      sync.Mutex // guards all following fields
	epoch   uint64     // counts the histories that this member has been part of
	raft    uint64     // raft index applied in the present history
	waiters indexHeap  // for user indices
	reads   readHeap   // for raft indices
	falls   chan struct{}
}

// position returns the user index applied and a channel that is closed when it goes back.
func (p *progress) position() (core.Index, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.falls == nil {
		p.falls = make(chan struct{})
	}
	return p.user.Load(), p.falls
}

// begin notes that the engine has begun another history: raft indices count anew from here. What was decided in the
// history before may still be applied; after that comes restart. It returns the reads that waited for indices which will
// not come.
func (p *progress) begin(epoch uint64) []*Read {
	p.mu.Lock()
	defer p.mu.Unlock()
	reads := p.reads
	p.epoch, p.raft, p.reads = epoch, 0, nil
	return reads
}

// restart notes that the machine is empty again.
func (p *progress) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user.Store(0)
	if p.falls != nil {
		close(p.falls)
		p.falls = nil
	}
}

// indexWait is somebody who waits for a user index.
type indexWait struct {
	index   core.Index
	reached chan struct{} // closed when it is applied
	place   int           // in the heap, -1 when out of it
}

// advance notes that the machine has applied up to the user index and, if raft is not zero, all up to the raft index of
// the history.
func (p *progress) advance(user core.Index, epoch, raft uint64) {
	p.user.Store(user)
	p.mu.Lock()
	if epoch == p.epoch {
		p.raft = max(p.raft, raft)
	}
	for len(p.waiters) > 0 && p.waiters[0].index <= user {
		close(heap.Pop(&p.waiters).(*indexWait).reached)
	}
	var ready []*Read
	for len(p.reads) > 0 && p.reads[0].raftIndex <= p.raft {
		ready = append(ready, heap.Pop(&p.reads).(*Read))
	}
	p.mu.Unlock()
	for _, r := range ready {
		r.settle(true, nil)
	}
}

// expire fails the reads that have waited since before the given clock reading.
func (p *progress) expire(before time.Duration, cause error) {
	p.mu.Lock()
	var late []*Read
	for i := len(p.reads) - 1; i >= 0; i-- {
		if p.reads[i].began <= before {
			late = append(late, p.reads[i])
		}
	}
	if len(late) > 0 {
		p.reads = slices.DeleteFunc(p.reads, func(r *Read) bool { return r.began <= before })
		heap.Init(&p.reads)
	}
	p.mu.Unlock()
	for _, r := range late {
		r.settle(false, cause)
	}
}

// await registers for a user index; nil means that it is applied already.
func (p *progress) await(index core.Index) *indexWait {
	if p.user.Load() >= index {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.user.Load() >= index {
		return nil
	}
	w := &indexWait{index: index, reached: make(chan struct{})}
	heap.Push(&p.waiters, w)
	return w
}

// forget takes back a registration.
func (p *progress) forget(w *indexWait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.place >= 0 {
		heap.Remove(&p.waiters, w.place)
	}
}

// serve settles the read once its raft index is applied.
func (p *progress) serve(r *Read, raft uint64) {
	p.mu.Lock()
	if p.raft < raft {
		r.raftIndex = raft
		heap.Push(&p.reads, r)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	r.settle(true, nil)
}

type indexHeap []*indexWait

func (h indexHeap) Len() int           { return len(h) }
func (h indexHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h indexHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *indexHeap) Push(x any) {
	w := x.(*indexWait)
	w.place = len(*h)
	*h = append(*h, w)
}

func (h *indexHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.place = -1
	return w
}

type readHeap []*Read

func (h readHeap) Len() int           { return len(h) }
func (h readHeap) Less(i, j int) bool { return h[i].raftIndex < h[j].raftIndex }
func (h readHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *readHeap) Push(x any)        { *h = append(*h, x.(*Read)) }

func (h *readHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return r
}
