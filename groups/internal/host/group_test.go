package host

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Calls of many goroutines are all applied, each goroutine's in its order, and each gets its own result; the pooled Call
// objects never mix up.
func TestCallsAreAppliedInOrder(t *testing.T) {
	t.Parallel()
	const senders, each = 32, 200
	m := &sumMachine{}
	g := newTestGroup(t, &lineEngine{}, m, GroupConfig{MaxCalls: 8}) // so that most calls stand in line
	results := make([][]uint64, senders)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			c := newTestCall("")
			for n := range each {
				c.Payload = binary.BigEndian.AppendUint64(nil, uint64(s))
				c.Payload = binary.BigEndian.AppendUint64(c.Payload, uint64(n))
				if reusable := g.Do(t.Context(), c); !reusable || c.Failure != 0 {
					t.Errorf("sender %d call %d: failure %d, reusable %v", s, n, c.Failure, reusable)
					return
				}
				results[s] = append(results[s], *c.Results.(*uint64))
				if c.First != *c.Results.(*uint64) {
					t.Errorf("index %d, but the result is of command %d", c.First, *c.Results.(*uint64))
				}
			}
		})
	}
	wg.Wait()
	if got, want := g.Applied(), core.Index(senders*each); got != want {
		t.Fatalf("applied %d commands, want %d", got, want)
	}
	next := make([]uint64, senders)
	for i := 0; i < len(m.log); i += 2 {
		if s, n := m.log[i], m.log[i+1]; n != next[s] {
			t.Fatalf("call %d of sender %d was applied, want call %d", n, s, next[s])
		}
		next[m.log[i]]++
	}
	for s, r := range results {
		for i := 1; i < len(r); i++ {
			if r[i] <= r[i-1] {
				t.Fatalf("results of sender %d go back: %d after %d", s, r[i], r[i-1])
			}
		}
	}
}

// A group that has nothing to do keeps no goroutine busy.
func TestIdleGroupHasNoGoroutine(t *testing.T) {
	t.Parallel()
	g := newTestGroup(t, &lineEngine{}, &sumMachine{}, GroupConfig{})
	g.Do(t.Context(), newTestCall("x"))
	g.wg.Wait() // returns only if loop and applier have ended by themselves
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running || g.applying {
		t.Fatalf("running %v, applying %v while idle", g.running, g.applying)
	}
}

// A machine that is slow does not keep the engine from its work.
func TestSlowMachineDoesNotStopTheEngine(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	m := &sumMachine{hook: func(core.Item) { <-hold }}
	var flushes atomic.Int64
	e := &lineEngine{before: func(*core.Output) { flushes.Add(1) }}
	g := newTestGroup(t, e, m, GroupConfig{})
	done := make(chan struct{})
	go func() { g.Do(context.Background(), newTestCall("x")); close(done) }()
	for flushes.Load() == 0 {
		runtime.Gosched()
	}
	before := flushes.Load()
	for flushes.Load() < before+10 {
		g.tick(0, new(bond.Round))
		runtime.Gosched()
	}
	select {
	case <-done:
		t.Fatal("the call returned before it was applied")
	default:
	}
	close(hold)
	<-done
}

func TestCancel(t *testing.T) {
	t.Parallel()
	never := func(int) int { return 0 }
	for _, tc := range []struct {
		name, payload string
		window        int
		fill          bool
		want          core.Failure
	}{
		{name: "before it was sent", payload: "x", window: 8, want: core.FailedCancelled},
		{name: "after it was sent", payload: "sent", window: 8, want: core.FailedUnknown},
		{name: "while it stands in line", payload: "sent", window: 1, fill: true, want: core.FailedCancelled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g := newTestGroup(t, &lineEngine{gate: never}, &sumMachine{}, GroupConfig{MaxCalls: tc.window})
			var other sync.WaitGroup
			if tc.fill {
				other.Go(func() { g.Do(context.Background(), newTestCall("first")) })
				for inWindow(g) == 0 {
					runtime.Gosched()
				}
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("enough")
			time.AfterFunc(10*time.Millisecond, func() { cancel(reason) })
			c := newTestCall(tc.payload)
			if g.Do(ctx, c) {
				t.Error("a cancelled call must not be used again")
			}
			if c.Failure != tc.want || !errors.Is(c.Cause, reason) {
				t.Errorf("failure %d cause %v, want %d and the context's cause", c.Failure, c.Cause, tc.want)
			}
			g.stop(context.Background())
			other.Wait()
		})
	}
}

func inWindow(g *Group) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.window.calls
}

// A call that has stood in line for the group's patience fails as overloaded, the one in the window does not.
func TestLineExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newTestGroup(t, &lineEngine{gate: func(int) int { return 0 }}, &sumMachine{}, GroupConfig{
			MaxCalls: 1, Engine: core.Config{Patience: 3 * time.Second},
		})
		first, second := newTestCall("sent"), newTestCall("y")
		var wg sync.WaitGroup
		wg.Go(func() { g.Do(context.Background(), first) })
		synctest.Wait()
		wg.Go(func() { g.Do(context.Background(), second) })
		synctest.Wait()
		time.Sleep(2900 * time.Millisecond)
		g.tick(0, new(bond.Round))
		synctest.Wait()
		if second.settled.Load() {
			t.Fatal("the call in line failed too early")
		}
		time.Sleep(200 * time.Millisecond)
		g.tick(0, new(bond.Round))
		synctest.Wait()
		if !second.settled.Load() || second.Failure != core.FailedOverloaded {
			t.Fatalf("the call in line: settled %v, failure %d, want overloaded", second.settled.Load(), second.Failure)
		}
		if first.settled.Load() {
			t.Fatal("the call in the window is the engine's to judge")
		}
		g.stop(context.Background())
		wg.Wait()
	})
}

// A panic of the machine ends the group with everybody told why, and nothing else.
func TestPanicInApply(t *testing.T) {
	t.Parallel()
	m := &sumMachine{}
	m.hook = func(it core.Item) {
		if string(it.Payload) == "poison" {
			panic("bad command")
		}
	}
	release := make(chan struct{})
	e := &lineEngine{gate: func(n int) int {
		select {
		case <-release:
			return n
		default:
			return 0
		}
	}}
	g := newTestGroup(t, e, m, GroupConfig{MaxCalls: 3})
	calls := []*Call{newTestCall("a"), newTestCall("poison"), newTestCall("b"), newTestCall("in line")}
	var wg sync.WaitGroup
	for i, c := range calls {
		wg.Go(func() { g.Do(context.Background(), c) })
		for inWindow(g)+inLine(g) < i+1 {
			runtime.Gosched()
		}
	}
	close(release)
	g.tick(0, new(bond.Round))
	wg.Wait()
	if calls[0].Failure != 0 || g.Applied() != 1 {
		t.Errorf("the call before the poison: failure %d, %d commands applied", calls[0].Failure, g.Applied())
	}
	for i, c := range calls[1:] {
		var p *PanicError
		if c.Failure == 0 || !errors.As(c.Cause, &p) || p.Value != "bad command" || len(p.Stack) == 0 || p.Index != 2 {
			t.Errorf("call %d: failure %d cause %v, want the panic", i, c.Failure, c.Cause)
		}
	}
	if got := calls[3].Failure; got != core.FailedClosed {
		t.Errorf("the call in line: failure %d, want closed: it was never sent", got)
	}
	if got := calls[2].Failure; got != core.FailedUnknown {
		t.Errorf("the call behind the poison: failure %d, want unknown", got)
	}
	<-g.over
	if s := g.State(); s.Ended == nil || s.Online || s.Reason == "" {
		t.Errorf("state after the failure: %+v", s)
	}
	late := newTestCall("late")
	g.Do(context.Background(), late)
	if late.Failure != core.FailedClosed || late.Cause == nil {
		t.Errorf("a late call: failure %d, cause %v", late.Failure, late.Cause)
	}
}

func inLine(g *Group) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.window.line) - g.window.first
}

// A panic of the engine, or its Fatal verdict, ends the group too.
func TestEngineFailure(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken invariant")
	for name, before := range map[string]func(*core.Output){
		"panic": func(*core.Output) { panic(broken) },
		"fatal": func(out *core.Output) { out.Fatal = broken },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGroup(t, &lineEngine{before: before, gate: func(int) int { return 0 }}, &sumMachine{}, GroupConfig{})
			c := newTestCall("x")
			g.Do(context.Background(), c)
			if c.Failure != core.FailedUnknown || c.Cause == nil {
				t.Fatalf("failure %d, cause %v", c.Failure, c.Cause)
			}
			if _, err := g.Await(context.Background(), NewRead()); err == nil {
				t.Fatal("a read succeeded on a failed group")
			}
		})
	}
}

// stop has applied what is decided before it returns, and fails the rest.
func TestStop(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	m := &sumMachine{hook: func(core.Item) { <-hold }}
	var gate atomic.Int64
	gate.Store(2)
	e := &lineEngine{gate: func(n int) int { return min(n, int(gate.Swap(0))) }}
	g := newTestGroup(t, e, m, GroupConfig{})
	calls := []*Call{newTestCall("a"), newTestCall("b"), newTestCall("c")}
	var wg sync.WaitGroup
	g.mu.Lock() // let all of them into one flush
	for _, c := range calls {
		wg.Go(func() { g.Do(context.Background(), c) })
	}
	g.mu.Unlock()
	for inWindow(g) < 3 {
		runtime.Gosched()
	}
	stopped := make(chan struct{})
	go func() { g.stop(context.Background()); close(stopped) }()
	gate.Store(2)
	close(hold)
	<-stopped
	wg.Wait()
	applied, failed := 0, 0
	for _, c := range calls {
		if c.Failure == 0 {
			applied++
		} else if c.Failure == core.FailedClosed {
			failed++
		}
	}
	if applied+failed != 3 || core.Index(applied) != g.Applied() {
		t.Fatalf("%d calls succeeded and %d failed as closed, %d commands were applied", applied, failed, g.Applied())
	}
	g.stop(context.Background()) // again: harmless
}

// A strong read waits until what the engine said is applied.
func TestReadWaitsForApply(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	started := make(chan struct{})
	m := &sumMachine{hook: func(core.Item) { close(started); <-hold }}
	g := newTestGroup(t, &lineEngine{}, m, GroupConfig{})
	go g.Do(context.Background(), newTestCall("x"))
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if reusable, err := g.Await(ctx, NewRead()); !errors.Is(err, context.DeadlineExceeded) || reusable {
		t.Fatalf("read before apply: %v, reusable %v", err, reusable)
	}
	done := make(chan error)
	go func() { _, err := g.Await(context.Background(), NewRead()); done <- err }()
	close(hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if g.Applied() != 1 {
		t.Fatalf("applied %d after the read", g.Applied())
	}
}

// A peer whose messages pile up makes its own reader wait, and nobody else's.
func TestReceiveBackpressure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		inside := make(chan struct{})
		var once sync.Once
		e := &lineEngine{before: func(*core.Output) { once.Do(func() { close(inside); <-stuck }) }}
		g := newTestGroup(t, e, &sumMachine{}, GroupConfig{})
		a, b := new(bond.Bond), new(bond.Bond)
		g.tick(0, new(bond.Round))
		<-inside
		var wg sync.WaitGroup
		var third atomic.Bool
		wg.Go(func() {
			g.Receive(a, []wire.Message{nil}, unreadMax-1)
			g.Receive(a, []wire.Message{nil}, 2) // still below the budget when it comes
			g.Receive(a, []wire.Message{nil}, 1)
			third.Store(true)
		})
		synctest.Wait()
		if third.Load() {
			t.Fatal("the reader was not held back")
		}
		g.Receive(b, []wire.Message{nil}, 1) // another peer's is not
		g.bury(ErrClosed)                    // and the end of the group lets it go
		wg.Wait()
		close(stuck)
	})
}

func TestWaitApplied(t *testing.T) {
	t.Parallel()
	g := newTestGroup(t, &lineEngine{}, &sumMachine{}, GroupConfig{})
	reached := make(chan error, 1)
	go func() { reached <- g.WaitApplied(context.Background(), nil, 2) }()
	g.Do(t.Context(), newTestCall("a"))
	select {
	case err := <-reached:
		t.Fatalf("returned at index 1: %v", err)
	default:
	}
	g.Do(t.Context(), newTestCall("b"))
	if err := <-reached; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := g.WaitApplied(ctx, nil, 9); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if n := len(g.progress.waiters); n != 0 {
		t.Fatalf("%d waiters are left behind", n)
	}
}

// A subscriber that does not keep up sees the newest events and how many it missed.
func TestEventsLag(t *testing.T) {
	t.Parallel()
	g := newTestGroup(t, &lineEngine{}, &sumMachine{}, GroupConfig{})
	evs := g.Events(t.Context(), nil)
	const extra = 10
	for range eventsBuffer + extra {
		g.events.emit(Event{Kind: BondUp})
	}
	g.stop(context.Background())
	var got []Event
	for ev := range evs {
		got = append(got, ev)
	}
	// The end of the group is an event as well, and pushes out one more.
	if len(got) != eventsBuffer+1 || got[0].Kind != Lagged || got[0].Missed != extra+1 {
		t.Fatalf("%d events, the first is %+v", len(got), got[0])
	}
	if last := got[len(got)-1]; last.Kind != GroupEnded {
		t.Fatalf("the last event is %v", last.Kind)
	}
}

// Whoever gets an answer, a failure or an event finds the state that goes with it.
func TestStateIsThereFirst(t *testing.T) {
	t.Parallel()
	var term atomic.Uint64
	e := &lineEngine{gate: func(int) int { return 0 }}
	e.before = func(out *core.Output) {
		for _, c := range e.calls {
			out.Failed = append(out.Failed, core.Failed{Call: c, Reason: core.FailedOffline})
		}
		e.calls = nil
		if len(out.Failed)+len(out.Answers) > 0 {
			e.status = &core.Status{Term: term.Load()}
			out.News = []core.News{{Kind: core.NewsQuorumLost}}
		}
	}
	g := newTestGroup(t, e, &sumMachine{}, GroupConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var heard atomic.Uint64 // the lowest term that the state showed at an event
	heard.Store(1 << 60)
	events := g.Events(ctx, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range events {
			heard.Store(min(heard.Load(), g.State().Term))
		}
	})
	for n := uint64(1); n <= 2000; n++ {
		term.Store(n)
		if n%2 == 0 {
			g.Do(t.Context(), newTestCall("x"))
		} else {
			g.Ask(t.Context(), nil, &core.Question{Kind: core.AskTransfer})
		}
		if got := g.State().Term; got != n {
			t.Fatalf("after the outcome of term %d the state shows term %d", n, got)
		}
	}
	cancel()
	wg.Wait()
	if heard.Load() == 0 {
		t.Error("an event came before the state that goes with it")
	}
}
