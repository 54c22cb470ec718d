package core

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// A leader whose connections close is replaced at once, without the votes being split, also though all clocks tick at the
// same instant.
func TestLeaderIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond // of three ticks; the election timeout is two seconds and more
	for members := 3; members <= 5; members++ {
		for round := range 20 {
			c := newCluster()
			names := make([]string, members)
			for i := range names {
				names[i] = fmt.Sprintf("%d %d %d", members, round, i)
			}
			c.form(names...)
			c.crash(c.leader(), true)
			begin := c.now
			if !c.until(limit, func() bool {
				l := c.leader()
				return l != nil && l.status.Online
			}) {
				t.Errorf("%d members, round %d: no leader %v after the old one was gone", members, round, c.now-begin)
			}
		}
	}
}

// Turns are a tick apart at least, however short the election timeout is: members whose clocks tick at the same instant
// would split the votes again and again.
func TestTurnsWithShortTimeouts(t *testing.T) {
	t.Parallel()
	for ticks := 2; ticks <= 9; ticks++ {
		for members := 3; members <= 5; members++ {
			for round := range 5 {
				c := newCluster()
				c.tune = func(cfg *Config) { cfg.Heartbeat, cfg.ElectionTimeout = testTick, time.Duration(ticks)*testTick }
				names := make([]string, members)
				for i := range names {
					names[i] = fmt.Sprintf("%d %d %d %d", ticks, members, round, i)
				}
				c.form(names...)
				c.crash(c.leader(), true)
				if !c.until(3*time.Second, func() bool {
					l := c.leader()
					return l != nil && l.status.Online
				}) {
					t.Errorf("%d members, timeout of %d ticks, round %d: no leader", members, ticks, round)
				}
			}
		}
	}
}

// The first in line may lack what others have. Then it is refused, and the next one stands.
func TestSuccessorLacksEntries(t *testing.T) {
	t.Parallel()
	refused := 0
	for round := range 20 {
		c := newCluster()
		c.form(fmt.Sprint("a", round), fmt.Sprint("b", round), fmt.Sprint("c", round))
		old := c.leader()
		behind, ahead := c.followers()[0], c.followers()[1]
		old.submit("x", 1, false)
		for len(c.queue) > 0 { // what is on its way to one of them does not arrive
			c.queue = slices.DeleteFunc(c.queue, func(p packet) bool { return p.from == old && p.to == behind })
			c.deliver()
		}
		c.crash(old, true)
		begin := c.now
		if !c.until(time.Second, func() bool { return ahead.status.Role == RoleLeader && ahead.status.Online }) {
			t.Fatalf("round %d: no leader %v after the old one was gone", round, c.now-begin)
		}
		if c.now-begin > testTick {
			refused++
		}
	}
	if refused == 0 || refused == 20 {
		t.Errorf("in %d of 20 rounds the first in line lacked an entry; the test wants both cases", refused)
	}
}
