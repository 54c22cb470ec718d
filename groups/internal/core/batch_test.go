package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Entries of the log are what the codec says: whatever is drawn comes back, and no bytes are taken for more than they are.
func TestEntryEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var runs []run
		var data []byte
		for range rapid.IntRange(0, 4).Draw(t, "runs") {
			x := run{session: rapid.Uint64Range(1, 1<<62).Draw(t, "session"), first: rapid.Uint64Range(0, 1<<62).Draw(t, "first")}
			for range rapid.IntRange(1, 4).Draw(t, "items") {
				x.items = append(x.items, wire.Item{Count: rapid.Uint32Range(1, 9).Draw(t, "count"), Payload: rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "payload")})
			}
			runs = append(runs, x)
			data = appendRun(data, &x)
		}
		var got []run
		err := eachItem(data, func(session uint64, calls int) {
			got = append(got, run{session: session})
		}, func(number uint64, count int, payload []byte) {
			x := &got[len(got)-1]
			if len(x.items) == 0 {
				x.first = number
			}
			x.items = append(x.items, wire.Item{Count: uint32(count), Payload: slices.Clone(payload)})
		})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(runs) {
			t.Fatalf("%v, %v: wrote %v", got, err, runs)
		}
		if len(data) > 0 {
			cut := data[:rapid.IntRange(0, len(data)-1).Draw(t, "cut")]
			items := 0
			err := eachItem(cut, func(uint64, int) {}, func(uint64, int, []byte) { items++ })
			if err == nil && items > len(cut) {
				t.Fatal("more items than bytes")
			}
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add(appendRun(nil, &run{session: 7, first: 1, items: []wire.Item{{Count: 2, Payload: []byte("ab")}, {Count: 1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		bytes, calls := 0, 0
		if eachItem(b, func(_ uint64, n int) { calls += n }, func(_ uint64, _ int, p []byte) { bytes += len(p) }) == nil &&
			(bytes > len(b) || calls > len(b)) {
			t.Fatalf("%d bytes became %d calls with %d bytes", len(b), calls, bytes)
		}
	})
}

// The limits of a session.
func TestSubmitLimits(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.tune = func(cfg *Config) { cfg.MaxEntryBytes, cfg.MaxPendingCalls, cfg.MaxPendingBytes = 100, 3, 150 }
	n := c.start("a", nil)
	n.submit(strings.Repeat("x", 101), 1, false)
	n.submit(strings.Repeat("y", 100), 1, false)
	n.submit(strings.Repeat("z", 51), 1, false)
	n.submit("1", 1, false)
	n.submit("2", 1, false)
	n.submit("3", 1, false)
	want := []string{"x too large", "z overloaded", "3 overloaded"}
	for i, w := range want {
		first, reason, _ := strings.Cut(w, " ")
		if i >= len(n.done) || !strings.HasPrefix(n.done[i], first) || !strings.HasSuffix(n.done[i], reason) {
			t.Fatalf("outcomes %q, want %q", n.done, want)
		}
	}
	n.done = nil
	n.eng.Stop(c.now)
	n.submit("late", 1, false)
	if got := strings.Join(n.done, ";"); !strings.Contains(got, "1 failed: closed;2 failed: closed") || !strings.HasSuffix(got, "late failed: closed") {
		t.Errorf("outcomes after the end: %q", got)
	}
}

// defects 17, memo §4: one entry holds what waits, up to its limit, and no more entries are under way than allowed.
func TestEntriesUnderWay(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.tune = func(cfg *Config) { cfg.MaxEntryBytes = 1000 }
	c.form("a", "b", "c")
	l := c.leader()
	last, _ := l.eng.log.LastIndex()
	for i := range 100 {
		l.submit(fmt.Sprintf("%03d%s", i, strings.Repeat(".", 97)), 1, false)
		if now, _ := l.eng.log.LastIndex(); now-last > uint64(l.eng.cfg.MaxInflight) {
			t.Fatalf("%d entries are under way", now-last)
		}
	}
	c.settle()
	if len(l.log) != 100 || len(c.followers()[0].log) != 100 {
		t.Fatalf("%d and %d of 100 are applied", len(l.log), len(c.followers()[0].log))
	}
	now, _ := l.eng.log.LastIndex()
	entries, err := l.eng.log.Entries(last+1, now+1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if len(e.Data) > 1000+2*runOverhead {
			t.Errorf("an entry of %d bytes", len(e.Data))
		}
	}
	if len(entries) > 25 {
		t.Errorf("%d entries for 100 calls of 100 bytes", len(entries))
	}
}
