package groups_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/internal/snap"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/testnet"
)

// unhurried are settings under which a member that joins has time to find the others, also on a busy machine, before it
// founds a group of its own.
var unhurried = groups.WithConsensus(groups.Consensus{
	Heartbeat: 100 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond, BootstrapDelay: 2 * time.Second,
	Patience: patience,
})

// diaries returns an online group of n members with diaries, whose logs have been cut after some commands, and the sum of
// those.
func diaries(t testing.TB, n int, faults ...*diaryFaults) (*testnet.Net, groups.Key, []*counterGroup, int64) {
	t.Helper()
	return diariesThatKeep(t, n, tight(64), faults...)
}

func diariesThatKeep(t testing.TB, n int, retention groups.Option, faults ...*diaryFaults) (*testnet.Net, groups.Key, []*counterGroup, int64) {
	t.Helper()
	net := testnet.Loopback(t, n)
	net.DiscoverAll(t.Context())
	key := groups.RandomKey()
	gs := make([]*counterGroup, n)
	for i := range gs {
		f := new(diaryFaults)
		if i < len(faults) && faults[i] != nil {
			f = faults[i]
		}
		gs[i] = joinDiary(t, net.Node(i), key, f, unhurried, retention)
	}
	for _, g := range gs {
		within(t, bootstrapLimit(), "online", g.When().Online)
	}
	settled(t, gs)
	sum := int64(0)
	for i := range int64(100) {
		sum = execute(t, gs[i%int64(n)], i).Value
	}
	for _, g := range gs {
		cut(t, g)
	}
	return net, key, gs, sum
}

// watch collects the events of a member of some kinds.
func watch[C, Q, R any](t testing.TB, g *groups.Group[C, Q, R], kinds ...groups.EventKind) func() []groups.Event {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var got []groups.Event
	var wg sync.WaitGroup
	events := g.Events(ctx)
	wg.Go(func() {
		for ev := range events {
			for _, k := range kinds {
				if ev.Kind == k {
					mu.Lock()
					got = append(got, ev)
					mu.Unlock()
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func() []groups.Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]groups.Event(nil), got...)
	}
}

// eventually waits for a condition that has no wait of its own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit(20 * time.Second)); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("does not happen: %s", what)
		}
	}
}

// awaitLeader waits until one of the members leads, which may change at any time on a busy machine.
func awaitLeader(t testing.TB, gs []*counterGroup) int {
	t.Helper()
	eventually(t, "a leader", func() bool {
		return slices.ContainsFunc(gs, func(g *counterGroup) bool { return g.IsLeader() })
	})
	return leaderOf(t, gs)
}

// A member that joins gets the state from several members, and its log goes on where the state ends: its own calls, the
// calls of others and strong reads are right from the first.
func TestJoinWithState(t *testing.T) {
	t.Parallel()
	net, key, gs, sum := diaries(t, 3)
	net.Add()
	net.DiscoverAll(t.Context())
	f := new(diaryFaults)
	late := joinDiary(t, net.Node(3), key, f, unhurried, tight(64))
	fetched := watch(t, late, groups.StateFetched)
	within(t, bootstrapLimit(), "online", late.When().Online)
	equal(t, "committed", late.Committed(), 100)
	equal(t, "weak", query(t, late, groups.Weak), groups.Result[int64]{Value: sum, Index: 100})
	equal(t, "strong", query(t, late, groups.Strong), groups.Result[int64]{Value: sum, Index: 100})
	equal(t, "own call", execute(t, late, 7), groups.Result[int64]{Value: sum + 7, Index: 101})
	equal(t, "another's call", execute(t, gs[1], 3), groups.Result[int64]{Value: sum + 10, Index: 102})
	if f.restores.Load() == 0 {
		t.Error("joined without the state")
	}
	eventually(t, "event of the fetch", func() bool { return len(fetched()) > 0 })
	if why := fetched()[0].Reason; !strings.Contains(why, "from 2 members") && !strings.Contains(why, "from 3 members") {
		t.Errorf("fetched %s, want from the two that do not lead", why)
	}
	settled(t, append(gs, late))
}

// While a member joins with state, the others go on under load, and it ends up with all of it.
func TestJoinWithStateUnderLoad(t *testing.T) {
	t.Parallel()
	// Room for what happens while the state is fetched and compared: a log that is cut sooner makes the joiner begin again.
	retention := groups.WithRetention(groups.Retention{Keep: 10, Most: 10_000, Chunk: 1000})
	net, key, gs, _ := diariesThatKeep(t, 3, retention)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, g := range gs {
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := g.ExecuteMany(ctx, 1, 1, 1, 1, 1, 1, 1, 1); err != nil && ctx.Err() == nil {
						t.Errorf("execute: %v", err)
						return
					}
					time.Sleep(time.Millisecond) // so that a busy machine gets to the handshakes, too
				}
			})
		}
	}
	net.Add()
	net.DiscoverAll(t.Context())
	begin := gs[0].Committed()
	began := time.Now()
	f := new(diaryFaults)
	late := joinDiary(t, net.Node(3), key, f, unhurried, retention)
	within(t, patience, "online", late.When().Online)
	time.Sleep(time.Second)
	rate := float64(gs[0].Committed()-begin) / time.Since(began).Seconds()
	cancel()
	wg.Wait()
	t.Logf("%.0f commands/s while a member joined", rate)
	last := execute(t, gs[0], 0)
	reaches(t, late, last.Index)
	// Calls that were given up may still come: each adds one to both.
	got := query(t, late, groups.Weak)
	equal(t, "value beyond the index", got.Value-int64(got.Index), last.Value-int64(last.Index))
	if f.restores.Load() == 0 {
		t.Error("joined without the state")
	}
}

// A machine that does not write its state as the others do is reported, and does no other harm: the state comes from
// those that agree, here from the leader alone.
func TestDivergingImagesAreReported(t *testing.T) {
	t.Parallel()
	faults := []*diaryFaults{{}, {odd: true}, {odd: true}}
	net, key, gs, sum := diaries(t, 3, faults...)
	var reports []func() []groups.Event
	for _, g := range gs {
		reports = append(reports, watch(t, g, groups.StateDiverged))
	}
	net.Add()
	net.DiscoverAll(t.Context())
	late := joinDiary(t, net.Node(3), key, &diaryFaults{}, unhurried, tight(64))
	within(t, patience, "online", late.When().Online)
	equal(t, "value", query(t, late, groups.Weak).Value, sum)
	// Those differ that do not write as the leader does, whoever that was.
	told := func(i int) bool { return len(reports[i]()) > 0 }
	eventually(t, "reports", func() bool { return told(0) || told(1) && told(2) })
	for i, g := range gs {
		eventually(t, "a note on those that have reported, and on no other", func() bool {
			return strings.Contains(g.Status().Note, "may not be that of the group: the state after") == told(i)
		})
	}
}

// What fails is tried again: views, and restores.
func TestFailedSnapshotsAreRepeated(t *testing.T) {
	t.Parallel()
	shared := new(diaryFaults)
	shared.noView.Store(true)
	net, key, _, sum := diaries(t, 3, shared, shared, shared)
	net.Add()
	net.DiscoverAll(t.Context())
	f := new(diaryFaults)
	f.fail.Store(2)
	late := joinDiary(t, net.Node(3), key, f, unhurried, tight(64))
	failed := watch(t, late, groups.FetchFailed)
	eventually(t, "catching up", func() bool { return strings.Contains(late.Status().Reason, "catching up") })
	time.Sleep(300 * time.Millisecond) // views have failed meanwhile
	if late.Status().Online {
		t.Fatal("online without the state")
	}
	shared.noView.Store(false)
	eventually(t, "a failed restore", func() bool {
		st := late.Status()
		return st.Online || strings.Contains(st.Reason, "no restore today")
	})
	within(t, patience, "online", late.When().Online)
	equal(t, "value", query(t, late, groups.Weak).Value, sum)
	if n := f.restores.Load(); n < 3 {
		t.Errorf("%d restores, of which two failed", n)
	}
	eventually(t, "a report", func() bool {
		return slices.ContainsFunc(failed(), func(ev groups.Event) bool { return strings.Contains(ev.Reason, "no restore today") })
	})
}

// The member that leads is killed while another fetches; the fetch, or one after it, goes on with the next leader.
func TestLeaderDiesDuringFetch(t *testing.T) {
	t.Parallel()
	net, key, gs, sum := diaries(t, 3)
	net.Add()
	net.DiscoverAll(t.Context())
	f := new(diaryFaults)
	late := joinDiary(t, net.Node(3), key, f, unhurried, tight(1))
	leader := awaitLeader(t, gs)
	eventually(t, "a fetch", func() bool {
		st := late.Status()
		return st.Online || strings.Contains(st.Reason, "fetching")
	})
	net.Kill(leader)
	within(t, patience, "online", late.When().Online)
	equal(t, "value", query(t, late, groups.Weak).Value, sum)
	other := gs[(leader+1)%3]
	eventually(t, "a leader", func() bool { _, ok := other.Leader(); return ok })
	res := must(t, patience, "execute", func(ctx context.Context) (groups.Result[int64], error) { return other.Execute(ctx, 1) })
	equal(t, "value", res.Value, sum+1)
	reaches(t, late, res.Index)
}

// A member that was away for so long that the others have cut what it lacks gets the state, in place of its own.
func TestLaggardGetsState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 3)
		net.DiscoverAll(t.Context())
		key := groups.RandomKey()
		// Long enough that the one that is away is not taken out meanwhile.
		patient := groups.WithConsensus(groups.Consensus{RemoveAfter: time.Minute})
		var gs []*counterGroup
		for i := range 3 {
			gs = append(gs, joinDiary(t, net.Node(i), key, new(diaryFaults), patient, tight(64)))
		}
		for _, g := range gs {
			within(t, bootstrapLimit(), "online", g.When().Online)
		}
		settled(t, gs)
		leader := awaitLeader(t, gs)
		away := (leader + 1) % 3
		fetched := watch(t, gs[away], groups.StateFetched)
		net.Partition([]int{away})
		eventually(t, "the silence being noticed", func() bool { return len(gs[leader].Bonds()) == 1 })
		sum := int64(0)
		for i := range int64(50) {
			sum = execute(t, gs[leader], i).Value
		}
		time.Sleep(3 * time.Second) // what the other lacks is cut
		net.Heal()
		within(t, 20*time.Second, "catching up", func(ctx context.Context) error { return gs[away].When().Committed().Reaches(ctx, 50) })
		equal(t, "value", query(t, gs[away], groups.Weak).Value, sum)
		within(t, 10*time.Second, "online", gs[away].When().Online)
		eventually(t, "a fetch", func() bool { return len(fetched()) == 1 })
		equal(t, "own call", execute(t, gs[away], 1).Value, sum+1)
	})
}

// A node can be closed while it fetches, and while it serves. Every view is released once.
func TestCloseDuringFetch(t *testing.T) {
	t.Parallel()
	shared := new(diaryFaults)
	net, key, gs, _ := diaries(t, 3, shared, shared, shared)
	net.Add()
	net.DiscoverAll(t.Context())
	f := &diaryFaults{stall: make(chan struct{})}
	late := joinDiary(t, net.Node(3), key, f, unhurried, tight(1))
	eventually(t, "a restore", func() bool { return f.restores.Load() > 0 })
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		late.Close()
	}()
	time.Sleep(50 * time.Millisecond)
	close(f.stall) // a Restore must return when reading fails, and this one does not read
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close hangs")
	}
	for _, g := range gs {
		g.Close()
	}
	if shared.views.Load() == 0 {
		t.Error("there was no view")
	}
	eventually(t, "all views being released", func() bool { return shared.released.Load() == shared.views.Load() })
}

// bookless is a diary that cannot be written out.
type bookless struct{ d *diary }

func (b bookless) Signature() id.ID                                  { return b.d.Signature() }
func (b bookless) Apply(ctx groups.ApplyContext, amount int64) int64 { return b.d.Apply(ctx, amount) }
func (b bookless) Query(struct{}) int64                              { return b.d.sum }

// A member whose program is older than the group's says why it cannot take part.
func TestMemberThatCannotReadStates(t *testing.T) {
	t.Parallel()
	net, key, _, _ := diaries(t, 3)
	net.Add()
	net.DiscoverAll(t.Context())
	late, err := groups.Join(net.Node(3), key, func() bookless { return bookless{newDiary()} }, unhurried)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reason", func() bool { return strings.Contains(late.Status().Reason, "is not a Snapshotter") })
	if late.Status().Online {
		t.Error("online")
	}
}

// A machine that cannot write its state out keeps the whole log, and those who join replay it.
func TestWithoutSnapshotterTheLogIsKept(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 1)
	key := groups.RandomKey()
	g := join(t, net.Node(0), key, unhurried, tight(1))
	within(t, bootstrapLimit(), "online", g.When().Online)
	for range 50 {
		execute(t, g, 1)
	}
	eventually(t, "the log in the status", func() bool { return g.Status().LogEntries > 50 })
	if g.Status().LogCut {
		t.Error("the log was cut")
	}
	net.Add()
	net.DiscoverAll(t.Context())
	late := join(t, net.Node(1), key, unhurried, tight(1))
	within(t, bootstrapLimit(), "online", late.When().Online)
	equal(t, "value", query(t, late, groups.Weak).Value, 50)
}

func TestRetentionIsChecked(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 1)
	for _, r := range []groups.Retention{{Keep: -1}, {Keep: 10, Most: 5}, {MostBytes: -1}, {Chunk: -1}, {Chunk: 5 << 20}} {
		if _, err := groups.Join(net.Node(0), groups.RandomKey(), newDiary, groups.WithRetention(r)); err == nil || errors.Is(err, groups.ErrClosed) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// Only bonded members are given state, and nonsense ends its stream and nothing else.
func TestStateIsNotForStrangers(t *testing.T) {
	t.Parallel()
	net, key, gs, sum := diaries(t, 3)
	net.Add()
	net.DiscoverAll(t.Context())
	stranger, victim := net.Node(3).Node().Host, net.Node(0).ID()
	open := func() transport.Stream {
		t.Helper()
		s, err := stranger.Open(t.Context(), victim, snap.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Abort(link.CodeCancelled) })
		s.SetReadDeadline(time.Now().Add(patience))
		return s
	}
	frame := func(body []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	ask := func(s transport.Stream, group id.ID) {
		t.Helper()
		if _, err := s.Write(frame(snap.AppendQuestion(nil, snap.Question{Group: group, Root: id.Random(), Request: snap.Request{Manifest: true}}))); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, []byte{0, 0, 0, 1, byte(snap.Refused)}) {
			t.Fatalf("answer %v, %v", got, err)
		}
	}
	s := open()
	ask(s, gs[0].ID())
	ask(s, id.Random())
	for name, bytes := range map[string][]byte{
		"a frame that is too long": {255, 255, 255, 255},
		"an empty frame":           frame(nil),
		"nonsense":                 frame([]byte("nonsense")),
		"half a question":          frame(make([]byte, 64)),
	} {
		s := open()
		if _, err := s.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(s, make([]byte, 1)); err == nil {
			t.Errorf("%s: answered with %d bytes", name, n)
		}
	}
	refused := 0
	for range 12 {
		s := open()
		s.Write(frame(snap.AppendQuestion(nil, snap.Question{})))
		if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
			refused++
		}
	}
	if refused == 0 || refused > 6 {
		t.Errorf("%d of 12 streams at once were refused", refused)
	}
	late := joinDiary(t, net.Node(3), key, new(diaryFaults), unhurried, tight(64))
	within(t, patience, "online", late.When().Online)
	equal(t, "value", query(t, late, groups.Weak).Value, sum)
}
