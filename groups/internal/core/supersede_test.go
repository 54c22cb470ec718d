package core

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Under load a leader tells of a commit together with the next entry, and a follower acknowledges both at once: four
// messages for an entry and not eight.
func TestMessagesUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.tune = func(cfg *Config) { cfg.MaxInflight = 1 }
	c.form("a", "b", "c")
	l := c.leader()
	l.eng.Submit(c.now, &Call{Count: 1, Payload: []byte("first"), Host: "first"})
	l.flush()
	sent := make(map[raftpb.MessageType]int)
	c.watch = func(m wire.Message) {
		if x, is := m.(*wire.Raft); is {
			sent[x.Msg.GetType()]++
		}
	}
	const calls = 100
	for range calls { // each waits for the one before to be committed
		l.eng.Submit(c.now, &Call{Count: 1, Payload: []byte("x"), Host: "x"})
		c.round()
		c.round()
	}
	for len(c.queue) > 0 {
		c.round()
	}
	if len(l.log) != calls+1 || len(c.followers()[1].log) != calls+1 {
		t.Fatalf("%d and %d calls are applied", len(l.log), len(c.followers()[1].log))
	}
	if apps, acks := sent[raftpb.MsgApp], sent[raftpb.MsgAppResp]; apps > 2*calls+4 || acks > 2*calls+4 {
		t.Errorf("%d appends and %d acknowledgements for %d entries and two followers", apps, acks, calls)
	}
}

// Which message may take the place of which.
func TestIncludes(t *testing.T) {
	t.Parallel()
	type m = raftpb.Message
	app := func(index, commit uint64, entries int) *m {
		x := &m{Type: raftpb.MsgApp.Enum(), To: new(uint64(1)), From: new(uint64(2)), Term: new(uint64(3)), LogTerm: new(uint64(3)), Index: &index, Commit: &commit}
		for range entries {
			x.Entries = append(x.Entries, new(raftpb.Entry))
		}
		return x
	}
	ack := func(index, term uint64, reject bool) *m {
		return &m{Type: raftpb.MsgAppResp.Enum(), To: new(uint64(1)), From: new(uint64(2)), Term: &term, Index: &index, Reject: &reject}
	}
	other := app(5, 5, 0)
	other.To = new(uint64(9))
	for name, x := range map[string]struct {
		later, earlier *m
		want           bool
	}{
		"entries after a commit":          {app(5, 5, 1), app(5, 5, 0), true},
		"a later commit after a commit":   {app(5, 5, 0), app(5, 4, 0), true},
		"entries after entries":           {app(6, 5, 1), app(5, 5, 1), false},
		"a commit after entries":          {app(6, 6, 0), app(5, 5, 1), false},
		"an earlier commit":               {app(5, 4, 1), app(5, 5, 0), false},
		"another position":                {app(4, 5, 2), app(5, 5, 0), false},
		"another receiver":                {app(5, 5, 1), other, false},
		"an acknowledgement of more":      {ack(7, 3, false), ack(5, 3, false), true},
		"an acknowledgement of the same":  {ack(5, 3, false), ack(5, 3, false), true},
		"an acknowledgement of less":      {ack(4, 3, false), ack(5, 3, false), false},
		"an acknowledgement of a term on": {ack(7, 4, false), ack(5, 3, false), false},
		"a refusal":                       {ack(7, 3, true), ack(5, 3, false), false},
		"after a refusal":                 {ack(7, 3, false), ack(5, 3, true), false},
		"another type":                    {ack(7, 3, false), app(5, 5, 0), false},
	} {
		if got := includes(x.later, x.earlier); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
