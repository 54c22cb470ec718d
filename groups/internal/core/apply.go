package core

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// changeOf reads a change of members from the log. Leaving a joint configuration is one without operations.
func changeOf(e *raftpb.Entry) ([]member.Op, error) {
	change, err := confChange(e)
	if err != nil {
		return nil, err
	}
	return member.Decode(change.Context)
}

func confChange(e *raftpb.Entry) (*raftpb.ConfChangeV2, error) {
	change := new(raftpb.ConfChangeV2)
	if err := proto.Unmarshal(e.Data, change); err != nil {
		return nil, fmt.Errorf("core: change of members in the log: %w", err)
	}
	return change, nil
}

// commit hands out committed entries. Everything that depends on the log alone is decided here, in log order: which
// commands count, which indices they get, who is a member. The driver only applies commands.
func (r *Replica) commit(m *raftpb.Message) {
	out := Apply{}
	flush := func() {
		if len(out.Items) > 0 || out.RaftIndex > 0 {
			r.due.apply = append(r.due.apply, out)
		}
		out = Apply{}
	}
	for _, e := range m.Entries {
		if e.GetTerm() != out.Term && len(out.Items) > 0 {
			flush()
		}
		out.Term = e.GetTerm()
		switch e.GetType() {
		case raftpb.EntryNormal:
			if len(e.Data) == 0 {
				r.emptyEntry(e.GetIndex())
				break
			}
			if out.Items == nil {
				out.Items = make([]Item, 0, 16)
			}
			if err := r.commitItems(e.Data, &out); err != nil {
				r.fatal = err
				return
			}
		case raftpb.EntryConfChangeV2:
			if err := r.commitChange(e); err != nil {
				r.fatal = err
				return
			}
			if r.rn == nil {
				return
			}
		}
		r.handed = e.GetIndex()
		out.RaftIndex = r.offset + r.handed
	}
	flush()
	r.leader.tail = r.leader.end - min(r.leader.end, r.index)
	r.applying = append(r.applying, m.Responses...)
}

func (r *Replica) commitItems(data []byte, out *Apply) error {
	var row *member.Row
	return eachItem(data,
		func(who uint64) { row = r.table.Get(who) },
		func(number uint64, count int, payload []byte) {
			if row == nil || number != row.Calls+1 {
				return // of somebody who was taken out, or there already
			}
			row.Calls = number
			item := Item{First: r.index + 1, Count: count, Payload: payload}
			r.index += Index(count)
			if row.ID == r.self {
				item.Call = r.client.settle(number)
				r.client.progress(r.now)
			}
			out.Items = append(out.Items, item)
		})
}

// emptyEntry is one that carries nothing: a leader's first, or a change of members that the library turned down.
func (r *Replica) emptyEntry(index uint64) {
	l := &r.leader
	if r.isLeader() && l.changing && index == l.changeAt {
		l.changing, l.plan = false, true
		l.fresh = true // what the change would have done to the members was booked already
	}
	if r.isLeader() {
		l.plan = true
	}
}

func (r *Replica) commitChange(e *raftpb.Entry) error {
	change, err := confChange(e)
	if err != nil {
		return err
	}
	ops, err := member.Decode(change.Context)
	if err != nil {
		return err
	}
	var gone []*member.Row
	for _, op := range ops {
		if row := r.table.Get(op.Member.ID); op.Kind == member.Remove && row != nil {
			gone = append(gone, row)
		}
	}
	r.table.Apply(ops)
	r.conf = r.rn.ApplyConfChange(change)
	r.changed(e.GetIndex(), ops)
	for _, row := range gone {
		if row.ID == r.self {
			r.leaving.done = r.leaving.asked
		} else if r.isLeader() {
			r.send(row.Peer, &wire.Left{Genesis: r.genesis, Member: row.ID})
		}
	}
	return nil
}
