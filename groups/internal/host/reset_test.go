package host

import (
	"context"
	"io"
	"testing"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// When the engine begins another history, what was decided in the old one is applied first, then the machine starts
// afresh; raft indices of the two never mix, and a watch sees the index go back.
func TestReset(t *testing.T) {
	t.Parallel()
	m := &sumMachine{}
	e := &lineEngine{}
	g := newTestGroup(t, e, m, GroupConfig{})
	for range 5 {
		g.Do(t.Context(), newTestCall("x"))
	}
	_, falls := g.Position()
	hold, held := make(chan struct{}), make(chan struct{})
	m.hook = func(it core.Item) {
		if string(it.Payload) == "old" {
			close(held)
			<-hold
		}
	}
	old := newTestCall("old")
	done := make(chan struct{})
	go func() { g.Do(context.Background(), old); close(done) }()
	<-held

	reset := true
	e.enter()() // the loop is idle: nothing else touches the engine
	e.before = func(out *core.Output) {
		if reset {
			reset = false
			out.Reset = true
			e.user, e.raft = 0, 0
		}
	}
	g.tick(0, new(bond.Round))
	read := make(chan error)
	go func() { _, err := g.Await(context.Background(), NewRead()); read <- err }()
	fresh := newTestCall("new")
	applied := make(chan struct{})
	go func() { g.Do(context.Background(), fresh); close(applied) }()
	close(hold)
	<-done
	<-applied
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	<-falls
	if old.First != 6 || fresh.First != 1 || g.Applied() != 1 || m.reset != 1 || m.sum != 1 {
		t.Errorf("old call at %d, new at %d, applied %d, %d resets, sum %d", old.First, fresh.First, g.Applied(), m.reset, m.sum)
	}
	g.tick(0, new(bond.Round))
	g.wg.Wait()
	if e.applied != e.raft {
		t.Errorf("the engine was told that %d is applied, its history ends at %d", e.applied, e.raft)
	}
}

// imageMachine reads its state from images.
type imageMachine struct {
	*sumMachine
	installed []string // what each image held, and how often the machine had begun anew by then
}

func (m *imageMachine) View() (View, error) { return nil, io.ErrUnexpectedEOF }
func (m *imageMachine) Prepare(r io.Reader) (any, error) {
	b, err := io.ReadAll(r)
	return string(b), err
}
func (m *imageMachine) Install(state any, _ core.Index) {
	m.installed = append(m.installed, state.(string))
	if m.reset > 0 {
		m.t.Error("the state of the old history was installed in the new one")
	}
}

// A member that comes back from an image, and finds in its log that it was removed, begins anew in the same breath: the
// image is read first, even though the engine drops it at once.
func TestResetAfterSavedImage(t *testing.T) {
	t.Parallel()
	store, err := logstore.Memory().Open(id.Of("images"), nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.Images().Create(7)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "state")
	if err := w.Commit(nil); err != nil {
		t.Fatal(err)
	}
	data, err := store.Images().Open(7)
	if err != nil {
		t.Fatal(err)
	}
	m := &imageMachine{sumMachine: &sumMachine{}}
	first := true
	e := &lineEngine{before: func(out *core.Output) {
		if first {
			first = false
			out.Apply = append(out.Apply, core.Apply{RaftIndex: 7, Install: &core.Install{Saved: 1, User: 4}})
			out.Reset, out.Before = true, 1
			out.Drop = append(out.Drop, 1)
		}
	}}
	g := newTestGroup(t, e, m.sumMachine, GroupConfig{})
	g.machine = m
	g.images.add(&image{mark: 1, index: 7, cancel: func() {}, data: data})
	c := newTestCall("new")
	g.Do(t.Context(), c)
	if c.Failure != 0 || c.First != 1 || m.reset != 1 || m.sum != 1 || len(m.installed) != 1 || m.installed[0] != "state" {
		t.Errorf("call failed with %v, is at %d; %d resets, sum %d, installed %q", c.Failure, c.First, m.reset, m.sum, m.installed)
	}
}
