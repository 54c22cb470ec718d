package pebble_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
)

// forked is the batch with which a log becomes that of another history: a few entries are others, and there is one more.
func forked(t testing.TB, l logstore.Log) logstore.Batch {
	t.Helper()
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	old, err := l.Entries(first, last+1, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Clone(old)
	for _, i := range []int{0, len(all) / 3, len(all) - 2} {
		all[i] = &raftpb.Entry{Index: all[i].Index, Term: all[i].Term, Type: raftpb.EntryConfChange.Enum(), Data: all[i].Data}
	}
	all = append(all, entries(last+1, last+1, 1, "of the fork")...)
	return logstore.Batch{Begin: begin(first-1, 1), State: state(1, 0, last+1), Entries: all, Record: []byte("forked")}
}

// A log that begins again where it began, with nearly the same entries, costs as much as what differs, is read as the new one
// at once, and is that after a restart.
func TestForkWritesWhatDiffers(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	s := open(t, dir, pebble.WithTail(100_000), pebble.WithMetrics(reg))
	l, n := openLog(t, s, group)
	put(t, l, n, logstore.Batch{Begin: begin(5, 1), State: state(1, 0, 5)})
	line := strings.Repeat("x", 1000)
	for at := uint64(6); at < 2000; at += 100 {
		put(t, l, n, logstore.Batch{Entries: entries(at, at+99, 1, line)})
	}
	before := metric(t, reg, "mosaik_logstore_bytes_written")
	b := forked(t, l)
	want := make([]string, len(b.Entries))
	for i, e := range b.Entries {
		want[i] = fmt.Sprintf("%v %d %s", e.GetType(), e.GetTerm(), e.Data)
	}
	check := func(when string, l logstore.Log) {
		t.Helper()
		for _, size := range []uint64{math.MaxUint64, 10_000} {
			if v := lookAt(t, l, size); v.first != 6 || v.record != "forked" || !slices.Equal(v.entries, want) {
				t.Fatalf("%s: %d to %d, record %q, %d entries, %d bytes at once", when, v.first, v.last, v.record, len(v.entries), size)
			}
		}
	}
	seq, safe, err := l.Submit(b)
	if err != nil || safe {
		t.Fatal(safe, err)
	}
	check("at once", l)
	if err := n.wait(seq); err != nil {
		t.Fatal(err)
	}
	last, _ := l.LastIndex()
	if cost := metric(t, reg, "mosaik_logstore_bytes_written") - before; cost > 10_000 {
		t.Errorf("the fork of a log of %d MB has cost %.0f bytes", last/1000, cost)
	}
	put(t, l, n, logstore.Batch{State: state(2, 0, last)}) // after which the memory holds the end only
	check("when it is written", l)
	closeAll(t, l, s)
	s = open(t, dir)
	l, _ = openLog(t, s, group)
	check("after a restart", l)
	closeAll(t, l, s)
}

// TestForkIsOneStep stops the machine at every moment of a fork: the log is the old one or the new one.
func TestForkIsOneStep(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex // guards the two below
	var crashed []*vfs.MemFS
	watch := false
	s := open(t, "store", pebble.WithTail(3000), pebble.WithFS(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if watch && op.Kind != errorfs.OpFileRead && op.Kind != errorfs.OpFileReadAt {
			for _, percent := range []int{0, 50, 100} {
				crashed = append(crashed, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
		}
		return nil
	}))))
	l, n := openLog(t, s, group)
	put(t, l, n, logstore.Batch{Begin: begin(1, 1), State: state(1, 0, 1)})
	for at := uint64(2); at < 200; at += 20 {
		put(t, l, n, logstore.Batch{Entries: entries(at, at+19, 1, strings.Repeat("x", 100)), State: state(1, 0, at-1), Record: []byte("old")})
	}
	old := lookAt(t, l, math.MaxUint64).String()
	b := forked(t, l)
	mu.Lock()
	watch = true
	mu.Unlock()
	put(t, l, n, b)
	mu.Lock()
	watch = false
	mu.Unlock()
	forked := lookAt(t, l, math.MaxUint64).String()
	crashed = append(crashed, mem.CrashClone(vfs.CrashCloneCfg{}))
	closeAll(t, l, s)
	before := 0
	for i, fs := range crashed {
		s := open(t, "store", pebble.WithFS(fs))
		l, n := openLog(t, s, group)
		switch v := lookAt(t, l, math.MaxUint64); v.String() {
		case old:
			before++
			if i == len(crashed)-1 {
				t.Error("a fork that was written is gone")
			}
		case forked:
		default:
			t.Fatalf("crash %d of %d: %d to %d, record %q", i, len(crashed), v.first, v.last, v.record)
		}
		last, _ := l.LastIndex()
		put(t, l, n, logstore.Batch{Entries: entries(last+1, last+1, 2, "after")})
		closeAll(t, l, s)
	}
	t.Logf("%d crashes, %d of them before the fork", len(crashed), before)
	if before == 0 || before == len(crashed) {
		t.Error("all crashes left the same")
	}
}

// metric returns the value of a counter.
func metric(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A recovery of a group whose machine is no Snapshotter, and whose log is long therefore, does not write it all again.
func TestRecoveryOfALongLogIsSmall(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 2)
	tm.online(0, 1)
	tm.voters(0, 2)
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprint(i)+strings.Repeat("x", 1<<20-100))
		tm.write(i%2, want[i])
	}
	tm.reads(want, 1)
	tm.net.Kill(0)
	tm.net.Close(1)
	if err := tm.stores[1].Close(); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	s := open(t, tm.dirs[1], pebble.WithMetrics(reg))
	if err := groups.RecoverStore(t.Context(), s, stored(t, s)); err != nil {
		t.Fatal(err)
	}
	if cost := metric(t, reg, "mosaik_logstore_bytes_written"); cost == 0 || cost > 100_000 {
		t.Errorf("the fork of a log of %d MiB has cost %.0f bytes", len(want), cost)
	}
	if after := stored(t, s); len(after.Lineage) != 1 || int(after.Commands) != len(want) || after.Last == 0 {
		t.Errorf("%+v", after)
	}
	tm.net.Restart(1)
	g, err := groups.Join(tm.net.Node(1), tm.key, newJournal, append(tm.opts, groups.WithStorage(s))...)
	if err != nil {
		t.Fatal(err)
	}
	tm.groups[1] = g
	tm.reads(want, 1)
	want = append(want, "after")
	tm.write(1, "after")
	tm.net.Close(1)
	closeAll(t, s)
	s = open(t, tm.dirs[1])
	t.Cleanup(func() { s.Close() })
	if after := stored(t, s); int(after.Commands) != len(want) {
		t.Errorf("%+v", after)
	}
}
