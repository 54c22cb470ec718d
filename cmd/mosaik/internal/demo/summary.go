package demo

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// summary is the outcome of a run.
type summary struct {
	states   []state // after the audit
	takeover time.Duration
}

// verdict returns nil if every survivor's audit agrees with what each process had acknowledged.
func (s *summary) verdict() error {
	var errs []error
	for _, auditor := range s.states {
		if auditor.killed {
			continue
		}
		if auditor.audited.Error != "" {
			errs = append(errs, fmt.Errorf("%s could not read: %s", auditor.name, auditor.audited.Error))
			continue
		}
		for _, p := range s.states {
			if err := balance(p, auditor.audited.Tallies[p.name]); err != nil {
				errs = append(errs, fmt.Errorf("as %s sees it, %w", auditor.name, err))
			}
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("demo: the sum is wrong: %w", errors.Join(errs...))
	}
	return nil
}

// balance compares what the group holds for a process with what was acknowledged to it. For a survivor the two are
// equal but for commands whose outcome it did not learn. Of a killed process only its last report is known: it may
// have had more acknowledged since, never less.
func balance(p state, held int64) error {
	r := p.last
	switch {
	case held < r.Acked:
		return fmt.Errorf("%s had %d acknowledged and the group holds %d: commands were lost", p.name, r.Acked, held)
	case !p.killed && held > r.Acked+r.Unknown:
		return fmt.Errorf("%s had %d acknowledged, %d unknown, and the group holds %d: commands were applied twice", p.name, r.Acked, r.Unknown, held)
	default:
		return nil
	}
}

func (s *summary) print(out io.Writer) {
	var calls, acked, held int64
	var p50, p99, gap int64
	var tallies map[string]int64
	for _, st := range s.states {
		calls += st.last.Calls
		if !st.killed {
			p50, p99, gap = max(p50, st.last.P50), max(p99, st.last.P99), max(gap, st.last.Gap)
			tallies = st.audited.Tallies
		}
	}
	fmt.Fprintf(out, "\n%-8s %-8s %20s %20s %16s\n", "process", "", "amount acknowledged", "amount in the group", "amount unknown")
	for _, st := range s.states {
		fate := "alive"
		if st.killed {
			fate = "killed"
		}
		fmt.Fprintf(out, "%-8s %-8s %20d %20d %16d\n", st.name, fate, st.last.Acked, tallies[st.name], st.last.Unknown)
		acked += st.last.Acked
		held += tallies[st.name]
	}
	fmt.Fprintf(out, "%-8s %-8s %20d %20d\n\n", "sum", "", acked, held)
	fmt.Fprintf(out, "commands acknowledged   %d, each of which adds an amount from 1 to %d\n", calls, maxAmount)
	fmt.Fprintf(out, "latency p50 / p99       %v / %v (slowest process)\n", time.Duration(p50)*time.Microsecond, time.Duration(p99)*time.Microsecond)
	fmt.Fprintf(out, "kill to new leader      %v (all survivors agree)\n", s.takeover.Round(time.Millisecond))
	fmt.Fprintf(out, "longest pause           %v without an acknowledgement at a survivor\n", time.Duration(gap)*time.Millisecond)
	if s.verdict() == nil {
		fmt.Fprintln(out, "nothing lost, nothing doubled. (The killed process's figure is from its last report, up to 0.1 s before its death.)")
	}
}
