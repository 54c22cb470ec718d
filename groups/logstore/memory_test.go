package logstore

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
)

func entry(index, term uint64, size int) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Data: make([]byte, size)}
}

// filled returns a log of entries 1 to n of term 1.
func filled(t testing.TB, n uint64) Log {
	t.Helper()
	l, err := Memory().Open(id.Of("a log"), nil)
	if err != nil {
		t.Fatal(err)
	}
	add(t, l, 1, n, 1)
	return l
}

func add(t testing.TB, l Log, from, to, term uint64) {
	t.Helper()
	var entries []*raftpb.Entry
	for i := from; i <= to; i++ {
		entries = append(entries, entry(i, term, 1))
	}
	if err := submit(l, nil, entries); err != nil {
		t.Fatal(err)
	}
}

func submit(l Log, state *raftpb.HardState, entries []*raftpb.Entry) error {
	_, safe, err := l.Submit(Batch{State: state, Entries: entries})
	if err == nil && !safe {
		return errors.New("memory is never safe later than at once")
	}
	return err
}

func compact(t testing.TB, l Log, upTo uint64) {
	t.Helper()
	if err := l.Compact(upTo); err != nil {
		t.Fatal(err)
	}
}

// holds checks which entries the log has, and the term of its last.
func holds(t testing.TB, l Log, first, last, lastTerm uint64) {
	t.Helper()
	f, _ := l.FirstIndex()
	have, _ := l.LastIndex()
	term, err := l.Term(have)
	if f != first || have != last || term != lastTerm || err != nil {
		t.Fatalf("log of %d to %d, last of term %d (%v), want %d to %d of term %d", f, have, term, err, first, last, lastTerm)
	}
}

// spec: groups/storage/prune_prefix_basic, prune_prefix_last_unchanged
func TestCompact(t *testing.T) {
	l := filled(t, 5)
	compact(t, l, 2)
	holds(t, l, 3, 5, 1)
	if _, err := l.Entries(2, 4, math.MaxUint64); !errors.Is(err, raft.ErrCompacted) {
		t.Errorf("a dropped entry: %v", err)
	}
	if _, err := l.Term(1); !errors.Is(err, raft.ErrCompacted) {
		t.Errorf("the term of a dropped entry: %v", err)
	}
	if term, err := l.Term(2); term != 1 || err != nil {
		t.Errorf("the term of the last dropped entry: %d, %v", term, err)
	}
	got, err := l.Entries(3, 6, math.MaxUint64)
	if err != nil || len(got) != 3 || got[0].GetIndex() != 3 || got[2].GetIndex() != 5 {
		t.Errorf("what is left: %v, %v", got, err)
	}
}

// spec: groups/storage/prune_prefix_then_append
func TestCompactThenAppend(t *testing.T) {
	l := filled(t, 3)
	compact(t, l, 2)
	add(t, l, 4, 4, 2)
	holds(t, l, 3, 4, 2)
}

// spec: groups/storage/prune_prefix_get_range: raft wants an error where the reference answers with less
func TestCompactThenRange(t *testing.T) {
	l := filled(t, 6)
	compact(t, l, 2)
	for _, c := range []struct {
		lo, hi uint64
		want   int
		err    error
	}{{3, 6, 3, nil}, {3, 5, 2, nil}, {1, 5, 0, raft.ErrCompacted}, {1, 3, 0, raft.ErrCompacted}, {5, 8, 0, raft.ErrUnavailable}} {
		got, err := l.Entries(c.lo, c.hi, math.MaxUint64)
		if len(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%d to %d: %d entries, %v", c.lo, c.hi, len(got), err)
		}
	}
}

// spec: groups/storage/prune_prefix_then_truncate
func TestCompactThenReplaceTail(t *testing.T) {
	l := filled(t, 6)
	compact(t, l, 2)
	held, _ := l.Entries(3, 7, math.MaxUint64)
	add(t, l, 5, 5, 2)
	holds(t, l, 3, 5, 2)
	if held[2].GetTerm() != 1 || held[3].GetIndex() != 6 {
		t.Error("what a reader held has changed")
	}
}

// spec: groups/storage/prune_prefix_idempotent, prune_prefix_zero_is_noop
func TestCompactAgain(t *testing.T) {
	l := filled(t, 5)
	compact(t, l, 0)
	holds(t, l, 1, 5, 1)
	compact(t, l, 3)
	compact(t, l, 2)
	compact(t, l, 3)
	holds(t, l, 4, 5, 1)
	if err := l.Compact(6); err == nil {
		t.Error("compacted beyond the end")
	}
}

// spec: groups/storage/prune_prefix_all_entries
func TestCompactAll(t *testing.T) {
	l := filled(t, 3)
	compact(t, l, 3)
	holds(t, l, 4, 3, 1)
	add(t, l, 4, 4, 1)
	holds(t, l, 4, 4, 1)
}

// A log is never cut behind what was dropped: the reference clears the rest instead.
//
// spec: groups/storage/truncate_at_pruned_boundary
func TestAppendIntoCompacted(t *testing.T) {
	l := filled(t, 5)
	compact(t, l, 3)
	if err := submit(l, nil, []*raftpb.Entry{entry(2, 2, 1)}); err == nil {
		t.Error("appended at a dropped position")
	}
	holds(t, l, 4, 5, 1)
	if err := submit(l, nil, []*raftpb.Entry{entry(7, 2, 1)}); err == nil {
		t.Error("appended with a gap")
	}
}

func TestInstall(t *testing.T) {
	l := filled(t, 5)
	vote := uint64(7)
	if err := submit(l, &raftpb.HardState{Vote: &vote}, nil); err != nil {
		t.Fatal(err)
	}
	index, term := uint64(20), uint64(3)
	begin := &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}}}
	if _, _, err := l.Submit(Batch{Begin: begin}); err != nil {
		t.Fatal(err)
	}
	holds(t, l, 21, 20, 3)
	if l.Size() != 0 {
		t.Errorf("%d bytes are left", l.Size())
	}
	state, members, _ := l.InitialState()
	if state.GetVote() != 7 || !slices.Equal(members.Voters, []uint64{1, 2}) {
		t.Errorf("state %v, members %v", state, members)
	}
	add(t, l, 21, 22, 4)
	holds(t, l, 21, 22, 4)
}

// What was compacted is given back to the process.
func TestCompactFrees(t *testing.T) {
	l := filled(t, 0)
	for i := uint64(1); i <= 64; i++ {
		if err := submit(l, nil, []*raftpb.Entry{entry(i, 1, 1<<20)}); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	compact(t, l, 60)
	if after := heap(); before-after < 50<<20 {
		t.Errorf("heap of %d MiB after dropping 60 of 64 MiB, %d before", after>>20, before>>20)
	}
	if size := l.Size(); size > 8<<20 {
		t.Errorf("size %d", size)
	}
	holds(t, l, 61, 64, 1)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestLogAgainstModel does random things to a log and to a plain slice.
func TestLogAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, _ := Memory().Open(id.Of("a log"), nil)
		type item struct {
			term uint64
			size int
		}
		first, beginTerm, term := uint64(1), uint64(0), uint64(1)
		var model []item
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				at := first + uint64(rapid.IntRange(0, len(model)).Draw(t, "at"))
				if rapid.Bool().Draw(t, "end") {
					at = first + uint64(len(model))
				}
				term++
				n := rapid.IntRange(1, 700).Draw(t, "n")
				size := rapid.SampledFrom([]int{0, 10, 100 << 10}).Draw(t, "size")
				if size > 1000 {
					n = n%60 + 1
				}
				model = model[:at-first]
				var entries []*raftpb.Entry
				for i := range n {
					entries = append(entries, entry(at+uint64(i), term, size))
					model = append(model, item{term, size})
				}
				if err := submit(l, nil, entries); err != nil {
					t.Fatal(err)
				}
			},
			"compact": func(t *rapid.T) {
				n := rapid.IntRange(0, len(model)).Draw(t, "n")
				if err := l.Compact(first + uint64(n) - 1); err != nil {
					t.Fatal(err)
				}
				if n > 0 {
					beginTerm = model[n-1].term
				}
				first += uint64(n)
				model = slices.Clone(model[n:])
			},
			"read": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				lo := rapid.IntRange(0, len(model)-1).Draw(t, "lo")
				hi := rapid.IntRange(lo, len(model)).Draw(t, "hi")
				most := rapid.SampledFrom([]uint64{0, 1000, 1 << 20, math.MaxUint64}).Draw(t, "most")
				got, err := l.Entries(first+uint64(lo), first+uint64(hi), most)
				if err != nil {
					t.Fatal(err)
				}
				want, size := 0, uint64(0)
				for _, m := range model[lo:hi] {
					if size += uint64(m.size) + entryOverhead; size > most && want > 0 {
						break
					}
					want++
				}
				if len(got) != want {
					t.Fatalf("%d entries, want %d", len(got), want)
				}
				for i, e := range got {
					if e.GetIndex() != first+uint64(lo+i) || e.GetTerm() != model[lo+i].term || len(e.Data) != model[lo+i].size {
						t.Fatalf("entry %d is %d of term %d", first+uint64(lo+i), e.GetIndex(), e.GetTerm())
					}
				}
			},
			"": func(t *rapid.T) {
				f, _ := l.FirstIndex()
				last, _ := l.LastIndex()
				if f != first || last != first+uint64(len(model))-1 {
					t.Fatalf("log of %d to %d, want %d and %d entries", f, last, first, len(model))
				}
				if got, err := l.Term(first - 1); err != nil || got != beginTerm {
					t.Fatalf("term before the first: %d, %v, want %d", got, err, beginTerm)
				}
				size := int64(0)
				for _, m := range model {
					size += int64(m.size) + entryOverhead
				}
				if l.Size() < size || l.Size() > size+segmentBytes+100<<10 {
					t.Fatalf("size %d for %d bytes", l.Size(), size)
				}
			},
		})
	})
}

func TestImages(t *testing.T) {
	images := filled(t, 0).Images()
	if _, err := images.Open(3); !errors.Is(err, ErrNoImage) {
		t.Fatalf("open of nothing: %v", err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 3*imageBlock+12345)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	w, err := images.Create(3)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		n := min(1+rng.IntN(imageBlock), len(rest))
		if k, err := w.Write(rest[:n]); k != n || err != nil {
			t.Fatal(k, err)
		}
		rest = rest[n:]
	}
	if _, err := images.Open(3); !errors.Is(err, ErrNoImage) {
		t.Fatalf("an image is there before it is committed: %v", err)
	}
	if err := w.Commit([]byte("what it is")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{1}); err == nil {
		t.Error("wrote to a committed image")
	}
	w.Abort()
	im, err := images.Open(3)
	if err != nil || im.Size() != int64(len(data)) || string(im.Meta()) != "what it is" {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(im, 0, im.Size())); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read back %d bytes, %v", len(got), err)
	}
	part := make([]byte, 100)
	if n, err := im.ReadAt(part, 2*imageBlock-50); n != 100 || err != nil || !bytes.Equal(part, data[2*imageBlock-50:][:100]) {
		t.Error("a part across blocks", n, err)
	}
	if n, err := im.ReadAt(part, int64(len(data))-1); n != 1 || err != io.EOF {
		t.Error("at the end", n, err)
	}
	gone, _ := images.Create(4)
	gone.Write([]byte("x"))
	gone.Abort()
	if list, err := images.List(); err != nil || !slices.Equal(list, []uint64{3}) {
		t.Fatal(list, err)
	}
	if err := images.Drop(3); err != nil {
		t.Fatal(err)
	}
	if list, _ := images.List(); len(list) != 0 {
		t.Error("still there", list)
	}
	if _, err := im.ReadAt(part, 0); err != nil {
		t.Error("an open image ends when it is dropped:", err)
	}
}
