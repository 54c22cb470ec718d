package transport_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReach(t *testing.T) {
	t.Parallel()
	for reach, text := range map[transport.Reach]string{
		transport.ReachHost: "host", transport.ReachLAN: "lan", transport.ReachInternet: "internet",
	} {
		if got, err := transport.ParseReach(text); err != nil || got != reach || reach.String() != text {
			t.Errorf("%q reads as %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "LAN", "wan", "reach 9"} {
		if got, err := transport.ParseReach(bad); err == nil {
			t.Errorf("%q reads as %v", bad, got)
		}
	}
	if got := transport.Reach(9).String(); got != "reach 9" {
		t.Errorf("an unknown reach prints as %q", got)
	}
}

func TestBeats(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		heartbeat, deadAfter time.Duration // as configured
		every, dead          time.Duration // zero: refused
	}{
		{0, 0, 2 * time.Second, 6 * time.Second},
		{time.Second, 0, time.Second, 6 * time.Second},
		{10 * time.Second, 0, 10 * time.Second, 30 * time.Second},
		{0, 4 * time.Second, 2 * time.Second, 4 * time.Second},
		{100 * ms, 500 * ms, 100 * ms, 500 * ms},
		{0, 3 * time.Second, 0, 0},
		{time.Second, time.Second, 0, 0},
		{ms, time.Second, 0, 0},
		{-time.Second, 0, 0, 0},
		{0, -time.Second, 0, 0},
	} {
		cfg := transport.Config{Heartbeat: c.heartbeat, DeadAfter: c.deadAfter}
		every, dead, err := cfg.Beats()
		if every != c.every || dead != c.dead || (err == nil) != (c.every != 0) {
			t.Errorf("%v and %v: got %v, %v and %v", c.heartbeat, c.deadAfter, every, dead, err)
		}
	}
}
