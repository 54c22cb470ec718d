package pebble_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(nodeEnv); spec != "" {
		if err := nodeMain(spec); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(lonely) != "" {
		os.Exit(m.Run())
	}
	os.Exit(leak.Check(m.Run()))
}

var group = id.Of("a group")

func entry(index, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: new(raftpb.EntryNormal), Data: []byte(data)}
}

func entries(from, to, term uint64, data string) (out []*raftpb.Entry) {
	for i := from; i <= to; i++ {
		out = append(out, entry(i, term, fmt.Sprintf("%s-%d-%d", data, i, term)))
	}
	return out
}

func state(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func begin(index, term uint64) *raftpb.SnapshotMetadata {
	return &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{7}}}
}

// news is what a log reported.
type news struct {
	mu     sync.Mutex
	change sync.Cond
	seq    uint64
	err    error
}

func newNews() *news {
	n := new(news)
	n.change.L = &n.mu
	return n
}

func (n *news) notify(seq uint64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seq = max(n.seq, seq)
	if n.err == nil {
		n.err = err
	}
	n.change.Broadcast()
}

// wait returns once the batch is safe or the log has failed.
func (n *news) wait(seq uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.seq < seq && n.err == nil {
		n.change.Wait()
	}
	return n.err
}

func open(t testing.TB, dir string, opts ...pebble.Option) logstore.Store {
	t.Helper()
	s, err := pebble.Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openLog(t testing.TB, s logstore.Store, group id.ID) (logstore.Log, *news) {
	t.Helper()
	n := newNews()
	l, err := s.Open(group, n.notify)
	if err != nil {
		t.Fatal(err)
	}
	return l, n
}

func closeAll(t testing.TB, closers ...interface{ Close() error }) {
	t.Helper()
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// put submits a batch and waits until it is safe.
func put(t testing.TB, l logstore.Log, n *news, b logstore.Batch) {
	t.Helper()
	seq, safe, err := l.Submit(b)
	if err == nil && !safe {
		err = n.wait(seq)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// look is everything that can be read of a log.
type look struct {
	state       string
	voters      []uint64
	first, last uint64
	before      uint64 // term of the entry before the first
	entries     []string
	record      string
	schema      string
}

func lookAt(t testing.TB, l logstore.Log, maxSize uint64) (v look) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, c, err := l.InitialState()
	check(err)
	v.state, v.voters = fmt.Sprint(s.GetTerm(), s.GetVote(), s.GetCommit()), c.GetVoters()
	v.first, err = l.FirstIndex()
	check(err)
	v.last, err = l.LastIndex()
	check(err)
	v.before, err = l.Term(v.first - 1)
	check(err)
	for at := v.first; at <= v.last; {
		part, err := l.Entries(at, v.last+1, maxSize)
		check(err)
		if len(part) == 0 {
			t.Fatalf("no entries from %d to %d", at, v.last)
		}
		for _, e := range part {
			term, err := l.Term(at)
			check(err)
			if e.GetIndex() != at || e.GetTerm() != term {
				t.Fatalf("entry %d of term %d at %d, where the term is %d", e.GetIndex(), e.GetTerm(), at, term)
			}
			v.entries = append(v.entries, fmt.Sprintf("%v %d %s", e.GetType(), e.GetTerm(), e.Data))
			at++
		}
	}
	v.record, v.schema = string(l.Record()), string(l.Schema())
	return v
}

func (v look) String() string {
	return fmt.Sprintf("state %s, voters %v, %d to %d after term %d, record %q, schema %q: %q", v.state, v.voters, v.first, v.last, v.before, v.record, v.schema, v.entries)
}

// TestLikeMemory does random things to a log on disk, closing and opening it in between, and to one in memory, and
// compares them.
func TestLikeMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewMem()
		opts := []pebble.Option{pebble.WithFS(fs), pebble.WithTail(rapid.SampledFrom([]int{1, 200, 1 << 20}).Draw(rt, "tail"))}
		s := open(t, "store", opts...)
		l, n := openLog(t, s, group)
		other, otherNews := openLog(t, s, id.Of("another group"))
		want, _ := logstore.Memory().Open(group, nil)
		term := uint64(1)
		both := func(b logstore.Batch) {
			if _, _, err := want.Submit(b); err != nil {
				t.Fatal(err)
			}
			seq, safe, err := l.Submit(b)
			if err != nil {
				t.Fatal(err)
			}
			if !safe && rapid.Bool().Draw(rt, "wait") {
				n.wait(seq)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				first, _ := want.FirstIndex()
				last, _ := want.LastIndex()
				st, _, _ := want.InitialState()
				at := rapid.Uint64Range(max(first, st.GetCommit()+1), last+1).Draw(rt, "at")
				term += rapid.Uint64Range(0, 1).Draw(rt, "newer")
				b := logstore.Batch{Entries: entries(at, at+rapid.Uint64Range(0, 20).Draw(rt, "more"), term, "x")}
				if rapid.Bool().Draw(rt, "with state") {
					b.State = state(term, 3, st.GetCommit())
				}
				both(b)
			},
			"commit": func(rt *rapid.T) {
				last, _ := want.LastIndex()
				st, _, _ := want.InitialState()
				both(logstore.Batch{State: state(st.GetTerm(), st.GetVote(), rapid.Uint64Range(st.GetCommit(), max(last, st.GetCommit())).Draw(rt, "commit"))})
			},
			"vote": func(rt *rapid.T) {
				st, _, _ := want.InitialState()
				both(logstore.Batch{State: state(term+1, 5, st.GetCommit())})
			},
			"record": func(rt *rapid.T) { both(logstore.Batch{Record: []byte(rapid.String().Draw(rt, "record"))}) },
			"schema": func(rt *rapid.T) { both(logstore.Batch{Schema: []byte(rapid.String().Draw(rt, "schema"))}) },
			"fork": func(rt *rapid.T) {
				first, _ := want.FirstIndex()
				last, _ := want.LastIndex()
				if last < first {
					return
				}
				old, err := want.Entries(first, last+1, math.MaxUint64)
				if err != nil {
					t.Fatal(err)
				}
				before, _ := want.Term(first - 1)
				b := logstore.Batch{Begin: begin(first-1, before), State: state(term, 0, last), Entries: slices.Clone(old), Record: []byte("fork")}
				for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(old)-1), 0, 3).Draw(rt, "changed") {
					b.Entries[i] = entries(first+uint64(i), first+uint64(i), old[i].GetTerm(), "forked")[0]
				}
				switch rapid.IntRange(0, 2).Draw(rt, "end") {
				case 1:
					b.Entries = append(b.Entries, entries(last+1, last+2, term, "more")...)
				case 2:
					b.Entries = b.Entries[:rapid.IntRange(1, len(old)).Draw(rt, "left")]
					b.State = state(term, 0, first+uint64(len(b.Entries))-1)
				}
				both(b)
			},
			"forget": func(rt *rapid.T) { both(logstore.Forget()) },
			"begin": func(rt *rapid.T) {
				at := rapid.Uint64Range(1, 1000).Draw(rt, "at")
				both(logstore.Batch{Begin: begin(at, term), State: state(term, 0, at)})
			},
			"compact": func(rt *rapid.T) {
				st, _, _ := want.InitialState()
				last, _ := want.LastIndex()
				upTo := min(rapid.Uint64Range(0, 1000).Draw(rt, "up to"), st.GetCommit(), last)
				if err := errors.Join(want.Compact(upTo), l.Compact(upTo)); err != nil {
					t.Fatal(err)
				}
			},
			"elsewhere": func(rt *rapid.T) {
				put(t, other, otherNews, logstore.Batch{Entries: entries(1, 3, 1, "other")})
			},
			"reopen": func(rt *rapid.T) {
				closeAll(t, l, other, s)
				s = open(t, "store", opts...)
				l, n = openLog(t, s, group)
				other, otherNews = openLog(t, s, id.Of("another group"))
			},
			"": func(rt *rapid.T) {
				size := rapid.SampledFrom([]uint64{0, 60, math.MaxUint64}).Draw(rt, "size")
				if have, want := lookAt(t, l, size).String(), lookAt(t, want, math.MaxUint64).String(); have != want {
					rt.Fatalf("on disk %s\nin memory %s", have, want)
				}
			},
		})
		closeAll(t, l, other, s)
	})
}

// A state that differs in its commit index alone needs no sync; all else does.
func TestWhatNeedsWaiting(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	l, n := openLog(t, s, group)
	for _, c := range []struct {
		name string
		b    logstore.Batch
		safe bool
	}{
		{"begin", logstore.Batch{Begin: begin(1, 1), State: state(1, 0, 1), Record: []byte("r")}, false},
		{"entries", logstore.Batch{Entries: entries(2, 3, 1, "")}, false},
		{"commit", logstore.Batch{State: state(1, 0, 3)}, true},
		{"nothing", logstore.Batch{}, true},
		{"vote", logstore.Batch{State: state(1, 4, 3)}, false},
		{"term", logstore.Batch{State: state(2, 4, 3)}, false},
		{"record", logstore.Batch{Record: []byte{}}, false},
	} {
		seq, safe, err := l.Submit(c.b)
		if safe != c.safe || err != nil {
			t.Errorf("%s: safe %v, %v", c.name, safe, err)
		}
		if !safe {
			if err := n.wait(seq); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, _, err := l.Submit(logstore.Batch{Entries: entries(9, 9, 1, "")}); err == nil {
		t.Error("a gap was taken")
	}
	closeAll(t, l)
	if _, _, err := l.Submit(logstore.Batch{Record: []byte("x")}); !errors.Is(err, logstore.ErrClosed) {
		t.Errorf("a closed log: %v", err)
	}
	closeAll(t, s)
	if _, err := s.Open(group, nil); !errors.Is(err, logstore.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := pebble.Open(dir); !errors.Is(err, logstore.ErrLocked) {
		t.Errorf("a second store: %v", err)
	}
	l, _ := openLog(t, s, group)
	if _, err := s.Open(group, nil); !errors.Is(err, logstore.ErrOpen) {
		t.Errorf("a second log: %v", err)
	}
	closeAll(t, l)
	l, _ = openLog(t, s, group)
	closeAll(t, l, s, s)
	closeAll(t, open(t, dir))
}

func TestBelongsToOneNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine, other := id.PeerID{1}, id.PeerID{2}
	s := open(t, dir)
	if err := errors.Join(s.Claim(mine), s.Claim(mine)); err != nil {
		t.Fatal(err)
	}
	closeAll(t, s)
	s = open(t, dir)
	if err := s.Claim(other); !errors.Is(err, logstore.ErrOtherNode) {
		t.Errorf("another node: %v", err)
	}
	if err := s.Claim(mine); err != nil {
		t.Error(err)
	}
	closeAll(t, s)
}

func TestGroups(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var want []id.ID
	for i := range 20 {
		g := id.Of(fmt.Sprint("group ", i))
		l, n := openLog(t, s, g)
		if i%3 != 0 {
			put(t, l, n, logstore.Batch{Begin: begin(1, 1), State: state(1, 0, 1), Record: []byte("r"), Entries: entries(2, 5, 1, "x")})
		}
		if i%3 == 2 {
			put(t, l, n, logstore.Forget())
		}
		if i%3 == 1 {
			want = append(want, g)
		}
		closeAll(t, l)
	}
	slices.SortFunc(want, id.ID.Compare)
	if have, err := s.(logstore.Lister).Groups(); !slices.Equal(have, want) || err != nil {
		t.Errorf("groups %v, %v, want %v", have, err, want)
	}
	closeAll(t, s)
}

// Logs of many groups share batches.
func TestManyGroupsFewSyncs(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := open(t, t.TempDir(), pebble.WithMetrics(reg))
	const logs, rounds = 50, 20
	var wg sync.WaitGroup
	for i := range logs {
		l, n := openLog(t, s, id.Of(fmt.Sprint("group ", i)))
		wg.Go(func() {
			for k := range uint64(rounds) {
				seq, _, err := l.Submit(logstore.Batch{Entries: entries(k+1, k+1, 1, "x")})
				if err == nil {
					err = n.wait(seq)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		values[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue()
	}
	writes, batches := values["mosaik_logstore_writes"], values["mosaik_logstore_batches"]
	t.Logf("%v writes in %v batches", writes, batches)
	if writes < logs*rounds || batches > writes/2 {
		t.Errorf("%v writes took %v batches", writes, batches)
	}
	closeAll(t, s)
	if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
		t.Errorf("%d series are left, %v", n, err)
	}
}

// Space that Compact gives up is used again.
func TestCompactFreesSpace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	l, n := openLog(t, s, group)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	index := uint64(0)
	peak := int64(0)
	for round := range 6 {
		for range 40 {
			index++
			for k := range 1 << 14 {
				data[k*64] = byte(index + uint64(k)) // so that it does not compress to nothing
			}
			put(t, l, n, logstore.Batch{Entries: []*raftpb.Entry{entry(index, 1, string(data))}, State: state(1, 0, index)})
		}
		if err := l.Compact(index - 1); err != nil {
			t.Fatal(err)
		}
		if l.Size() > 3<<20 {
			t.Errorf("round %d: one entry of 1 MiB is left, and the size is %d", round, l.Size())
		}
		peak = max(peak, usage(t, dir))
	}
	deadline := time.Now().Add(60 * time.Second)
	for usage(t, dir) > 100<<20 {
		if time.Now().After(deadline) {
			t.Fatalf("%d MiB are in use for a log of 1 MiB", usage(t, dir)>>20)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("240 MiB were written, %d MiB were in use at most, and %d in the end", peak>>20, usage(t, dir)>>20)
	if v := lookAt(t, l, math.MaxUint64); v.first != index || v.last != index {
		t.Errorf("%d to %d are left", v.first, v.last)
	}
	closeAll(t, l, s)
}

func TestEntriesBelowTheTail(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), pebble.WithTail(500))
	l, n := openLog(t, s, group)
	put(t, l, n, logstore.Batch{Entries: entries(1, 200, 1, "first")})
	put(t, l, n, logstore.Batch{Entries: entries(201, 300, 1, "second")})
	put(t, l, n, logstore.Batch{Entries: entries(100, 120, 2, "replaced")}) // far below the tail
	v := lookAt(t, l, 100)
	if v.last != 120 || !slices.Contains(v.entries, "EntryNormal 1 first-99-1") || v.entries[99] != "EntryNormal 2 replaced-100-2" {
		t.Errorf("%v", v)
	}
	if _, err := l.Entries(50, 200, math.MaxUint64); !errors.Is(err, raft.ErrUnavailable) {
		t.Errorf("entries that were replaced: %v", err)
	}
	closeAll(t, l, s)
}
