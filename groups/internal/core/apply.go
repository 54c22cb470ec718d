package core

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

var errChange = errors.New("core: malformed change of members in the log")

// encodeChange puts a change of members into the form that the library knows as one. Only the operation in its context
// counts.
func encodeChange(op member.Op) *raftpb.ConfChangeV2 {
	c := raftChange(op)
	c.Context = member.Encode(op)
	return c
}

// raftChange is what an operation means to the library.
func raftChange(op member.Op) *raftpb.ConfChangeV2 {
	var t raftpb.ConfChangeType
	switch op.Kind {
	case member.Add, member.Demote:
		t = raftpb.ConfChangeAddLearnerNode
	case member.Promote:
		t = raftpb.ConfChangeAddNode
	case member.Remove:
		t = raftpb.ConfChangeRemoveNode
	}
	return &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{Type: &t, NodeId: &op.Member.ID}}}
}

// changeOf reads a change of members from the log.
func changeOf(e *raftpb.Entry) (member.Op, error) {
	change := new(raftpb.ConfChangeV2)
	if err := proto.Unmarshal(e.Data, change); err != nil {
		return member.Op{}, fmt.Errorf("%w: %v", errChange, err)
	}
	op, err := member.Decode(change.Context)
	if err != nil {
		return member.Op{}, err
	}
	if !validMember(op.Member.ID) {
		return member.Op{}, errChange
	}
	return op, nil
}

// commit hands out committed entries. Everything that depends on the log alone is decided here, in log order: which
// commands count, which indices they get, who is a member. The driver only applies commands.
func (r *Replica) commit(m *raftpb.Message) {
	var out Apply
	flush := func() {
		if out.RaftIndex > 0 {
			r.due.apply = append(r.due.apply, out)
		}
		out = Apply{}
	}
	for _, e := range m.Entries {
		if e.GetTerm() != out.Term && len(out.Items) > 0 {
			r.due.apply = append(r.due.apply, out)
			out = Apply{}
		}
		out.Term = e.GetTerm()
		var err error
		switch {
		case e.GetType() == raftpb.EntryConfChangeV2:
			err = r.commitChange(e)
		case len(e.Data) == 0:
			r.emptyEntry(e.GetIndex())
		case isControl(e.Data):
			if out.Items != nil {
				flush() // what it brings may come between
				out.Term = e.GetTerm()
			}
			err = r.commitControl(e, &out)
		default:
			err = r.commitItems(e.Data, &out)
		}
		if err != nil {
			r.fatal = err
			return
		}
		if r.rn == nil {
			return // that was the end of the history
		}
		r.handed = e.GetIndex()
		out.RaftIndex = r.offset + r.handed
		if out.Mark != nil {
			r.due.apply = append(r.due.apply, out)
			out = Apply{}
		}
	}
	flush()
	r.applying = append(r.applying, m.Responses...)
}

// commitItems hands out the calls of an entry, except those that do not follow on their session's calls before: what
// comes twice counts once. In a history that is frozen none count.
func (r *Replica) commitItems(data []byte, out *Apply) error {
	var session uint64
	return eachItem(data,
		func(s uint64, calls int) {
			session = s
			out.Items = slices.Grow(out.Items, calls)
		},
		func(number uint64, count int, payload []byte) {
			if r.line.Phase != genesis.Active {
				return
			}
			if calls := r.table.Sessions.Calls(session); !r.table.Sessions.Take(session, number) {
				if !r.cfg.Flaws.ApplyAgain && (number <= calls || !r.cfg.Flaws.TakeGaps) {
					return // there already
				}
				takeAnyway(r.table.Sessions, session, number)
			}
			item := Item{First: r.index + 1, Count: count, Payload: payload}
			r.index += Index(count)
			if session == r.client.session {
				item.Call = r.client.settle(number)
				r.client.progress(r.now)
			}
			out.Items = append(out.Items, item)
		})
}

// emptyEntry is one that carries nothing: a leader's first, or a change of members that the library turned down.
func (r *Replica) emptyEntry(index uint64) {
	l := &r.leader
	if !r.isLeader() {
		return
	}
	l.plan = true
	if l.changing && index == l.changeAt {
		l.changing = false
		l.fresh = true // what the change would have done to the members was booked already
	}
}

func (r *Replica) commitChange(e *raftpb.Entry) error {
	op, err := changeOf(e)
	if err != nil {
		return err
	}
	row := r.table.Get(op.Member.ID)
	fewer := row != nil && row.Voter && (op.Kind == member.Remove || op.Kind == member.Demote)
	if r.table.Apply(op) {
		r.conf = r.rn.ApplyConfChange(raftChange(op))
		r.stirred = true
	}
	r.changed(e.GetIndex(), op)
	if op.Kind == member.Add && op.Member.ID == r.self {
		r.checkSession()
	}
	if fewer && !r.resumed {
		r.keepRecord(func() {}) // so that the commit index is synced along: a voter fewer may be one that is missed
	}
	if op.Kind == member.Remove && row != nil {
		r.removed(row)
	}
	return nil
}

// removed follows up on the end of a member.
func (r *Replica) removed(row *member.Row) {
	delete(r.tombs, row.ID)
	delete(r.leavers, row.ID)
	if p := r.peers[row.Peer]; p != nil && !p.up && !r.table.Has(row.Peer) {
		delete(r.peers, row.Peer)
	}
	switch {
	case row.ID == r.self && r.leaving.asked:
		r.leaving.done = !row.Voter || r.table.Voters() > 1 // the last voter that is left says when it will remember
	case row.ID == r.self:
		r.evicted = true
	case r.isLeader():
		r.onceKept(func() { r.send(row.Peer, &wire.Left{Genesis: r.genesis, Member: row.ID}) })
	}
}
