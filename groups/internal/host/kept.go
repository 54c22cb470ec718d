package host

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Untaken is commands that a merge did not take over as they are.
type Untaken struct {
	core.News
	State *KeptState // nil if the items are all there is
}

// ErrStateGone reports that a state is not kept any more.
var ErrStateGone = errors.New("groups: the state of the history that gave way is not kept any more")

// statesMost bounds the states of histories that are over, since each may be large.
const statesMost = 2

// KeptState is the state that the machine had at the end of a history that gave way.
type KeptState struct {
	taken chan struct{} // closed when there is a view, or none to come

	mu      sync.Mutex // guards all following fields
	view    View
	err     error // why there is none
	settled bool  // taken is closed
	readers int
}

func newKeptState() *KeptState { return &KeptState{taken: make(chan struct{})} }

// take takes the view. It is called by the applier, when the history is applied to its end.
func (k *KeptState) take(m Machine) {
	var view View
	var err error
	if s, ok := m.(Snapshotter); !ok {
		err = errors.New("groups: the machine is not a Snapshotter")
	} else if p := contain(func() { view, err = s.View() }); p != nil {
		err = p
	}
	if err == nil && view == nil {
		err = errNoView
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.settled { // given up already
		if view != nil {
			release(view)
		}
		return
	}
	k.view, k.err = view, err
	k.settleLocked()
}

func (k *KeptState) settleLocked() {
	if !k.settled {
		k.settled = true
		close(k.taken)
	}
}

// drop gives the state up.
func (k *KeptState) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.err = ErrStateGone
	}
	k.settleLocked()
	k.releaseLocked()
}

func (k *KeptState) releaseLocked() {
	if k.err != nil && k.view != nil && k.readers == 0 {
		release(k.view)
		k.view = nil
	}
}

// WriteTo writes the state as the machine's view does. It waits until the machine has applied the history to its end.
func (k *KeptState) WriteTo(w io.Writer) (n int64, err error) {
	<-k.taken
	k.mu.Lock()
	if err := k.err; err != nil {
		k.mu.Unlock()
		return 0, err
	}
	k.readers++
	view := k.view
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.readers--
		k.releaseLocked()
		k.mu.Unlock()
	}()
	if p := contain(func() { n, err = view.WriteTo(w) }); p != nil {
		err = p
	}
	return n, err
}

// keepLocked adds to what merges did not take over, and gives up the oldest that are too many.
func (g *Group) keepLocked(u *Untaken) (dropped []*KeptState) {
	if len(g.untaken) >= divergedMost {
		if old := g.untaken[0].State; old != nil {
			dropped = append(dropped, old)
		}
		g.untaken = slices.Delete(g.untaken, 0, 1)
	}
	g.untaken = append(g.untaken, u)
	states := 0
	for _, x := range slices.Backward(g.untaken) {
		if x.State == nil {
			continue
		}
		if states++; states > statesMost {
			dropped = append(dropped, x.State)
		}
	}
	return dropped
}

// stateToKeep returns what the reset of a flush has to leave behind, nil if nothing.
func stateToKeep(news []core.News) *KeptState {
	for i := range news {
		if news[i].Kind == core.NewsDivergence && news[i].State {
			return newKeptState()
		}
	}
	return nil
}
