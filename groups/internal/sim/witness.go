package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// witness checks a history against the log in which it ended up: the calls in the order of the log, with each read put
// at the first place that fits, must be an order that explains all answers, and in which nothing comes before what had
// ended when it began. If so the history is linearizable. This takes no search, so it decides where porcupine runs out
// of time.
func witness(history []*Op, log []Entry) error {
	byID := make(map[int]*Op)
	for _, o := range history {
		if o.Call != "" {
			byID[o.ID] = o
		}
	}
	at := make(map[*Op]int)             // place of a call, from one
	values := make(map[string][]string) // by register: values
	places := make(map[string][]int)    // and the places at which it took them
	m := Machine{}
	for i, e := range log {
		number, _, _ := strings.Cut(e.Cmd, ":")
		id, err := strconv.Atoi(number)
		o := byID[id]
		if err != nil || o == nil {
			return fmt.Errorf("%q in the log was never called", e.Cmd)
		}
		answer := m.Apply(e.Cmd)
		if o.OK && !o.Mute && o.Out != answer {
			return fmt.Errorf("%v was answered %q, the log says %q", o, o.Out, answer)
		}
		at[o] = i + 1
		values[o.Name], places[o.Name] = append(values[o.Name], m[o.Name]), append(places[o.Name], i+1)
	}
	var done, reads []*Op
	for _, o := range history {
		switch {
		case o.Call == "" && o.OK:
			reads = append(reads, o)
		case o.Call != "" && o.OK && at[o] == 0:
			return fmt.Errorf("%v happened, and is not in the log", o)
		case at[o] != 0:
			done = append(done, o)
		}
	}
	// bounds returns the places between which an operation is: behind all that had ended before, before all that began later.
	bounds := func(o *Op) (low, high int) {
		high = len(log)
		for _, x := range done {
			if x.OK && x.End < o.Begin {
				low = max(low, at[x])
			}
			if x.Begin > o.End {
				high = min(high, at[x]-1)
			}
		}
		return low, high
	}
	for _, o := range done {
		if low, _ := bounds(o); low >= at[o] {
			return fmt.Errorf("%v is at %d, after one at %d had ended", o, at[o], low)
		}
	}
	slices.SortStableFunc(reads, func(a, b *Op) int { return int(a.Begin - b.Begin) })
	placed := make([]int, len(reads))
	for i, o := range reads {
		low, high := bounds(o)
		for j, x := range reads[:i] {
			if x.End < o.Begin {
				low = max(low, placed[j])
			}
		}
		// The value at a place is that of the last change up to there.
		k, fits := 0, false
		for k < len(places[o.Name]) && places[o.Name][k] <= low {
			k++
		}
		for place := low; place <= high && !fits; {
			value := ""
			if k > 0 {
				value = values[o.Name][k-1]
			}
			if fits = value == o.Out; fits {
				placed[i] = place
				break
			}
			if k == len(places[o.Name]) {
				break
			}
			place = places[o.Name][k]
			k++
		}
		if !fits {
			return fmt.Errorf("%v from %v to %v saw %q, which the register was not between places %d and %d of the log", o, o.Begin, o.End, o.Out, low, high)
		}
	}
	return nil
}
