package core

import (
	"fmt"
	"math"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

// fork begins a history with this member as its only voter and the whole log of the present one. The state machine stays
// as it is, and so do the calls under way.
func (r *Replica) fork(reason wire.Reason, round uint64, lossy bool) {
	founder := r.voter()
	founder.ID = r.newID()
	_, missing := r.majority()
	first, err := r.log.FirstIndex()
	if err != nil {
		r.fatal = fmt.Errorf("core: fork: %w", err)
		return
	}
	term, err := r.log.Term(first - 1)
	if err != nil {
		r.fatal = fmt.Errorf("core: fork: %w", err)
		return
	}
	entries, commands, err := r.inherit(first)
	if err != nil {
		r.fatal = fmt.Errorf("core: fork: %w", err)
		return
	}
	at, last, newest := first-1, first-1, r.standing(0)
	if n := len(entries); n > 0 {
		last = entries[n-1].GetIndex()
	}
	begin := &raftpb.SnapshotMetadata{Index: &at, Term: &term, ConfState: founding([]wire.Member{founder})}
	now, common := max(r.term, firstTerm), r.commits
	// What is not known to be committed may differ from what others have.
	parent, old := wire.Parent{Raft: common, Last: newest.Last, Term: newest.Term, Commands: commands, Reason: reason, Lossy: lossy}, r.genesis
	origin := r.origin.Fork(r.newGenesis(), founder, parent)
	r.self, r.genesis, r.origin = founder.ID, origin.Genesis, origin
	r.bequeath(old, begin.ConfState)
	r.addGone(wire.Gone{From: old, Into: origin.Genesis, Round: round})
	n := &News{Kind: NewsForked, From: old, Into: origin.Genesis, Commands: commands, Lossy: lossy, Reason: reasonText(reason)}
	for _, m := range missing {
		n.Lost = append(n.Lost, m.Peer)
	}
	// One batch, so that a crash leaves the one history or the other. Others hear of the new one only when it is safe, since
	// they then forget the old one.
	seq, safe, ok := r.submit(logstore.Batch{
		Begin: begin, State: &raftpb.HardState{Term: &now, Commit: &last}, Entries: entries, Record: r.record(),
	})
	if !ok {
		return
	}
	r.forked = n
	r.table = member.NewTable(origin.Founders, r.table.Sessions)
	r.persisting, r.pledges, r.applying, r.campaign = nil, nil, nil, campaigning{}
	r.lead, r.role, r.leadAt, r.soft, r.evicted = 0, 0, r.now, false, false
	r.term, r.commits = now, last
	r.leader = leading{}
	r.endFetch()
	r.snaps, r.fetch = snapshots{images: r.snaps.images, lastID: r.snaps.lastID, mark: last}, fetching{lastID: r.fetch.lastID}
	r.reads.restart()
	r.client.next, r.client.retry = 0, true
	r.run(origin, begin.ConfState)
	if r.rn == nil || r.fatal != nil {
		return
	}
	_ = r.rn.Campaign() // it fails only where there is nothing to win
	if safe {
		r.forkSafe()
	} else {
		r.pledges = append(r.pledges, pledge{seq, r.forkSafe})
	}
}

// forkSafe tells everybody of a history that was forked off.
func (r *Replica) forkSafe() {
	if r.forked != nil {
		r.due.news = append(r.due.news, *r.forked)
		r.forked = nil
		r.announce()
	}
}

// inherit returns the log as a fork takes it over: without the changes of members, and thawed. It returns the user index
// at its end too.
func (r *Replica) inherit(first uint64) ([]*raftpb.Entry, Index, error) {
	last, err := r.log.LastIndex()
	if err != nil || last < first {
		return nil, r.index, err
	}
	old, err := r.log.Entries(first, last+1, math.MaxUint64)
	if err != nil {
		return nil, 0, err
	}
	out := make([]*raftpb.Entry, len(old))
	tail := leading{line: r.line.Clone(), calls: r.table.Sessions.Clone(), end: r.index}
	for i, e := range old {
		out[i] = e
		switch {
		case e.GetType() != raftpb.EntryNormal:
			out[i] = &raftpb.Entry{Term: e.Term, Index: e.Index, Type: raftpb.EntryNormal.Enum()}
		case e.GetIndex() <= r.handed || len(e.Data) == 0:
		case isControl(e.Data):
			if err := tail.followControl(e.Data); err != nil {
				return nil, 0, err
			}
		default:
			var session uint64
			err := eachItem(e.Data, func(s uint64, _ int) { session = s }, func(number uint64, count int, _ []byte) {
				if tail.line.Phase == genesis.Active && tail.calls.Take(session, number) {
					tail.end += Index(count)
				}
			})
			if err != nil {
				return nil, 0, err
			}
		}
	}
	if tail.line.Phase == genesis.Frozen {
		thaw := genesis.Entry{Attempt: tail.line.Attempt}
		out = append(out, &raftpb.Entry{
			Term: out[len(out)-1].Term, Index: proto.Uint64(last + 1), Type: raftpb.EntryNormal.Enum(),
			Data: control(genesis.Thaw, thaw.Append(nil)),
		})
	}
	return out, tail.end, nil
}
