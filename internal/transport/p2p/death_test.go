//go:build unix

package p2p

import (
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// noticed is how soon a dead or hanging process must be noticed on an idle machine. The tests allow a busy one more.
const (
	noticed     = 7 * time.Second
	noticedBusy = noticed + slack
)

// A process that is killed is noticed, with a stream open and without.
func TestKilledProcess(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		h := openHost(t, network, listen)
		bystander := openHost(t, network, listen)
		connect(t, bystander, h)
		c := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		c.connect(h)
		s, err := h.Open(t.Context(), c.addr.ID, "echo")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		seen := watch(t, h)
		killed := time.Now()
		c.kill()
		e := seen.wait(t, "the death is reported", transport.Disconnected, c.addr.ID, 0)
		took := e.at.Sub(killed)
		t.Logf("noticed after %v: %v", took.Round(time.Millisecond), e.Code)
		if took > noticedBusy {
			t.Errorf("noticed after %v, want %v", took, noticed)
		}
		s.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, s); err == nil || link.CodeOf(err) == link.CodeTimeout && listen == overTCP {
			t.Errorf("read on a stream of the dead: %v", err)
		}
		if err := ask(t.Context(), bystander, h.ID(), "hello"); err != nil {
			t.Errorf("a bystander: %v", err)
		}
	})
}

// A process that hangs keeps its sockets, and is noticed all the same. When it goes on it learns that it was given up, and
// can come back.
func TestHangingProcess(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		h := openHost(t, network, listen)
		c := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		c.connect(h)
		seen := watch(t, h)
		stopped := time.Now()
		c.signal(syscall.SIGSTOP)
		e := seen.wait(t, "the silence is reported", transport.Disconnected, c.addr.ID, link.CodeTimeout)
		took := e.at.Sub(stopped)
		t.Logf("noticed after %v", took.Round(time.Millisecond))
		if took > noticedBusy || took < time.Second {
			t.Errorf("noticed after %v, want at most %v, and not before heartbeats are missing", took, noticed)
		}
		c.signal(syscall.SIGCONT)
		eventually(t, "the process learns of it", func() bool { return strings.Contains(c.order("events"), "2/") })
		c.connect(h)
		if err := ask(t.Context(), h, c.addr.ID, "welcome back"); err != nil {
			t.Error(err)
		}
	})
}

// A process that was stopped for a moment, less than others wait, is not given up by anybody.
func TestShortStop(t *testing.T) {
	takesLong(t)
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		h := openHost(t, network, listen)
		c := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		c.connect(h)
		seen := watch(t, h)
		c.signal(syscall.SIGSTOP)
		time.Sleep(2 * time.Second) // its last heartbeat can be as old
		c.signal(syscall.SIGCONT)
		if err := ask(t.Context(), h, c.addr.ID, "awake?"); err != nil {
			t.Error(err)
		}
		time.Sleep(4 * time.Second) // a wrong verdict would fall by now
		if e, ok := seen.find(transport.Disconnected, c.addr.ID, 0); ok {
			t.Errorf("disconnected: %v", e.Code)
		}
		if events := c.order("events"); strings.Contains(events, "2/") {
			t.Errorf("the stopped process saw %s", events)
		}
	})
}

// Two processes that were stopped together, as when a virtual machine is suspended, find all deadlines passed when they
// wake up. Neither holds it against the other.
func TestStoppedTogether(t *testing.T) {
	takesLong(t)
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		var c [2]*child
		for i := range c {
			c[i] = startChild(t, childConfig{Network: network, Seed: t.Name() + string(rune('0'+i)), Listen: listen})
		}
		c[0].connectTo(c[1].addr)
		for _, c := range c {
			c.signal(syscall.SIGSTOP)
		}
		time.Sleep(transport.DefaultDeadAfter + 2*time.Second)
		for _, c := range c {
			c.signal(syscall.SIGCONT)
		}
		time.Sleep(3 * time.Second) // a wrong verdict would fall by now
		for i, c := range c {
			if events := c.order("events"); strings.Contains(events, "2/") {
				t.Errorf("process %d saw %s", i, events)
			}
		}
	})
}

// A node that comes back on another port is reachable as soon as it has dialled anybody: connections of its former life
// are closed then, although nothing says that they are dead.
func TestRestartOnAnotherPort(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		h := openHost(t, network, listen)
		first := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		first.connect(h)
		seen := watch(t, h)
		first.kill()
		second := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		if second.addr.ID != first.addr.ID || slices.Equal(second.addr.Addrs, first.addr.Addrs) {
			t.Fatalf("restarted as %v after %v, want another port", second.addr, first.addr)
		}
		second.connect(h)
		start := time.Now()
		seen.wait(t, "the new life is reported", transport.Connected, second.addr.ID, 0) // its side may be ready a moment earlier
		if err := ask(t.Context(), h, second.addr.ID, "hello again"); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		t.Logf("first answer after %v", took.Round(time.Millisecond))
		if took > noticedBusy {
			t.Errorf("the first answer took %v, as if the former life had to time out", took)
		}
		e := seen.wait(t, "the former life is over", transport.Disconnected, second.addr.ID, 0)
		t.Logf("the former life ended with %v", e.Code)
		if listen == overQUIC && e.Code != link.CodeSupplanted {
			t.Errorf("over QUIC only the newer life can end the older: got %v", e.Code)
		}
		if len(h.Peers()) != 1 {
			t.Errorf("peers are %v", h.Peers())
		}
	})
}

// A node that comes back on the same port is noticed without a word of its own.
func TestRestartOnTheSamePort(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		// Patient, so that a child that starts slowly is there before the silence of the first is noticed.
		h := openHost(t, network, listen, func(c *transport.Config) { c.DeadAfter = patience - 5*time.Second })
		first := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		first.connect(h)
		for range 3 { // QUIC has told how a reset will look by then
			if err := ask(t.Context(), h, first.addr.ID, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		seen := watch(t, h)
		first.kill()
		second := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: first.addr.Addrs[0]})
		start := time.Now()
		e := seen.wait(t, "the former life is over", transport.Disconnected, second.addr.ID, 0)
		took := e.at.Sub(start)
		t.Logf("noticed after %v: %v", took.Round(time.Millisecond), e.Code)
		if e.Code == link.CodeTimeout {
			t.Errorf("noticed after %v, by silence: the next heartbeat should have met a reset", took)
		}
		connectTo(t, h, second.addr)
		if err := ask(t.Context(), h, second.addr.ID, "hello again"); err != nil {
			t.Error(err)
		}
	})
}

// Two living processes with one key: the older is turned off everywhere and learns why, the newer works.
func TestIdentityOpenedTwice(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		h := openHost(t, network, listen)
		seen := watch(t, h)
		older := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		older.connect(h)
		newer := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		newer.connect(h)
		seen.wait(t, "the older is turned off", transport.Disconnected, older.addr.ID, link.CodeSupplanted)
		eventually(t, "the older learns of its double", func() bool {
			return strings.Contains(older.order("events"), "4/409")
		})
		if got := older.order("connect %s", h.Addr()); !strings.Contains(got, link.CodeSupplanted.String()) {
			t.Errorf("the older connects again: %s", got)
		}
		if err := ask(t.Context(), h, newer.addr.ID, "hello"); err != nil {
			t.Error(err)
		}
		if events := newer.order("events"); strings.Contains(events, "4/") || strings.Contains(events, "2/") {
			t.Errorf("the newer saw %s", events)
		}
	})
}

// An orderly end is seen at once, and as what it is.
func TestCloseIsSeen(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		var times []time.Duration
		for range 20 {
			h, other := openHost(t, network, listen), openHost(t, network, listen)
			connect(t, other, h)
			s, err := other.Open(t.Context(), h.ID(), "echo") // stays open, with a handler that waits
			if err != nil {
				t.Fatal(err)
			}
			s.Write([]byte("x"))
			seen := watch(t, h)
			start := time.Now()
			closed := make(chan time.Duration, 1)
			go func() {
				other.Close()
				closed <- time.Since(start)
			}()
			e := seen.wait(t, "the goodbye is reported", transport.Disconnected, other.ID(), link.CodeShutdown)
			times = append(times, e.at.Sub(start))
			if took := <-closed; took > slack {
				t.Errorf("Close took %v", took)
			}
			h.Close()
		}
		slices.Sort(times)
		t.Logf("seen after %v in the middle, %v at most", times[10].Round(10*time.Microsecond), times[19].Round(10*time.Microsecond))
		if times[0] > time.Second { // the fastest, since it is the machine that makes others slow
			t.Errorf("the goodbye is seen after %v at least", times[0])
		}
	})
}

// A peer that hangs with everything full does not hold up Close.
func TestCloseWithHangingPeer(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		network := id.Random()
		h := openHost(t, network, listen)
		c := startChild(t, childConfig{Network: network, Seed: t.Name(), Listen: listen})
		c.connect(h)
		c.signal(syscall.SIGSTOP)
		full := make(chan struct{})
		go func() { // fill what can be filled
			defer close(full)
			for range 4 {
				s, err := h.Open(t.Context(), c.addr.ID, "deaf")
				if err != nil {
					return
				}
				s.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
				for {
					if _, err := s.Write(make([]byte, 64<<10)); err != nil {
						break
					}
				}
			}
		}()
		<-full
		start := time.Now()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > slack {
			t.Errorf("Close took %v", took)
		} else {
			t.Logf("Close took %v", took.Round(time.Millisecond))
		}
	})
}
