package core

import (
	"encoding/binary"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// These tests pin what the raft library does that this package works around. When one fails after an upgrade, the library
// has changed, and the workaround that the test names can be looked at again.

// node is a bare node of the library over its own storage.
type node struct {
	*raft.RawNode
	store *raft.MemoryStorage
}

func newNode(t *testing.T, voters ...uint64) *node {
	t.Helper()
	n := &node{store: raft.NewMemoryStorage()}
	if err := n.store.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: voters},
	}}); err != nil {
		t.Fatal(err)
	}
	return n.start(t, 1)
}

// start begins the node's life, anew if it had one.
func (n *node) start(t *testing.T, applied uint64) *node {
	t.Helper()
	rn, err := raft.NewRawNode(&raft.Config{
		ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: n.store, Applied: applied, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, Logger: raftLogger{},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.RawNode = rn
	return n
}

// ready does what the library wants, once, and returns what it said.
func (n *node) ready(t *testing.T) raft.Ready {
	t.Helper()
	rd := n.Ready()
	if rd.HardState != nil {
		if err := n.store.SetHardState(rd.HardState); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.store.Append(rd.Entries); err != nil {
		t.Fatal(err)
	}
	for _, e := range rd.CommittedEntries {
		if e.GetType() == raftpb.EntryConfChangeV2 {
			op, err := changeOf(e)
			if err != nil {
				t.Fatal(err)
			}
			n.ApplyConfChange(raftChange(op))
		}
	}
	n.Advance(rd)
	return rd
}

func (n *node) settle(t *testing.T) (out []raft.Ready) {
	for n.HasReady() {
		out = append(out, n.ready(t))
	}
	return out
}

// lead makes the node the leader of a group in which 2 votes as well.
func (n *node) lead(t *testing.T) {
	t.Helper()
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
	term := n.BasicStatus().GetTerm()
	n.from(2, raftpb.MsgPreVoteResp, term+1, nil)
	n.settle(t)
	n.from(2, raftpb.MsgVoteResp, term+1, nil)
	n.settle(t)
	if n.BasicStatus().RaftState != raft.StateLeader {
		t.Fatal("not elected")
	}
}

func (n *node) from(member uint64, typ raftpb.MessageType, term uint64, more func(*raftpb.Message)) {
	m := &raftpb.Message{Type: &typ, To: new(uint64(1)), From: &member, Term: &term}
	if more != nil {
		more(m)
	}
	_ = n.Step(m)
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// raft#105, etcd#7331: a leader that is the only voter answers ReadIndex before an entry of its term is committed, with
// an index that may lie before what was acknowledged. The engine asks only after that (ownTermCommitted).
func TestLibraryReadsBeforeOwnTerm(t *testing.T) {
	n := newNode(t, 1)
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
	if err := n.Propose([]byte("acknowledged")); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
	acknowledged := n.BasicStatus().GetCommit()
	// It comes back with its log, but its commit index was not written last.
	state, _, err := n.store.InitialState()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.store.SetHardState(&raftpb.HardState{Term: state.Term, Vote: state.Vote, Commit: new(acknowledged - 1)}); err != nil {
		t.Fatal(err)
	}
	n.start(t, 1)
	if err := n.Campaign(); err != nil {
		t.Fatal(err)
	}
	for n.BasicStatus().RaftState != raft.StateLeader {
		n.ready(t)
	}
	n.ReadIndex([]byte("read"))
	var answers []raft.ReadState
	for _, rd := range n.settle(t) {
		answers = append(answers, rd.ReadStates...)
	}
	if len(answers) != 1 || answers[0].Index >= acknowledged {
		t.Errorf("the library answers %v, and %d is acknowledged: the gate in the engine may not be needed", answers, acknowledged)
	}
}

// The leader reads eight bytes out of a heartbeat's context, whatever its length, and believes what they say about read
// rounds. The engine checks both (acceptable).
func TestLibraryPanicsOnHeartbeatContext(t *testing.T) {
	for name, context := range map[string][]byte{"too short": {1}, "too high": binary.LittleEndian.AppendUint64(nil, 99)} {
		n := newNode(t, 1, 2, 3)
		n.lead(t)
		term := n.BasicStatus().GetTerm()
		n.from(2, raftpb.MsgAppResp, term, func(m *raftpb.Message) { m.Index = new(uint64(2)) })
		n.settle(t)
		n.ReadIndex([]byte("read"))
		n.settle(t)
		if !panics(func() {
			for _, voter := range []uint64{2, 3} {
				n.from(voter, raftpb.MsgHeartbeatResp, term, func(m *raftpb.Message) { m.Context = context })
			}
		}) {
			t.Errorf("a context that is %s is survived now", name)
		}
	}
}

// etcd#12483: a member that came back empty under its old id panics on the leader's heartbeat. Ids are never reused here,
// and the engine checks the index (holds).
func TestLibraryPanicsOnCommitBeyondLog(t *testing.T) {
	n := newNode(t, 1, 2)
	if !panics(func() { n.from(2, raftpb.MsgHeartbeat, 2, func(m *raftpb.Message) { m.Commit = new(uint64(9)) }) }) {
		t.Error("a commit index beyond the log is survived now")
	}
}

// raft#354, raft#80: a change of members that comes while another is under way becomes an empty entry, and nobody is
// told. The engine has one under way at a time and recognises the empty entry by its index (emptyEntry).
func TestLibraryDropsChangesSilently(t *testing.T) {
	n := newNode(t, 1, 2)
	n.lead(t)
	propose := func(id uint64) error {
		return n.ProposeConfChange(encodeChange(adding(id)))
	}
	for _, member := range []uint64{3, 4} {
		if err := propose(member); err != nil {
			t.Errorf("the library says so now: %v", err)
		}
	}
	n.settle(t)
	last, err := n.store.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := n.store.Entries(last, last+1, 1<<20)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if entries[0].GetType() != raftpb.EntryNormal || len(entries[0].Data) > 0 {
		t.Errorf("the change became %v", entries[0])
	}
}

// While leadership is handed over the library refuses proposals, for up to an election timeout. The engine keeps the
// calls in line (proposeWaiting), and hands over only to members that answer (handOver).
func TestLibraryRefusesProposalsDuringTransfer(t *testing.T) {
	n := newNode(t, 1, 2)
	n.lead(t)
	n.TransferLeader(2)
	if err := n.Propose([]byte("x")); err != raft.ErrProposalDropped {
		t.Errorf("proposal during a transfer: %v", err)
	}
	for range 10 {
		// Only the transfer ends: the other member is heard.
		n.from(2, raftpb.MsgHeartbeatResp, n.BasicStatus().GetTerm(), nil)
		n.Tick()
	}
	if err := n.Propose([]byte("x")); err != nil {
		t.Errorf("proposal after a transfer that failed: %v", err)
	}
}
