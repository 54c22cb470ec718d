package genesis

import (
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Times of merging.
const (
	resendEvery = 250 * time.Millisecond
	stuckAfter  = 2 * time.Second // an attempt without progress is given up; longer after every one that was
	stuckMost   = 16 * time.Second
	holdFirst   = 500 * time.Millisecond
	holdMost    = 8 * time.Second
)

// Rival is another history that the leader can talk to.
type Rival struct {
	Key    Key
	Frozen bool
	Fixed  bool // the own history is, as far as this one goes
}

// View is what the leader of a history knows when it decides.
type View struct {
	Now    time.Duration
	Line   *Line // as of what is committed
	Busy   bool  // an entry about merging is in the log and not committed
	Own    Key   // Fixed is that of each Rival
	Rivals []Rival
	Random func(n int64) int64 // below n
}

// Step is what the leader should do next.
type Step uint8

const (
	Nothing     Step = iota
	DoFreeze         // propose a Freeze for Target
	DoThaw           // propose a Thaw
	DoDissolve       // propose a Dissolve
	AskAbsorb        // ask Target to absorb this history
	AskBook          // ask Target to book it
	SendPending      // propose the calls from At on to Target
)

// Action is a step with what it needs.
type Action struct {
	Step    Step
	Target  ID
	Attempt uint64
	At      uint64
}

type stage uint8

const (
	asking stage = iota
	sending
	booking
	dissolving
)

// Merger is what the leader of a history that gives way remembers. A new leader starts with a zero Merger, asks again,
// and loses nothing but time.
type Merger struct {
	attempt uint64 // that the rest is about
	stage   stage
	target  ID
	moved   time.Duration // last progress
	sent    time.Duration
	asked   bool // sent counts
	at      uint64
	thaw    bool // give up the attempt
	tries   int  // attempts in a row that were given up
	hold    time.Duration
	done    map[ID]uint64 // how many calls each target is known to have, which outlives attempts
}

// Target returns the history that v's should give way to, if there is one.
func (v *View) Target() (Rival, bool) {
	var best Rival
	found := false
	for _, r := range v.Rivals {
		own := v.Own
		own.Fixed = r.Fixed
		if r.Key.ID != v.Own.ID && r.Key.Beats(own) && (!found || r.Key.Beats(best.Key)) {
			best, found = r, true
		}
	}
	return best, found
}

// Next returns what to do now.
func (m *Merger) Next(v *View) Action {
	if v.Line.Phase == Active {
		return m.whileActive(v)
	}
	if v.Line.Phase == Dissolved || v.Busy {
		return Action{}
	}
	l := v.Line
	if m.attempt != l.Attempt || m.target != l.Into {
		m.begin(l.Attempt, l.Into, v.Now)
	}
	act := Action{Target: l.Into, Attempt: l.Attempt}
	if m.thaw || v.Now-m.moved >= min(stuckAfter<<min(m.tries, 8), stuckMost) {
		m.thaw = true
		act.Step = DoThaw
		return act
	}
	if m.stage == dissolving {
		act.Step = DoDissolve
		return act
	}
	if m.asked && v.Now-m.sent < resendEvery {
		return Action{}
	}
	m.asked, m.sent = true, v.Now
	switch m.stage {
	case asking:
		act.Step = AskAbsorb
	case sending:
		act.Step, act.At = SendPending, m.at
	case booking:
		act.Step = AskBook
	}
	return act
}

func (m *Merger) whileActive(v *View) Action {
	if m.thaw { // it has thawed
		m.thaw = false
		m.tries++
		hold := min(holdFirst<<min(m.tries-1, 8), holdMost)
		m.hold = v.Now + hold/2 + time.Duration(v.Random(int64(hold)))
	}
	if v.Busy || v.Now < m.hold {
		return Action{}
	}
	best, ok := v.Target()
	if !ok || best.Frozen {
		return Action{}
	}
	return Action{Step: DoFreeze, Target: best.Key.ID, Attempt: v.Line.Attempt + 1}
}

func (m *Merger) begin(attempt uint64, target ID, now time.Duration) {
	m.attempt, m.target, m.stage = attempt, target, asking
	m.moved, m.asked, m.thaw = now, false, false
}

// progress goes to a stage, or further in one.
func (m *Merger) progress(now time.Duration, s stage) {
	m.stage, m.moved, m.asked = s, now, false
}

// current reports whether an answer is about the attempt under way.
func (m *Merger) current(of ID, attempt uint64, l *Line) bool {
	return l.Phase == Frozen && of == l.Into && attempt == l.Attempt && attempt == m.attempt && of == m.target && !m.thaw
}

// Verdict takes in an answer to AskAbsorb or AskBook.
func (m *Merger) Verdict(now time.Duration, l *Line, own ID, x *wire.Verdict) {
	if !m.current(x.Of, x.Attempt, l) {
		return
	}
	switch x.Verdict {
	case wire.Granted:
		if m.stage == asking {
			m.at = m.done[x.Of]
			m.progress(now, sending)
		}
	case wire.Booked:
		if m.stage == booking {
			m.progress(now, dissolving)
		}
	case wire.Busy:
		mine := l.Key
		mine.ID = own
		if mine.Beats(Key{Forced: x.Forced, Commands: x.Commands, ID: x.Of}) {
			m.thaw = true
		}
	case wire.Moved:
		m.thaw = true
	}
}

// Sent takes in that the target has committed the calls before at; last says that there are no more.
func (m *Merger) Sent(now time.Duration, l *Line, of ID, attempt, at uint64, last bool) {
	if !m.current(of, attempt, l) || m.stage != sending || at < m.at {
		return
	}
	if m.done == nil {
		m.done = make(map[ID]uint64)
	}
	m.at, m.done[of] = at, at
	if last {
		m.progress(now, booking)
	} else {
		m.progress(now, sending)
	}
}

// GiveUp ends the attempt under way.
func (m *Merger) GiveUp() { m.thaw = true }

// Answer returns what a history says to one that asks to be absorbed, given its log as of what is committed: a verdict,
// or an entry that must be committed first, or neither, for a request that is out of date.
func Answer(l *Line, own ID, x *wire.Absorb) (*wire.Verdict, *Entry) {
	v := &wire.Verdict{Genesis: x.From, Of: own, Attempt: x.Attempt}
	switch {
	case l.Phase == Dissolved:
		v.Verdict, v.Into, v.Lost = wire.Moved, l.Into, l.Key.Fixed
	case l.Phase == Frozen:
		v.Verdict, v.Forced, v.Commands = wire.Busy, l.Key.Forced, l.Key.Commands
	case x.Attempt < l.Grant(x.From):
		return nil, nil
	case x.Attempt > l.Grant(x.From):
		if x.Done {
			return nil, nil
		}
		return nil, &Entry{Kind: Absorb, Other: x.From, Attempt: x.Attempt}
	case !x.Done:
		v.Verdict = wire.Granted
	case !l.Booked(x.From, x.Attempt):
		return nil, &Entry{Kind: Absorb, Other: x.From, Attempt: x.Attempt, Booked: true, Commands: x.Commands, Lost: x.Lost}
	default:
		v.Verdict = wire.Booked
	}
	return v, nil
}
