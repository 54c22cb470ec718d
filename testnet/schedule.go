package testnet

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// FaultKind says what a [Fault] does.
type FaultKind uint8

const (
	// Split cuts Nodes off from all others; among themselves they are connected.
	Split FaultKind = iota + 1
	// OneWay stalls the traffic from Nodes[0] to Nodes[1].
	OneWay
	// Broken stalls the traffic between Nodes[0] and Nodes[1] in both directions; others still reach both.
	Broken
	// Slow gives all links a delay of 100 ms and as much jitter.
	Slow
	// Lossy makes all links lose every tenth packet.
	Lossy
	// Freeze pauses Nodes[0].
	Freeze
	// Crash kills Nodes[0] and restarts it when the fault is over, see [Net.OnRestart].
	Crash
	// Resets breaks the connections between Nodes[0] and Nodes[1] once.
	Resets
)

// String returns the kind's name.
func (k FaultKind) String() string {
	names := [...]string{"", "split", "one way", "broken", "slow", "lossy", "freeze", "crash", "resets"}
	if int(k) < len(names) && k > 0 {
		return names[k]
	}
	return fmt.Sprintf("fault kind %d", uint8(k))
}

// lane returns which faults the kind must not overlap with: those of the same lane.
func (k FaultKind) lane() int {
	switch k {
	case Split, OneWay, Broken:
		return 0
	case Slow, Lossy:
		return 1
	case Freeze, Crash:
		return 2
	default:
		return 3
	}
}

// arity returns how many nodes the kind takes; a Split takes any number.
func (k FaultKind) arity() int {
	switch k {
	case OneWay, Broken, Resets:
		return 2
	case Freeze, Crash, Split:
		return 1
	default:
		return 0
	}
}

// Fault is an entry of a [Schedule].
type Fault struct {
	At    time.Duration // when it begins, since the schedule was started
	For   time.Duration // how long it lasts
	Kind  FaultKind
	Nodes []int // whom it hits, as the kind says
}

// String returns the fault in words.
func (f Fault) String() string {
	return fmt.Sprintf("at %v for %v: %v %v", f.At, f.For, f.Kind, f.Nodes)
}

// Schedule is a list of faults to play. Faults that cut links must not overlap each other, nor those that change the
// quality of all links, nor those that stop nodes; faults of different sorts may.
type Schedule []Fault

// String returns one line for each fault.
func (s Schedule) String() string {
	var b strings.Builder
	for _, f := range s {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// The faults of a random schedule are drawn evenly from these ranges. Some are shorter than the 6 s after which silent
// connections are given up, some longer.
const (
	faultMin, faultMax = 500 * time.Millisecond, 15 * time.Second
	calmMin, calmMax   = time.Second, 10 * time.Second
)

// RandomSchedule returns faults of the given kinds, all kinds but Crash if none are given, that are over within the
// length. It depends on the seed of the network, the number of its nodes and the arguments only.
func (s *Sim) RandomSchedule(length time.Duration, kinds ...FaultKind) Schedule {
	if len(kinds) == 0 {
		kinds = []FaultKind{Split, OneWay, Broken, Slow, Lossy, Freeze, Resets}
	}
	return randomSchedule(rand.New(rand.NewPCG(s.settings.seed, 0x6661756c74)), s.Len(), length, kinds)
}

func randomSchedule(rng *rand.Rand, nodes int, length time.Duration, kinds []FaultKind) Schedule {
	between := func(lo, hi time.Duration) time.Duration {
		return (lo + time.Duration(rng.Int64N(int64(hi-lo)))).Truncate(time.Millisecond)
	}
	var out Schedule
	for lane := range 4 {
		mine := slices.DeleteFunc(slices.Clone(kinds), func(k FaultKind) bool {
			return k.lane() != lane || k.arity() > nodes || k == Split && nodes < 2
		})
		if len(mine) == 0 {
			continue
		}
		for at := between(0, calmMax); ; at += between(calmMin, calmMax) {
			f := Fault{At: at, For: between(faultMin, faultMax), Kind: mine[rng.IntN(len(mine))]}
			if f.Kind == Resets {
				f.For = 0
			}
			size := f.Kind.arity()
			if f.Kind == Split {
				size = 1 + rng.IntN(nodes-1)
			}
			f.Nodes = rng.Perm(nodes)[:size]
			if at += f.For; at > length {
				break
			}
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return out
}

// Play plays a schedule and returns when its last fault is over, or, with all faults ended, when ctx is. Every step is
// noted for the failure message. It may run in a goroutine of its own beside the test's load; the test must wait for it.
func (s *Sim) Play(ctx context.Context, schedule Schedule) {
	start := time.Now()
	var running []Fault
	defer func() {
		for _, f := range running {
			s.end(f)
		}
	}()
	// In each round the earliest of the faults that wait to begin or to end does so.
	waiting := slices.Clone(schedule)
	slices.SortStableFunc(waiting, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	for len(waiting)+len(running) > 0 {
		ends := len(running) > 0 && (len(waiting) == 0 || running[0].At+running[0].For <= waiting[0].At)
		var next time.Duration
		if ends {
			next = running[0].At + running[0].For
		} else {
			next = waiting[0].At
		}
		if !sleepUntil(ctx, start.Add(next)) {
			return
		}
		if ends {
			s.end(running[0])
			running = running[1:]
			continue
		}
		s.begin(waiting[0])
		running = append(running, waiting[0])
		waiting = waiting[1:]
		slices.SortStableFunc(running, func(a, b Fault) int { return cmp.Compare(a.At+a.For, b.At+b.For) })
	}
}

// sleepUntil returns false when ctx ended first.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Sim) begin(f Fault) {
	switch f.Kind {
	case Split:
		s.Partition(f.Nodes)
	case OneWay:
		s.CutOneWay(f.Nodes[0], f.Nodes[1])
	case Broken:
		s.Cut(f.Nodes[0], f.Nodes[1])
	case Slow:
		s.SetLinks(Link{Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond})
	case Lossy:
		l := s.usual()
		l.Loss = 0.1
		s.SetLinks(l)
	case Freeze:
		s.Pause(f.Nodes[0])
	case Crash:
		s.Kill(f.Nodes[0])
	case Resets:
		s.Reset(f.Nodes[0], f.Nodes[1])
	}
}

func (s *Sim) end(f Fault) {
	switch f.Kind {
	case Split:
		s.Partition()
	case OneWay, Broken:
		s.Mend(f.Nodes[0], f.Nodes[1])
	case Slow, Lossy:
		s.SetLinks(s.usual())
	case Freeze:
		s.Resume(f.Nodes[0])
	case Crash:
		s.Restart(f.Nodes[0])
	}
}
