package core

import (
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// These tests pin what the engine relies on the library for.

// The entries of former terms are committed with the first of the leader's own term, and not by counting who has them: a
// majority that has an old entry may still lose it to a leader of a term between (figure 8 of the Raft paper). So a leader
// appends an entry as soon as it is elected.
func TestLibraryCommitsWithItsOwnTerm(t *testing.T) {
	n := newNode(t, 1, 2, 3)
	old := &raftpb.Entry{Index: new(uint64(2)), Term: new(uint64(2)), Type: new(raftpb.EntryNormal), Data: []byte("old")}
	if err := n.store.Append([]*raftpb.Entry{old}); err != nil {
		t.Fatal(err)
	}
	if err := n.store.SetHardState(&raftpb.HardState{Term: new(uint64(3)), Vote: new(uint64(3)), Commit: new(uint64(1))}); err != nil {
		t.Fatal(err)
	}
	n.start(t, 1)
	n.lead(t)
	term := n.BasicStatus().GetTerm()
	if last, err := n.store.LastIndex(); err != nil || last != 3 {
		t.Fatalf("the log ends at %d, %v, want an entry of the new term at 3", last, err)
	}
	has := func(index uint64) uint64 {
		n.from(2, raftpb.MsgAppResp, term, func(m *raftpb.Message) { m.Index = &index })
		n.settle(t)
		return n.BasicStatus().GetCommit()
	}
	if c := has(2); c != 1 {
		t.Errorf("an entry of a former term was committed by counting: commit index %d", c)
	}
	if c := has(3); c != 3 {
		t.Errorf("commit index %d after a majority has the entry of the new term", c)
	}
}

// A leader of a former term is told of the present one, so it does not go on leading those who hear it.
func TestLibraryAnswersFormerLeaders(t *testing.T) {
	for _, typ := range []raftpb.MessageType{raftpb.MsgHeartbeat, raftpb.MsgApp} {
		n := newNode(t, 1, 2, 3)
		n.from(3, raftpb.MsgHeartbeat, 7, nil)
		n.settle(t)
		n.from(2, typ, 5, nil)
		told := false
		for _, rd := range n.settle(t) {
			for _, m := range rd.Messages {
				told = told || m.GetTo() == 2 && m.GetTerm() == 7
			}
		}
		if !told {
			t.Errorf("%v of term 5 got no answer from a member in term 7", typ)
		}
	}
}

// A vote is given to whoever is at least as far, once in a term, and a refusal is an answer: nobody is left out of the count.
func TestLibraryVotesOnce(t *testing.T) {
	n := newNode(t, 1, 2, 3, 4, 5)
	vote := func(from uint64, term uint64) (granted, answered bool) {
		n.from(from, raftpb.MsgVote, term, func(m *raftpb.Message) { m.Index, m.LogTerm = new(uint64(1)), new(uint64(1)) })
		for _, rd := range n.settle(t) {
			for _, m := range rd.Messages {
				if m.GetTo() == from && m.GetType() == raftpb.MsgVoteResp {
					granted, answered = !m.GetReject(), true
				}
			}
		}
		return granted, answered
	}
	if granted, _ := vote(2, 5); !granted {
		t.Error("no vote for the first who asked")
	}
	if granted, answered := vote(3, 5); granted || !answered {
		t.Errorf("the second of one term: granted %v, answered %v", granted, answered)
	}
	// The vote is part of what is stored, so another life of the member does not give it again.
	if state, _, err := n.store.InitialState(); err != nil || state.GetVote() != 2 || state.GetTerm() != 5 {
		t.Errorf("stored %v, %v", state, err)
	}
	n.start(t, 1)
	if granted, _ := vote(3, 5); granted {
		t.Error("two votes in one term, in two lives")
	}
	if n.BasicStatus().RaftState != raft.StateFollower {
		t.Error("not a follower")
	}
}
