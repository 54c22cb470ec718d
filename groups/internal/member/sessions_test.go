package member

import (
	"maps"
	"testing"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	s := NewSessions(2)
	for _, step := range []struct {
		id, number uint64
		ok         bool
	}{
		{1, 2, false}, {1, 1, true}, {1, 1, false}, {1, 3, false}, {1, 2, true},
		{2, 1, true}, {1, 3, true},
		{3, 1, true}, // 2 was silent for longest
		{2, 2, false}, {2, 1, true}, {1, 4, false},
	} {
		if ok := s.Take(step.id, step.number); ok != step.ok {
			t.Fatalf("%+v: %v", step, ok)
		}
	}
	if s.Len() != 2 || s.Calls(3) != 1 || s.Calls(2) != 1 || s.Calls(1) != 0 {
		t.Errorf("%d sessions: %v", s.Len(), maps.Collect(s.All))
	}
	c := s.Clone()
	c.Take(4, 1)
	if s.Calls(3) != 1 || c.Calls(3) != 0 || c.Calls(4) != 1 {
		t.Errorf("a copy is not one: %v, %v", maps.Collect(s.All), maps.Collect(c.All))
	}
}
