package host

import (
	"context"
	"testing"

	"github.com/mosaik-go/mosaik/groups/internal/bond"

	"github.com/mosaik-go/mosaik/groups/internal/core"
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
