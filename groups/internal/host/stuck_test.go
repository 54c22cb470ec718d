package host

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// A fetch that fails makes a member stuck only as long as it lacks what the fetch was for: if the log has brought that
// meanwhile, calls go on though nothing else is ever applied.
func TestFailedFetchThatIsNotNeeded(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		has   uint64
		stuck bool
	}{"lacks it": {has: 49, stuck: true}, "has it": {has: 50}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := &lineEngine{}
				e.status = &core.Status{Online: true, Role: core.RoleFollower, Leader: id.PeerID{1}, RaftIndex: x.has}
				var g *Group
				failed := false
				broken := errors.New("broken")
				e.before = func(*core.Output) {
					if !failed {
						failed = true
						g.fetchFailed(broken, 50)
					}
				}
				g = newTestGroup(t, e, &sumMachine{}, GroupConfig{})
				tick := func() {
					g.tick(0, new(bond.Round))
					synctest.Wait()
				}
				tick()
				tick()
				if stuck := g.State().Stuck != nil; stuck != x.stuck {
					t.Fatalf("stuck: %v", g.State().Stuck)
				}
				c := newTestCall("x")
				done := make(chan struct{})
				go func() { g.Do(t.Context(), c); close(done) }()
				began := time.Now()
				for !has(done) && time.Since(began) < time.Minute {
					time.Sleep(Tick)
					tick()
				}
				took := time.Since(began)
				switch {
				case !x.stuck && (c.Failure != 0 || took > Tick):
					t.Errorf("the call failed with %d, %v after %v", c.Failure, c.Cause, took)
				case x.stuck && (c.Failure != StuckCall || !errors.Is(c.Cause, ErrStuck) || !errors.Is(c.Cause, broken)):
					t.Errorf("the call failed with %d, %v", c.Failure, c.Cause)
				case x.stuck && (took < 10*time.Second || took > 10*time.Second+2*Tick):
					t.Errorf("the call took %v", took)
				}
				if note := g.Note(g.State()); strings.Contains(note, "broken") != x.stuck {
					t.Errorf("note: %s", note)
				}
			})
		})
	}
}

// A member whose last fetch nobody served gets on as soon as another one brings anything. If its own machine was to blame,
// that another fetch brings something says nothing.
func TestStuckUntilTheNextFetchBringsSomething(t *testing.T) {
	t.Parallel()
	nobody := errors.New("nobody has it")
	for name, x := range map[string]struct {
		failure error
		stuck   bool
	}{"not served": {&unserved{nobody}, false}, "its own fault": {nobody, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := &lineEngine{}
				lags := core.Status{Role: core.RoleFollower, Leader: id.PeerID{1}, RaftIndex: 1}
				var g *Group
				do := func() { g.fetchFailed(x.failure, 50) }
				e.before = func(*core.Output) {
					do()
					do = func() {}
				}
				e.status = &lags
				g = newTestGroup(t, e, &sumMachine{}, GroupConfig{})
				tick := func() {
					g.tick(0, new(bond.Round))
					synctest.Wait()
				}
				tick()
				if s := g.State().Stuck; s == nil || !errors.Is(s.err(), nobody) {
					t.Fatalf("stuck: %v", s)
				}
				do = g.fetchBegins
				tick()
				if g.State().Stuck == nil {
					t.Fatal("gets on before there is anything")
				}
				more := lags
				more.Fetch = &core.FetchStatus{Done: 10, Total: 20}
				do = func() { e.status = &more }
				tick()
				tick()
				if stuck := g.State().Stuck != nil; stuck != x.stuck {
					t.Errorf("stuck: %v", stuck)
				}
			})
		})
	}
}
