package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

const (
	redrawEvery = 50 * time.Millisecond // at most
	plainEvery  = time.Second           // between status lines without a terminal
)

// view shows a run: story lines with a live table below them on a terminal, plain lines elsewhere.
type view struct {
	out   io.Writer
	live  bool
	begin time.Time
	drawn time.Time // of the last table or status line
	lines int       // of the table on screen
	rows  []state
}

func newView(out io.Writer, plain bool) *view {
	f, isFile := out.(*os.File)
	return &view{out: out, live: !plain && isFile && term.IsTerminal(int(f.Fd())), begin: time.Now()}
}

// say prints a line of the story above the table.
func (v *view) say(format string, args ...any) {
	v.erase()
	fmt.Fprintf(v.out, "%6.2fs  %s\n", time.Since(v.begin).Seconds(), fmt.Sprintf(format, args...))
	v.table()
}

// draw shows the processes' states, unless they were shown a moment ago.
func (v *view) draw(all []state) {
	v.rows = all
	now := time.Now()
	if v.live {
		if now.Sub(v.drawn) >= redrawEvery {
			v.drawn = now
			v.erase()
			v.table()
		}
		return
	}
	if now.Sub(v.drawn) >= plainEvery {
		v.drawn = now
		fmt.Fprintf(v.out, "%6.2fs  %s\n", now.Sub(v.begin).Seconds(), statusLine(all))
	}
}

func (v *view) close() { v.erase() }

// erase removes the table from the screen.
func (v *view) erase() {
	if v.lines > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.lines)
		v.lines = 0
	}
}

func (v *view) table() {
	if !v.live || len(v.rows) == 0 {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n  %-6s %-8s %-12s %5s %8s %-11s %10s %10s %9s\n", "name", "pid", "peer", "sees", "members", "role", "applied", "sum", "p50")
	for _, s := range v.rows {
		r := s.last
		fmt.Fprintf(&b, "  %-6s %-8d %-12s %5d %8d %-11s %10d %10d %7dus\n", s.name, s.pid, r.Peer, r.Peers, r.Members, role(s), r.Committed, r.Total, r.P50)
	}
	v.lines = strings.Count(b.String(), "\n")
	io.WriteString(v.out, b.String())
}

func role(s state) string {
	switch {
	case s.killed:
		return "killed"
	case s.last.Peer == "":
		return "starting"
	case s.last.Leading:
		return "LEADER"
	case s.last.Online:
		return "follower"
	default:
		return "waiting"
	}
}

// statusLine puts all processes on one line: name:role:applied.
func statusLine(all []state) string {
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = fmt.Sprintf("%s %s %d", s.name, role(s), s.last.Committed)
	}
	return strings.Join(parts, " | ")
}
