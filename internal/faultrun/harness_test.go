//go:build linux

package faultrun

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// These tests show that the harness does what it says: what it does not do to the nodes, or does not see, would not be tested.

func TestClockSteps(t *testing.T) {
	c := newCluster(t, 1, false, settings{})
	n := c.nodes[0]
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	for _, by := range []time.Duration{0, time.Hour, -25 * time.Second, 0} {
		if err := n.stepClock(by); errors.Is(err, errNoClock) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		r, err := n.living().ask(t.Context(), request{Ask: "status"})
		after := time.Now()
		if err != nil {
			t.Fatal(err)
		}
		if at := r.Clock.Add(-by); at.Before(before.Add(-time.Second)) || at.After(after.Add(time.Second)) {
			t.Errorf("a clock that is off by %v shows %v between %v and %v", by, r.Clock, before, after)
		}
	}
}

func TestNetworkCuts(t *testing.T) {
	if !wrapped {
		t.Skip("needs namespaces")
	}
	w := newNetwork(t, 3)
	var socket [3]*net.UDPConn
	for i := range socket {
		err := w.inside(i, func() (err error) {
			socket[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(w.addr(i)), Port: 4001})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer socket[i].Close()
	}
	number := byte(0)
	arrives := func(from, to int, patience time.Duration) bool {
		number++
		b := make([]byte, 10)
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // a wire that was plugged in takes a moment
			if _, err := socket[from].WriteTo([]byte{number}, &net.UDPAddr{IP: net.ParseIP(w.addr(to)), Port: 4001}); err != nil {
				t.Fatal(err)
			}
			socket[to].SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, _, err := socket[to].ReadFrom(b); err == nil && n == 1 && b[0] == number {
				return true
			}
		}
		return false
	}
	expect := func(when string, cut ...[2]int) {
		t.Helper()
		for from := range socket {
			for to := range socket {
				is, patience := slices.Contains(cut, [2]int{from, to}), 20*time.Second
				if is {
					patience = 300 * time.Millisecond
				}
				if from != to && arrives(from, to, patience) == is {
					t.Errorf("%s: a packet from %d to %d arrives: %t", when, from, to, is)
				}
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("whole")
	must(w.cut(0, 1))
	must(w.cut(0, 1))
	expect("cut", [2]int{0, 1})
	must(w.unplug(2))
	expect("unplugged", [2]int{0, 1}, [2]int{0, 2}, [2]int{1, 2}, [2]int{2, 0}, [2]int{2, 1})
	must(w.mend())
	expect("mended")
}

// The check finds what must not be.
func TestCheck(t *testing.T) {
	at := func(begin, end int) (time.Duration, time.Duration) {
		return time.Duration(begin) * time.Millisecond, time.Duration(end) * time.Millisecond
	}
	do := func(what uint64, begin, end int, outcome string, value int64, index uint64) *op {
		o := &op{Group: counter, Client: int(what), Command: command{ID: what << 32, Do: write, New: int64(what)}, Outcome: outcome, Value: value, Index: index}
		o.Begin, o.End = at(begin, end)
		return o
	}
	read := func(begin, end int, value int64) *op {
		o := &op{Group: counter, Client: 100, Outcome: yes, Value: value}
		o.Begin, o.End = at(begin, end)
		return o
	}
	log := func(what ...uint64) *book {
		b := &book{Cells: make(map[uint32]int64)}
		for _, x := range what {
			b.Log = append(b.Log, x<<32)
			b.Cells[0] = int64(x)
		}
		return b
	}
	first, second := do(1, 0, 10, yes, 0, 1), do(2, 20, 30, yes, 1, 2)
	for name, c := range map[string]struct {
		history []*op
		final   *book
		forked  bool
		told    uint64
		want    string
	}{
		"all well":                       {history: []*op{first, second, read(12, 15, 1), read(40, 50, 2)}, final: log(1, 2)},
		"unknown, and there":             {history: []*op{do(1, 0, 10, unknown, 0, 0), read(20, 30, 0), read(40, 50, 1)}, final: log(1)},
		"unknown, and not there":         {history: []*op{do(1, 0, 10, unknown, 0, 0), read(40, 50, 0)}, final: log()},
		"lost":                           {history: []*op{first, second}, final: log(1), want: "is not in the log"},
		"lost, and told":                 {history: []*op{first, second}, final: log(1), forked: true, told: 2},
		"lost, and not told":             {history: []*op{first, second}, final: log(1), forked: true, want: "is not in the log"},
		"told, but nothing forked":       {history: []*op{first, second}, final: log(1), told: 2, want: "is not in the log"},
		"doubled":                        {history: []*op{first, second}, final: log(1, 2, 1), want: "twice"},
		"never sent":                     {history: []*op{first, second}, final: log(1, 2, 3), want: "never sent"},
		"refused, and there":             {history: []*op{first, do(2, 20, 30, no, 0, 0)}, final: log(1, 2), want: "no effect"},
		"at another index":               {history: []*op{first, do(2, 20, 30, yes, 1, 5)}, final: log(1, 2), want: "should have been answered"},
		"wrong answer":                   {history: []*op{first, do(2, 20, 30, yes, 7, 2)}, final: log(1, 2), want: "should have been answered"},
		"a stale read":                   {history: []*op{first, second, read(40, 50, 1)}, final: log(1, 2), want: "not linearizable"},
		"a read of what comes later":     {history: []*op{first, second, read(12, 15, 2)}, final: log(1, 2), want: "not linearizable"},
		"against the order of real time": {history: []*op{do(1, 0, 10, yes, 2, 2), do(2, 20, 30, yes, 0, 1)}, final: log(2, 1), want: "not linearizable"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &cluster{began: time.Now().Add(-time.Minute), settings: settings{Surface: true}}
			cluster.diverged[counter] = map[uint64]bool{c.told << 32: true}
			v := cluster.check(c.history, [kinds]*book{log(), c.final, log()}, c.forked)
			if all := strings.Join(v.violations, "; "); c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("got %q, want %q", all, c.want)
			}
		})
	}
}
