package host

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// lineEngine is an engine that commits what it is given, in order, as fast as gate lets it. It checks that it is never
// called concurrently.
type lineEngine struct {
	t  testing.TB
	mu sync.Mutex // taken with TryLock: contention is a fault

	// gate, if set, is asked at each Flush how many of the waiting calls may be committed.
	gate func(waiting int) int
	// before, if set, runs at the start of each Flush.
	before func(*core.Output)

	calls   []*core.Call
	reads   []*core.Read
	user    core.Index
	raft    uint64
	applied uint64
	left    bool
	stopped bool
	status  *core.Status
	got     []wire.Message
	failed  []core.Failed
	imaged  []id.ID
	fetched []error
	answers []core.Answer
}

func (e *lineEngine) enter() func() {
	if !e.mu.TryLock() {
		e.t.Error("the engine is called concurrently")
		return func() {}
	}
	return e.mu.Unlock
}

func (e *lineEngine) Tick(time.Duration)                      { defer e.enter()() }
func (e *lineEngine) Wake(time.Duration, *core.Rest)          { defer e.enter()() }
func (e *lineEngine) PeerUp(time.Duration, id.PeerID)         { defer e.enter()() }
func (e *lineEngine) PeerDown(time.Duration, id.PeerID, bool) { defer e.enter()() }
func (e *lineEngine) Listed(time.Duration, []id.PeerID)       { defer e.enter()() }
func (e *lineEngine) Receive(_ time.Duration, _ id.PeerID, m wire.Message) {
	defer e.enter()()
	e.got = append(e.got, m)
}
func (e *lineEngine) Submit(_ time.Duration, c *core.Call) {
	defer e.enter()()
	e.calls = append(e.calls, c)
}
func (e *lineEngine) Read(_ time.Duration, r *core.Read) {
	defer e.enter()()
	e.reads = append(e.reads, r)
}
func (e *lineEngine) Applied(_ time.Duration, raft uint64)   { defer e.enter()(); e.applied = raft }
func (e *lineEngine) Persisted(time.Duration, uint64, error) { defer e.enter()() }
func (e *lineEngine) Retire(time.Duration)                   { defer e.enter()(); e.left = true }
func (e *lineEngine) Imaged(_ time.Duration, mark uint64, root id.ID) {
	defer e.enter()()
	e.imaged = append(e.imaged, root)
}
func (e *lineEngine) ImageUsed(time.Duration, uint64)                   { defer e.enter()() }
func (e *lineEngine) FetchProgress(time.Duration, uint64, int64, int64) { defer e.enter()() }
func (e *lineEngine) Fetched(_ time.Duration, fetch uint64, state []byte, err error) {
	defer e.enter()()
	e.fetched = append(e.fetched, err)
}
func (e *lineEngine) Leave(time.Duration) { defer e.enter()(); e.left = true }
func (e *lineEngine) Ask(_ time.Duration, q *core.Question) {
	defer e.enter()()
	e.answers = append(e.answers, core.Answer{Question: q, Failure: "no"})
}

// Cancel knows only what has not been committed; a call counts as sent if its payload is "sent".
func (e *lineEngine) Cancel(_ time.Duration, c *core.Call) {
	defer e.enter()()
	for i, have := range e.calls {
		if have == c && string(c.Payload) != "sent" {
			e.calls = append(e.calls[:i:i], e.calls[i+1:]...)
			e.failed = append(e.failed, core.Failed{Call: c, Reason: core.FailedCancelled})
			return
		}
	}
}

func (e *lineEngine) Stop(time.Duration) {
	defer e.enter()()
	e.stopped = true
	for _, c := range e.calls {
		e.failed = append(e.failed, core.Failed{Call: c, Reason: core.FailedClosed})
	}
	e.calls = nil
}

func (e *lineEngine) Flush(_ time.Duration, out *core.Output) {
	defer e.enter()()
	*out = core.Output{Failed: e.failed, Left: e.left, Answers: e.answers}
	e.failed, e.answers = nil, nil
	if e.before != nil {
		e.before(out)
	}
	out.Status, e.status = e.status, nil
	n := len(e.calls)
	if e.gate != nil {
		n = e.gate(n)
	}
	if n > 0 {
		e.raft++
		run := core.Apply{RaftIndex: e.raft, Term: 1}
		for _, c := range e.calls[:n] {
			if c.Feed {
				out.Acked = append(out.Acked, core.Ack{Call: c, First: e.user + 1})
				run.Items = append(run.Items, core.Item{First: e.user + 1, Count: c.Count, Payload: c.Payload})
			} else {
				run.Items = append(run.Items, core.Item{First: e.user + 1, Count: c.Count, Payload: c.Payload, Call: c})
			}
			e.user += core.Index(c.Count)
		}
		e.calls = append([]*core.Call(nil), e.calls[n:]...)
		out.Apply = append(out.Apply, run)
	}
	for _, r := range e.reads {
		out.Reads = append(out.Reads, core.ReadReady{Read: r, OK: true, RaftIndex: e.raft})
	}
	e.reads = nil
}

// sumMachine adds up single-byte commands and checks that Apply is never concurrent. Its results are the sums.
type sumMachine struct {
	t    testing.TB
	busy sync.Mutex

	hook func(item core.Item) // before each item

	at    core.Item
	sum   uint64
	log   []uint64 // sender and number of each item, if payloads are 16 bytes
	reset int
}

func (m *sumMachine) Apply(items []core.Item, _ uint64) {
	if !m.busy.TryLock() {
		m.t.Error("the machine is called concurrently")
		return
	}
	defer m.busy.Unlock()
	for _, it := range items {
		m.at = it
		if m.hook != nil {
			m.hook(it)
		}
		if len(it.Payload) == 16 {
			m.log = append(m.log, binary.BigEndian.Uint64(it.Payload), binary.BigEndian.Uint64(it.Payload[8:]))
		}
		m.sum += uint64(it.Count)
		if it.Call != nil {
			*it.Call.Host.(*Call).Results.(*uint64) = m.sum
		}
	}
}

func (m *sumMachine) Blame([]core.Item) (core.Index, int, any) {
	return m.at.First, m.at.Count, m.at.Payload
}

func (m *sumMachine) Reset() { m.sum, m.log = 0, nil; m.reset++ }

// newTestGroup returns a group on the engine, with a service that has no node.
func newTestGroup(t testing.TB, e *lineEngine, m *sumMachine, cfg GroupConfig) *Group {
	t.Helper()
	e.t, m.t = t, t
	svc := &Service{
		log:       slog.New(slog.DiscardHandler),
		metrics:   testMetrics(t, nil, "test"),
		start:     time.Now().Add(-time.Second),
		groups:    make(map[id.ID]*membership),
		strangers: func() string { return "" },
		closing:   true, // so that a failed group is not withdrawn from a mesh that is not there
	}
	cfg.ID = id.Of("group")
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = 1024
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	if cfg.Engine.Patience == 0 {
		cfg.Engine.Patience = 10 * time.Second
	}
	log, err := logstore.Memory().Open(cfg.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(svc, cfg, e, m, log.Images())
	t.Cleanup(func() {
		g.stop(context.Background())
		svc.crew.close(true)
	})
	return g
}

func newTestCall(payload string) *Call {
	c := NewCall()
	c.Results = new(uint64)
	c.Count = 1
	c.Payload = []byte(payload)
	return c
}
