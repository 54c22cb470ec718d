package sim

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Bugs are put in on purpose, to see that the checks find them: some in the engine, the others around it.
type Bugs struct {
	Core core.Flaws

	DoubleApply bool // an item is applied twice now and then
	LoseApply   bool // an item is skipped now and then
	SwapApply   bool // two neighbours are applied in the wrong order now and then
	LocalRead   bool // a strong read asks nobody
	EarlyAck    bool // a call is acknowledged when it is sent now and then
	AckAppended bool // a call is acknowledged when it is in the leader's log

	VoteTwice   bool // a vote that was given away is given to the next who asks as well
	AckUnstored bool // a follower acknowledges entries that it does not have now and then
	SameID      bool // a member comes back empty under the id it had
	SafeTooSoon bool // a disk says that a write is safe before it is
	LoseSynced  bool // a disk loses writes that it said were safe

	SnapshotIndex    bool // snapshots have a user index that is one too low
	SnapshotSessions bool // snapshots do not know which calls they contain
	SnapshotVotes    bool // snapshots do not know who votes
	UncheckedState   bool // state is changed on its way, and nobody looks at its hash
	OddImages        bool // one node's images differ from the others'. This is no bug of ours and must do no harm
}

// apply is what a buggy applier makes of a run.
func (b *Bugs) apply(n *Node, items []core.Item) []core.Item {
	if !b.DoubleApply && !b.LoseApply && !b.SwapApply {
		return items
	}
	items = slices.Clone(items)
	rarely := func() bool { return n.w.Rng.IntN(50) == 0 }
	for i := 0; i < len(items); i++ {
		switch {
		case b.DoubleApply && rarely():
			again := items[i]
			again.Call = nil
			items = slices.Insert(items, i, again)
			i++
		case b.LoseApply && rarely():
			items = slices.Delete(items, i, i+1)
			i--
		case b.SwapApply && i > 0:
			items[i-1], items[i] = items[i], items[i-1]
		}
	}
	return items
}

// receive is what a buggy member makes of a message before its engine sees it; nil if the engine does not.
func (b *Bugs) receive(n, from *Node, m wire.Message) wire.Message {
	raft, ok := m.(*wire.Raft)
	if !ok {
		return m
	}
	msg := raft.Msg
	switch {
	case b.VoteTwice && msg.GetType() == raftpb.MsgVoteResp && msg.GetReject():
		yes := false
		msg.Reject = &yes
	case b.AckUnstored && msg.GetType() == raftpb.MsgApp && len(msg.Entries) > 0 && n.w.Rng.IntN(50) == 0:
		last := msg.Entries[len(msg.Entries)-1].GetIndex()
		n.post(core.Envelope{To: from.Peer, Message: &wire.Raft{Genesis: raft.Genesis, Msg: &raftpb.Message{
			Type: raftpb.MsgAppResp.Enum(), To: msg.From, From: msg.To, Term: msg.Term, Index: &last,
		}}})
		return nil
	}
	return m
}
