package groups_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// slowpoke is a counter whose Apply of a negative amount, and whose Query of true, take until the gate is opened.
type slowpoke struct {
	counter
	entered, gate chan struct{}
}

func (*slowpoke) Signature() id.ID { return id.Of("groups test slowpoke v1") }

func (s *slowpoke) wait() {
	s.entered <- struct{}{}
	<-s.gate
}

func (s *slowpoke) Apply(ctx groups.ApplyContext, amount int64) int64 {
	if amount < 0 {
		s.wait()
	}
	return s.counter.Apply(ctx, amount)
}

func (s *slowpoke) Query(slow bool) int64 {
	if slow {
		s.wait()
	}
	return s.sum
}

type slowGroup = groups.Group[int64, bool, int64]

// joinSlow returns the only member of a group whose machine is a slowpoke.
func joinSlow(t *testing.T, opts ...groups.Option) (*slowGroup, *slowpoke) {
	t.Helper()
	return joinSlowOn(t, testnet.Loopback(t, 1), opts...)
}

func joinSlowOn(t *testing.T, net *testnet.Net, opts ...groups.Option) (*slowGroup, *slowpoke) {
	t.Helper()
	s := &slowpoke{entered: make(chan struct{}, 16), gate: make(chan struct{})}
	g, err := groups.Join(net.Node(0), groups.RandomKey(), func() *slowpoke { return s }, opts...)
	if err != nil {
		t.Fatal(err)
	}
	within(t, bootstrapLimit(), "online", g.When().Online)
	return g, s
}

// A query, weak or strong, that waits for a machine which applies for long fails when its ctx ends, and works afterwards.
func TestQueryWaitsNoLongerThanContext(t *testing.T) {
	t.Parallel()
	g, s := joinSlow(t, quick)
	if _, err := g.Execute(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := g.Execute(t.Context(), -2)
		done <- err
	}()
	<-s.entered
	for _, c := range []groups.Consistency{groups.Weak, groups.Strong} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := g.Query(ctx, false, c)
		cancel()
		if wantError(t, err, context.DeadlineExceeded, groups.ErrNotApplied); errors.Is(err, groups.ErrOutcomeUnknown) {
			t.Errorf("both: %v", err)
		}
	}
	// One that has patience is answered when the command is applied.
	read := make(chan groups.Result[int64], 1)
	go func() {
		res, err := g.Query(t.Context(), false, groups.Weak)
		if err != nil {
			t.Error(err)
		}
		read <- res
	}()
	close(s.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if res := <-read; res != (groups.Result[int64]{Value: 3, Index: 2}) {
		t.Errorf("got %v", res)
	}
}

// A query that waits for the machine ends with the group.
func TestQueryWaitsNoLongerThanGroup(t *testing.T) {
	t.Parallel()
	g, s := joinSlow(t, quick)
	done := make(chan error, 2)
	go func() {
		_, err := g.Execute(t.Context(), -1)
		done <- err
	}()
	<-s.entered
	go func() {
		_, err := g.Query(t.Context(), false, groups.Weak)
		done <- err
	}()
	closed := make(chan error, 1)
	go func() { closed <- g.Close() }()
	wantError(t, <-done, groups.ErrClosed)
	wantError(t, <-done, groups.ErrClosed)
	wantError(t, <-closed, groups.ErrMachineBusy)
	close(s.gate)
}

// A machine that hangs in Apply, or is kept from it by a query, is named by the status and by the errors of those who wait,
// until it goes on.
func TestSlowMachineIsNamed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, want string
		hang       func(context.Context, *slowGroup)
	}{
		{"apply", "the state machine has been applying command 1 for ", func(ctx context.Context, g *slowGroup) { g.Execute(ctx, -1) }},
		{"query", "queries of the state machine have held up command 1 for ", func(ctx context.Context, g *slowGroup) { g.Query(ctx, true, groups.Weak) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			log, reg := new(record), prometheus.NewRegistry()
			net := testnet.Loopback(t, 0)
			net.Add(mosaik.WithLogger(log.logger()), mosaik.WithMetrics(reg))
			g, s := joinSlowOn(t, net, quick)
			if note := g.Status().Note; note != "" {
				t.Errorf("at first: %s", note)
			}
			var wg sync.WaitGroup
			wg.Go(func() { tc.hang(t.Context(), g) })
			<-s.entered
			wg.Go(func() { g.Execute(t.Context(), 1) })
			eventually(t, "a note", func() bool { return strings.Contains(g.Status().Note, tc.want) })
			if seconds := metric(t, reg, "mosaik_groups_machine_slow_seconds"); seconds < 5 {
				t.Errorf("the metric says %v s", seconds)
			}
			if n := log.count(`"level":"WARN"`, "the state machine is slow", strings.TrimSuffix(tc.want, " for ")); n != 1 {
				t.Errorf("%d warnings", n)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			_, err := g.Execute(ctx, 1)
			if wantError(t, err, context.DeadlineExceeded); !strings.Contains(err.Error(), tc.want) {
				t.Errorf("execute: %v", err)
			}
			if err := g.When().Committed().Reaches(ctx, 100); !strings.Contains(err.Error(), tc.want) {
				t.Errorf("wait: %v", err)
			}
			close(s.gate)
			wg.Wait()
			eventually(t, "the note being gone", func() bool { return g.Status().Note == "" })
			equal(t, "metric at the end", metric(t, reg, "mosaik_groups_machine_slow_seconds"), 0)
		})
	}
}
