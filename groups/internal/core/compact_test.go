package core

import "testing"

func TestCut(t *testing.T) {
	t.Parallel()
	cfg := &Config{KeepEntries: 10, MostEntries: 100, MostBytes: 10_000}
	shape := func(edit func(*logShape)) logShape {
		s := logShape{first: 101, last: 150, bytes: 500, applied: 150, held: 150}
		edit(&s)
		return s
	}
	for _, c := range []struct {
		name string
		s    logShape
		want uint64
	}{
		{"all but what is kept", shape(func(s *logShape) {}), 140},
		{"what is not applied stays", shape(func(s *logShape) { s.applied = 130 }), 130},
		{"what a member lacks stays", shape(func(s *logShape) { s.held = 120 }), 120},
		{"unless it is too much", shape(func(s *logShape) { s.first, s.held = 1, 20 }), 50},
		{"or too many bytes", shape(func(s *logShape) { s.bytes, s.held = 20_000, 101 }), 125},
		{"which does not hold back what is not applied", shape(func(s *logShape) { s.bytes, s.applied = 20_000, 110 }), 110},
		{"what follows a mark in use stays", shape(func(s *logShape) { s.marked = 125 }), 125},
		{"even beyond the limits", shape(func(s *logShape) { s.first, s.marked = 1, 25 }), 25},
		{"but not for ever", shape(func(s *logShape) { s.first, s.last, s.applied, s.held, s.marked = 1, 500, 500, 500, 25 }), 490},
		{"few voters keep all", shape(func(s *logShape) { s.few = true }), 0},
		{"up to the limits", shape(func(s *logShape) { s.first, s.few = 1, true }), 50},
		{"not for a few entries", shape(func(s *logShape) { s.held = 103 }), 0},
		{"short logs", shape(func(s *logShape) { s.first = 145 }), 0},
		{"an empty log", shape(func(s *logShape) { s.first, s.applied = 151, 150 }), 0},
		{"lasting logs need an image", shape(func(s *logShape) { s.lasting = true }), 0},
		{"and are cut behind it", shape(func(s *logShape) { s.lasting, s.image = true, 130 }), 130},
	} {
		if got := cfg.cut(c.s); got != c.want {
			t.Errorf("%s: cut at %d, want %d", c.name, got, c.want)
		}
	}
}

// An image that could not be written, for want of space perhaps, is not one that differs. Found by a fault run that filled
// disks.
func TestFailedImageIsNoDivergence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		root Root
		want int
	}{"equal": {Root{1}, 0}, "different": {Root{2}, 1}, "not written": {Root{}, 0}} {
		for _, late := range []bool{false, true} {
			r := &Replica{snaps: snapshots{images: []*image{{id: 1, index: 10}}}}
			if !late {
				r.Imaged(0, 1, c.root)
			}
			if err := r.agree(10, Root{1}); err != nil {
				t.Fatal(err)
			}
			if late {
				r.Imaged(0, 1, c.root)
			}
			if n := len(r.due.diverged); n != c.want {
				t.Errorf("%s, late %v: %d divergences, want %d", name, late, n, c.want)
			}
		}
	}
}
