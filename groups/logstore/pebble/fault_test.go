package pebble_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
)

// load writes to a log until stop returns true, and remembers everything. Entries say with which batch they came.
type load struct {
	rng    *rand.Rand
	last   uint64
	seqs   []uint64 // last index after each batch
	states []uint64 // vote after each batch
}

func (w *load) batch() logstore.Batch {
	n := 1 + w.rng.Uint64N(8)
	vote := w.rng.Uint64N(5)
	b := logstore.Batch{
		Entries: entries(w.last+1, w.last+n, 1, strings.Repeat("x", w.rng.IntN(3000))),
		State:   state(1, vote, w.last),
	}
	w.last += n
	w.seqs = append(w.seqs, w.last)
	w.states = append(w.states, vote)
	return b
}

// mustHold checks that the log holds exactly the first so many batches, at least as many as were acknowledged.
func (w *load) mustHold(t testing.TB, l logstore.Log, acknowledged int) {
	t.Helper()
	v := lookAt(t, l, math.MaxUint64)
	if v.last == 0 && acknowledged == 0 {
		return
	}
	for n, last := range w.seqs {
		if last != v.last {
			continue
		}
		st, _, _ := l.InitialState()
		switch {
		case n+1 < acknowledged:
			t.Fatalf("%d batches were acknowledged, %d are there", acknowledged, n+1)
		case st.GetVote() != w.states[n]:
			t.Fatalf("batch %d and its state are torn apart: vote %d, want %d", n+1, st.GetVote(), w.states[n])
		}
		return
	}
	t.Fatalf("the log ends at %d, in the middle of a batch, or is gone; %d batches were acknowledged", v.last, acknowledged)
}

// TestCrash stops the machine at random moments: what was acknowledged must be there, batches as wholes, in order.
func TestCrash(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewCrashableMem()
		s := open(t, "store", pebble.WithFS(fs))
		l, n := openLog(t, s, group)
		w := &load{rng: rng}
		var acknowledged int
		for range 1 + rng.IntN(200) {
			seq, _, err := l.Submit(w.batch())
			if err != nil {
				t.Fatal(err)
			}
			if rng.IntN(4) == 0 {
				if err := n.wait(seq); err != nil {
					t.Fatal(err)
				}
			}
		}
		n.mu.Lock()
		acknowledged = int(n.seq)
		n.mu.Unlock()
		left := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		closeAll(t, l, s)

		s = open(t, "store", pebble.WithFS(left))
		l, _ = openLog(t, s, group)
		w.mustHold(t, l, acknowledged)
		closeAll(t, l, s)
	}
}

// written returns a directory as it stands after so many acknowledged batches, the process gone without closing.
func written(t testing.TB, w *load, batches int) string {
	t.Helper()
	dir, copied := t.TempDir(), t.TempDir()
	s := open(t, dir)
	l, n := openLog(t, s, group)
	for range batches {
		put(t, l, n, w.batch())
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closeAll(t, l, s)
	return copied
}

// walOf returns the database's newest log file, without the zeroes that it is filled up with.
func walOf(t testing.TB, dir string) (path string, content []byte) {
	t.Helper()
	all, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	if len(all) == 0 {
		t.Fatal("there is no log file")
	}
	path = all[len(all)-1]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for len(content) > 0 && content[len(content)-1] == 0 {
		content = content[:len(content)-1]
	}
	return path, content
}

// TestTornTail cuts the last write off at every kind of place: the store opens, and all but that write is there.
func TestTornTail(t *testing.T) {
	t.Parallel()
	w := &load{rng: rand.New(rand.NewPCG(1, 2))}
	const batches = 30
	dir := written(t, w, batches)
	path, whole := walOf(t, dir)
	rng := rand.New(rand.NewPCG(3, 4))
	times := 300
	if testing.Short() {
		times = 40
	}
	for i := range times {
		cut := 1 + rng.IntN(min(len(whole), 1500))
		torn := whole[:len(whole)-cut]
		if i%2 == 0 {
			torn = append(append([]byte(nil), torn...), make([]byte, cut+rng.IntN(5000))...) // zeroes where it would have been
		}
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		fs := inMemory(t, dir)
		s, err := pebble.Open("store", pebble.WithFS(fs))
		if err != nil {
			t.Fatalf("the last %d bytes are gone: %v", cut, err)
		}
		l, _ := openLog(t, s, group)
		w.mustHold(t, l, 0)
		if v := lookAt(t, l, math.MaxUint64); cut < 100 && v.last < w.seqs[batches-2] {
			t.Fatalf("the last %d bytes are gone, and entries from %d", cut, v.last+1)
		}
		closeAll(t, l, s)
	}
}

// inMemory copies a directory to a file system in memory, which is faster than the disk to open.
func inMemory(t testing.TB, dir string) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	ok, err := vfs.Clone(vfs.Default, fs, dir, "store")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	return fs
}

// TestGarbled damages what was written long before the end: that must be noticed, never answered with less.
func TestGarbled(t *testing.T) {
	t.Parallel()
	t.Run("large", func(t *testing.T) { testGarbled(t, 200) })
	t.Run("six", func(t *testing.T) { testGarbled(t, 6) })
	t.Run("within one block", func(t *testing.T) { testGarbled(t, 4) })
}

func testGarbled(t *testing.T, batches int) {
	t.Parallel()
	w := &load{rng: rand.New(rand.NewPCG(5, 6))}
	dir := written(t, w, batches)
	path, whole := walOf(t, dir)
	rng := rand.New(rand.NewPCG(7, 8))
	times := 300
	if testing.Short() {
		times = 40
	}
	for range times {
		bad := append([]byte(nil), whole...)
		at := rng.IntN(len(bad) / 2)
		kind := rng.IntN(3)
		for k := at; k < min(at+1+rng.IntN(512), len(bad)/2); k++ {
			switch kind {
			case 0:
				bad[k] = 0
			case 1:
				bad[k] = byte(rng.Uint32())
			default:
				bad[k] ^= 1 << rng.IntN(8)
			}
		}
		if string(bad) == string(whole) {
			continue
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := pebble.Open("store", pebble.WithFS(inMemory(t, dir)))
		if err == nil {
			var l logstore.Log
			if l, err = s.Open(group, func(uint64, error) {}); err == nil {
				v := lookAt(t, l, math.MaxUint64)
				closeAll(t, l, s)
				if v.last != w.last {
					t.Fatalf("damage at %d of %d, kind %d: the log ends at %d instead of %d, without an error", at, len(whole), kind, v.last, w.last)
				}
				continue
			}
			s.Close()
		}
		if !errors.Is(err, logstore.ErrCorrupt) {
			t.Fatalf("damage at %d of %d: %v", at, len(whole), err)
		}
	}
}

// faults fails what matches, from a chosen moment on.
type faults struct {
	on    atomic.Bool
	after atomic.Int64 // so many more operations succeed
	err   error
	match func(errorfs.Op) bool
	met   atomic.Bool // some operation has failed
}

func (f *faults) MaybeError(op errorfs.Op) error {
	if f.on.Load() && f.match(op) && f.after.Add(-1) < 0 {
		f.met.Store(true)
		return f.err
	}
	return nil
}

func (f *faults) String() string { return "chosen faults" }

// TestDiskFault lets the disk fail in all the ways there are: the store says so to everyone, at once and for good, and
// what it acknowledged is there when it is opened again.
func TestDiskFault(t *testing.T) {
	t.Parallel()
	if os.Getenv(lonely) == "" {
		runLonely(t) // a failed database stands still and is left behind
		return
	}
	file := func(suffix string, kinds ...errorfs.OpKind) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool {
			for _, k := range kinds {
				if op.Kind == k && strings.Contains(op.Path, suffix) {
					return true
				}
			}
			return false
		}
	}
	for _, c := range []struct {
		name  string
		err   error
		match func(errorfs.Op) bool
	}{
		{"no space for the log", syscall.ENOSPC, file(".log", errorfs.OpFileWrite)},
		{"the log cannot be synced", syscall.EIO, file(".log", errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo)},
		{"no space for tables", syscall.ENOSPC, file(".sst", errorfs.OpCreate, errorfs.OpFileWrite)},
		{"no space for a new log", syscall.ENOSPC, file(".log", errorfs.OpCreate, errorfs.OpReuseForWrite)},
		{"the manifest cannot be written", syscall.EIO, file("MANIFEST", errorfs.OpFileWrite, errorfs.OpFileSync)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seeds := uint64(4)
			if testing.Short() {
				seeds = 1
			}
			for seed := range seeds {
				diskFault(t, c.err, c.match, seed)
			}
		})
	}
}

func diskFault(t *testing.T, cause error, match func(errorfs.Op) bool, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	mem := vfs.NewCrashableMem()
	f := &faults{err: &os.PathError{Op: "write", Path: "x", Err: cause}, match: match}
	s := open(t, "store", pebble.WithFS(errorfs.Wrap(mem, f)))
	l, n := openLog(t, s, group)
	idle, idleNews := openLog(t, s, otherGroup)
	w := &load{rng: rng}
	for range 10 + rng.IntN(100) {
		put(t, l, n, w.batch())
	}
	f.after.Store(int64(rng.IntN(5)))
	f.on.Store(true)
	acknowledged := len(w.seqs)
	big := strings.Repeat("y", 1<<20)
	for begin := time.Now(); ; {
		b := w.batch()
		b.Entries[0].Data = append(b.Entries[0].Data, big...) // so that memory fills up and tables are written
		seq, _, err := l.Submit(b)
		if err == nil {
			err = n.wait(seq)
		}
		if err != nil {
			if !errors.Is(err, cause) || !strings.Contains(err.Error(), "store") {
				t.Fatalf("seed %d: %v", seed, err)
			}
			t.Logf("seed %d: %v", seed, err)
			break
		}
		acknowledged = len(w.seqs)
		if time.Since(begin) > time.Minute {
			t.Fatalf("seed %d: nothing failed", seed)
		}
	}
	if err := idleNews.wait(1); !errors.Is(err, cause) {
		t.Errorf("the other group was told %v", err)
	}
	if _, _, err := idle.Submit(w.batch()); !errors.Is(err, cause) {
		t.Errorf("a write after the failure: %v", err)
	}
	left := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
	f.on.Store(false)
	l.Close()
	idle.Close()
	if err := s.Close(); !errors.Is(err, cause) {
		t.Errorf("close: %v", err)
	}

	for where, fs := range map[string]vfs.FS{"after a crash": left, "when opened again": mem} {
		s = open(t, "store", pebble.WithFS(fs))
		l, _ = openLog(t, s, group)
		if v := lookAt(t, l, math.MaxUint64); v.last < w.seqs[acknowledged-1] {
			t.Errorf("seed %d, %s: entries to %d were acknowledged, %d are there", seed, where, w.seqs[acknowledged-1], v.last)
		}
		closeAll(t, l, s)
	}
}

// A database that has a log to recover from writes while it is opened, and may find no room at any of these writes: the
// store says so, lets go of the directory, and has everything that was acknowledged as soon as there is room again.
func TestOpenWithoutRoom(t *testing.T) {
	t.Parallel()
	if os.Getenv(lonely) == "" {
		runLonely(t) // some of the databases stand still and are left behind
		return
	}
	for _, match := range []string{".sst", "MANIFEST", ".log", "OPTIONS", "marker", ""} {
		t.Run(match, func(t *testing.T) {
			t.Parallel()
			for after := range 30 {
				rng := rand.New(rand.NewPCG(uint64(after), 11))
				mem := vfs.NewCrashableMem()
				s := open(t, "store", pebble.WithFS(mem))
				l, n := openLog(t, s, group)
				w := &load{rng: rng}
				for range 10 + rng.IntN(100) {
					put(t, l, n, w.batch())
				}
				left := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				closeAll(t, l, s)

				f := &faults{err: syscall.ENOSPC, match: func(op errorfs.Op) bool {
					grows := op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFilePreallocate
					return grows && strings.Contains(op.Path, match)
				}}
				f.after.Store(int64(after))
				f.on.Store(true)
				s, err := pebble.Open("store", pebble.WithFS(errorfs.Wrap(left, f)))
				if !f.met.Load() && err != nil || err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("%d operations succeed: %v", after, err)
				}
				if err == nil { // it did not need so many, or can do without
					s.Close()
				}
				f.on.Store(false)
				s = open(t, "store", pebble.WithFS(left))
				l, _ = openLog(t, s, group)
				w.mustHold(t, l, len(w.seqs))
				closeAll(t, l, s)
				if !f.met.Load() {
					break
				}
			}
		})
	}
}

// A store that cannot be opened says why, and lets go of the directory.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	for _, kind := range []errorfs.OpKind{errorfs.OpMkdirAll, errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync} {
		f := &faults{err: syscall.ENOSPC, match: func(op errorfs.Op) bool { return op.Kind == kind }}
		f.on.Store(true)
		if _, err := pebble.Open("store", pebble.WithFS(errorfs.Wrap(mem, f))); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("operation %d fails: %v", kind, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(filepath.Join(dir, "file")); err == nil {
		t.Error("a file was opened as a directory")
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	l, _ := openLog(t, s, group)
	images := l.Images()
	rng := rand.New(rand.NewPCG(1, 1))
	contents := make(map[uint64][]byte)
	for i, size := range []int{0, 1, 100, 64 << 10, 64<<10 + 1, 200_000} {
		data := make([]byte, size)
		for k := range data {
			data[k] = byte(rng.Uint32())
		}
		w, err := images.Create(uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			k := 1 + rng.IntN(len(rest))
			if n, err := w.Write(rest[:k]); n != k || err != nil {
				t.Fatal(n, err)
			}
			rest = rest[k:]
		}
		if err := w.Commit(fmt.Appendf(nil, "about %d", i)); err != nil {
			t.Fatal(err)
		}
		contents[uint64(i)] = data
	}
	half, err := images.Create(77)
	if err != nil {
		t.Fatal(err)
	}
	half.Write([]byte("half"))
	gone, err := images.Create(78)
	if err != nil {
		t.Fatal(err)
	}
	gone.Abort()
	if err := gone.Commit(nil); err == nil {
		t.Error("an image was committed after it was given up")
	}
	if err := images.Drop(1); err != nil {
		t.Fatal(err)
	}
	if _, err := images.Open(1); !errors.Is(err, logstore.ErrNoImage) {
		t.Errorf("a dropped image: %v", err)
	}
	delete(contents, 1)
	closeAll(t, l, s)

	s = open(t, dir)
	l, _ = openLog(t, s, group)
	images = l.Images()
	if all, err := images.List(); fmt.Sprint(all) != "[0 2 3 4 5]" || err != nil {
		t.Errorf("images %v, %v", all, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "images", "*", "*.new")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if !images.Lasting() {
		t.Error("images on disk do not last")
	}
	for i, data := range contents {
		im, err := images.Open(i)
		if err != nil {
			t.Fatal(err)
		}
		if string(im.Meta()) != fmt.Sprint("about ", i) || im.Size() != int64(len(data)) {
			t.Errorf("image %d: %q, %d bytes", i, im.Meta(), im.Size())
		}
		for range 20 {
			off := rng.IntN(len(data) + 1)
			p := make([]byte, rng.IntN(100_000))
			n, err := im.ReadAt(p, int64(off))
			if want := data[off:min(off+len(p), len(data))]; string(p[:n]) != string(want) || (n < len(p)) != errors.Is(err, io.EOF) {
				t.Errorf("image %d: %d bytes at %d gave %d, %v", i, len(p), off, n, err)
			}
		}
		closeAll(t, im)
	}
	path, _ := filepath.Glob(filepath.Join(dir, "images", "*", "5"))
	whole, err := os.ReadFile(path[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		bad := append([]byte(nil), whole...)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		if rng.IntN(4) == 0 {
			bad = bad[:rng.IntN(len(bad))]
		}
		if err := os.WriteFile(path[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		im, err := images.Open(5)
		if err == nil {
			_, err = im.ReadAt(make([]byte, im.Size()), 0)
			im.Close()
		}
		if !errors.Is(err, logstore.ErrCorrupt) {
			t.Fatalf("a damaged image: %v", err)
		}
	}
	closeAll(t, l, s)
}
