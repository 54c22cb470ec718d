package core

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// slowLog is a log that is safe only when it is told to be.
type slowLog struct {
	logstore.Log
	seq  uint64
	fail error
}

func newSlowLog(t *testing.T) *slowLog {
	t.Helper()
	mem, err := logstore.Memory().Open(id.Of("log"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &slowLog{Log: mem}
}

func (l *slowLog) Submit(b logstore.Batch) (uint64, bool, error) {
	if l.fail != nil {
		return 0, false, l.fail
	}
	if _, _, err := l.Log.Submit(b); err != nil {
		return 0, false, err
	}
	l.seq++
	return l.seq, len(b.Entries) == 0 && b.Begin == nil && b.Record == nil && b.State == nil, nil
}

func durableConfig(nonce uint64) Config {
	return Config{
		Group: id.Of("group"), Self: id.PeerID{1}, BootNonce: nonce, Seed: nonce, Durable: true,
		Tick: 100 * time.Millisecond, Heartbeat: 500 * time.Millisecond, ElectionTimeout: 2 * time.Second,
		BootstrapDelay: time.Second, VolatileRemoval: 10 * time.Second, DurableRemoval: time.Minute, Patience: 10 * time.Second,
		MaxVoters: 5, MaxInflight: 4, MaxEntryBytes: 1 << 20, MaxPendingCalls: 100, MaxPendingBytes: 1 << 20, MaxUncommitted: 1 << 20,
	}
}

// spend lets time pass and returns what was applied.
func spend(r *Replica, from, to time.Duration) (applied []string) {
	var out Output
	for now := from; now <= to; now += 100 * time.Millisecond {
		r.Tick(now)
		r.Flush(now, &out)
		for _, a := range out.Apply {
			for _, it := range a.Items {
				applied = append(applied, string(it.Payload))
			}
			r.Applied(now, a.RaftIndex)
		}
	}
	return applied
}

// Nothing follows from a batch before the log says that it is safe: no leadership from a vote, no commit from an entry.
func TestNothingBeforeItIsSafe(t *testing.T) {
	t.Parallel()
	l := newSlowLog(t)
	r, err := New(durableConfig(1), l)
	if err != nil {
		t.Fatal(err)
	}
	spend(r, 0, 10*time.Second)
	if r.genesis.IsZero() || r.isLeader() {
		t.Fatalf("founded %x, leads %v, though its own vote is not safe", r.genesis, r.isLeader())
	}
	for range 3 {
		r.Persisted(10*time.Second, l.seq, nil)
		spend(r, 10*time.Second, 10*time.Second)
	}
	if !r.isLeader() || !r.online() {
		t.Fatal("does not lead with its own vote")
	}
	r.Submit(11*time.Second, &Call{Count: 1, Payload: []byte("x")})
	if applied := spend(r, 11*time.Second, 15*time.Second); len(applied) > 0 {
		t.Fatalf("applied %q before it was safe", applied)
	}
	r.Persisted(15*time.Second, l.seq-1, nil)
	if applied := spend(r, 15*time.Second, 15*time.Second); len(applied) > 0 {
		t.Fatalf("applied %q when the batch before was safe", applied)
	}
	r.Persisted(15*time.Second, l.seq, nil)
	if applied := spend(r, 15*time.Second, 15*time.Second); !slices.Equal(applied, []string{"x"}) {
		t.Fatalf("applied %q", applied)
	}
}

// A log that fails ends the engine, whether it says so at once or later.
func TestLogFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, late := range []bool{false, true} {
		l := newSlowLog(t)
		r, err := New(durableConfig(1), l)
		if err != nil {
			t.Fatal(err)
		}
		c := &Call{Count: 1, Payload: []byte("x")}
		r.Submit(0, c)
		if !late {
			l.fail = broken
		}
		spend(r, 0, 3*time.Second)
		if late {
			r.Persisted(3*time.Second, 0, broken)
		}
		var out Output
		r.Flush(4*time.Second, &out)
		if !errors.Is(r.fatal, broken) {
			t.Errorf("late %v: %v", late, r.fatal)
		}
		r.Persisted(5*time.Second, l.seq, nil)
		r.Tick(5 * time.Second)
		r.Flush(5*time.Second, &out)
		if len(out.Send)+len(out.Apply) > 0 {
			t.Errorf("late %v: it goes on", late)
		}
	}
}

// A member that resumes has the id, the term and the commands that it had.
func TestResume(t *testing.T) {
	t.Parallel()
	l := newSlowLog(t)
	r, err := New(durableConfig(1), l)
	if err != nil {
		t.Fatal(err)
	}
	safe := func(now time.Duration) (applied []string) {
		for range 5 {
			r.Persisted(now, l.seq, nil)
			applied = append(applied, spend(r, now, now)...)
		}
		return applied
	}
	spend(r, 0, 5*time.Second)
	safe(5 * time.Second)
	for _, x := range []string{"a", "b", "c"} {
		r.Submit(5*time.Second, &Call{Count: 1, Payload: []byte(x)})
	}
	spend(r, 5*time.Second, 5*time.Second)
	if applied := safe(5 * time.Second); !slices.Equal(applied, []string{"a", "b", "c"}) {
		t.Fatalf("applied %q", applied)
	}
	self, genesis, term := r.self, r.genesis, r.term

	if r, err = New(durableConfig(2), l); err != nil {
		t.Fatal(err)
	}
	if r.self != self || r.genesis != genesis || r.cfg.BootNonce != 1 || r.term != term {
		t.Errorf("resumed as %x in %x, term %d, nonce %d", r.self, r.genesis, r.term, r.cfg.BootNonce)
	}
	c := &Call{Count: 1, Payload: []byte("d")}
	r.Submit(0, c)
	applied := spend(r, 0, 0)
	applied = append(applied, safe(0)...)
	if !slices.Equal(applied, []string{"a", "b", "c", "d"}) || r.index != 4 {
		t.Errorf("applied %q, index %d", applied, r.index)
	}
	if r.term != term+1 {
		t.Errorf("term %d after %d", r.term, term)
	}
}

// A durable member that restarts sooner than the leader misses it is online again although nobody says anything in the group.
// Found by a fault run with idle groups.
func TestResumeInAnIdleGroup(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.tune = func(cfg *Config) { cfg.Durable, cfg.DurableRemoval = true, time.Minute }
	c.form("a", "b", "c")
	c.pass(10 * time.Second)
	f := c.followers()[0]
	c.crash(f, true)
	cfg := testConfig(f.peer, 99)
	c.tune(&cfg)
	n := &testNode{name: f.name, peer: f.peer, cluster: c}
	var err error
	if n.eng, err = New(cfg, f.eng.log); err != nil {
		t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	n.eng.Tick(c.now)
	n.flush()
	for _, o := range c.nodes {
		if o != n && !o.dead {
			c.bond(o, n)
		}
	}
	if !c.until(10*time.Second, func() bool { return n.status != nil && n.status.Online }) {
		t.Errorf("not online: %+v", n.status)
	}
}

// A member whose log lost the end of what it had acknowledged does not go on as if nothing had happened, and does not wait
// for a leader that cannot know better: it says so. Found by a fault run that cut a log off.
func TestLossIsNoted(t *testing.T) {
	t.Parallel()
	l := newSlowLog(t)
	r, err := New(durableConfig(1), l)
	if err != nil {
		t.Fatal(err)
	}
	spend(r, 0, 3*time.Second)
	if r, err = New(durableConfig(2), l); err != nil {
		t.Fatal(err)
	}
	leader, member := id.PeerID{2}, uint64(1<<40)
	r.PeerUp(0, leader)
	r.Receive(0, leader, &wire.Hello{Seq: 1, Genesis: r.genesis, Nonce: 7, Member: member})
	last, err := l.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	beat := func(term, commit uint64) {
		r.Receive(0, leader, &wire.Raft{Genesis: r.genesis, Msg: &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: &member, To: &r.self, Term: &term, Commit: &commit,
		}})
	}
	term := r.term
	beat(term-1, last+1) // of somebody who leads no longer
	beat(term+1, last)
	spend(r, 0, 0)
	if r.fatal != nil || r.term <= term {
		t.Fatalf("a heartbeat in term %d: term %d, %v", term+1, r.term, r.fatal)
	}
	beat(r.term, last+1)
	var out Output
	r.Flush(0, &out)
	if !errors.Is(out.Fatal, logstore.ErrCorrupt) {
		t.Errorf("it goes on with less than it had acknowledged: %v", out.Fatal)
	}
}

// A log that no engine has written is refused, not trusted.
func TestResumeRefuses(t *testing.T) {
	t.Parallel()
	written := func() *slowLog {
		l := newSlowLog(t)
		r, err := New(durableConfig(1), l)
		if err != nil {
			t.Fatal(err)
		}
		spend(r, 0, 3*time.Second)
		if len(l.Record()) <= recordHead {
			t.Fatalf("record of %d bytes", len(l.Record()))
		}
		return l
	}
	commit, zero := uint64(100), uint64(0)
	for name, spoil := range map[string]logstore.Batch{
		"a short record":             {Record: []byte{recordVersion, 0}},
		"a record without a member":  {Record: append(append(slices.Clone(written().Record()[:2]), make([]byte, 8)...), written().Record()[10:]...)},
		"a record that was cut":      {Record: written().Record()[:recordHead+5]},
		"more committed than there":  {State: &raftpb.HardState{Term: &commit, Commit: &commit}},
		"a term before the log's":    {State: &raftpb.HardState{Term: &zero, Commit: new(uint64(firstIndex))}},
		"a record without a history": {Begin: new(raftpb.SnapshotMetadata), State: new(raftpb.HardState)},
	} {
		l := written()
		if _, _, err := l.Submit(spoil); err != nil {
			t.Fatal(err)
		}
		if _, err := New(durableConfig(2), l); !errors.Is(err, logstore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := written()
	l.Submit(logstore.Batch{Record: append([]byte{recordVersion + 1}, l.Record()[1:]...)})
	if _, err := New(durableConfig(2), l); err == nil || errors.Is(err, logstore.ErrCorrupt) {
		t.Errorf("another version: %v", err)
	}
}

// A durable member that was taken out remembers that, and founds nothing in this life or the next.
func TestFormerNeverFounds(t *testing.T) {
	t.Parallel()
	l := newSlowLog(t)
	r, err := New(durableConfig(1), l)
	if err != nil {
		t.Fatal(err)
	}
	spend(r, 0, 3*time.Second)
	r.guard(r.beginAnew)
	for range 2 {
		spend(r, 3*time.Second, time.Hour/60)
		if !r.genesis.IsZero() {
			t.Fatal("founded a second history")
		}
		if r, err = New(durableConfig(2), l); err != nil {
			t.Fatal(err)
		}
	}
}
