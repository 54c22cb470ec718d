package demo

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBalance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		acked   int64
		unknown int64
		killed  bool
		held    int64
		want    string // of the error; empty for none
	}{
		{"equal", 10, 0, false, 10, ""},
		{"an unknown outcome was applied", 10, 3, false, 13, ""},
		{"an unknown outcome was not applied", 10, 3, false, 10, ""},
		{"lost", 10, 0, false, 9, "lost"},
		{"lost although something is unknown", 10, 5, false, 9, "lost"},
		{"doubled", 10, 0, false, 11, "twice"},
		{"more than unknown outcomes explain", 10, 3, false, 14, "twice"},
		{"killed after its last report", 10, 0, true, 25, ""},
		{"killed and lost", 10, 0, true, 9, "lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := state{name: "ada", killed: c.killed, last: report{Acked: c.acked, Unknown: c.unknown}}
			err := balance(p, c.held)
			if c.want == "" && err != nil {
				t.Fatalf("balance: %v, want none", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("balance: %v, want an error that says %q", err, c.want)
			}
		})
	}
}

func TestVerdictAsksEverySurvivor(t *testing.T) {
	t.Parallel()
	alive := func(name string, acked int64, tallies map[string]int64) state {
		return state{name: name, last: report{Acked: acked}, audited: &report{Tallies: tallies}}
	}
	s := summary{states: []state{
		alive("ada", 5, map[string]int64{"ada": 5, "bob": 7}),
		alive("bob", 7, map[string]int64{"ada": 5, "bob": 6}),
	}}
	if err := s.verdict(); err == nil || !strings.Contains(err.Error(), "as bob sees it, bob had 7 acknowledged and the group holds 6") {
		t.Fatalf("verdict: %v, want bob's loss", err)
	}
	s.states[1].audited.Tallies["bob"] = 7
	if err := s.verdict(); err != nil {
		t.Fatalf("verdict: %v, want none", err)
	}
}

func TestLeaderOf(t *testing.T) {
	t.Parallel()
	lead := func(name string, leads, killed bool) state {
		return state{name: name, killed: killed, last: report{Leading: leads}}
	}
	if l := leaderOf([]state{lead("ada", true, true), lead("bob", true, false)}); l == nil || l.name != "bob" {
		t.Fatalf("leaderOf: %v, want bob: the dead do not lead", l)
	}
	if l := leaderOf([]state{lead("ada", true, false), lead("bob", true, false)}); l != nil {
		t.Fatalf("leaderOf: %v, want none while two claim it", l)
	}
	if l := leaderOf([]state{lead("ada", false, false)}); l != nil {
		t.Fatalf("leaderOf: %v, want none", l)
	}
}
