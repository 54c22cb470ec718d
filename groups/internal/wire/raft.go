package wire

import (
	"encoding/binary"
	"math"

	"go.etcd.io/raft/v3/raftpb"
)

// The library's messages have a protobuf encoding of their own. This one is smaller and decodes into a few blocks of
// memory instead of one piece for each field; messages that members never exchange have no place in it.

// Bits of a raft message's flags.
const (
	flagReject byte = 1 << iota
	flagEntries
	flagContext
	flagSnapshot
)

func appendRaft(b []byte, m *raftpb.Message) []byte {
	var flags byte
	if m.GetReject() {
		flags |= flagReject
	}
	if len(m.Entries) > 0 {
		flags |= flagEntries
	}
	if len(m.Context) > 0 {
		flags |= flagContext
	}
	if m.Snapshot != nil {
		flags |= flagSnapshot
	}
	b = append(b, byte(m.GetType()), flags)
	b = binary.AppendUvarint(b, m.GetTo())
	b = binary.AppendUvarint(b, m.GetFrom())
	b = binary.AppendUvarint(b, m.GetTerm())
	b = binary.AppendUvarint(b, m.GetLogTerm())
	b = binary.AppendUvarint(b, m.GetIndex())
	b = binary.AppendUvarint(b, m.GetCommit())
	if flags&flagReject != 0 {
		b = binary.AppendUvarint(b, m.GetRejectHint())
	}
	if flags&flagContext != 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Context)))
		b = append(b, m.Context...)
	}
	if flags&flagEntries != 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Entries)))
		for _, e := range m.Entries {
			b = append(b, byte(e.GetType()))
			b = binary.AppendUvarint(b, e.GetTerm())
			b = binary.AppendUvarint(b, uint64(len(e.Data)))
			b = append(b, e.Data...)
		}
	}
	if flags&flagSnapshot != 0 {
		b = appendSnapshot(b, m.Snapshot)
	}
	return b
}

// Exchanged says which types of raft messages members exchange. Everything else is local to a node, or is not used
// here: proposals and reads travel in messages of our own.
func Exchanged(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow, raftpb.MsgSnap:
		return true
	default:
		return false
	}
}

// rafted is a message together with what its pointers point to.
type rafted struct {
	out                                          Raft
	msg                                          raftpb.Message
	typ                                          raftpb.MessageType
	to, from, term, logTerm, index, commit, hint uint64
	reject                                       bool
}

type entried struct {
	entry       raftpb.Entry
	typ         raftpb.EntryType
	term, index uint64
}

// entryOne is the one entry of a message, which most that have any have.
type entryOne struct {
	entry [1]entried
	list  [1]*raftpb.Entry
}

// entryMin is the least that an encoded entry takes, and entriesMost how many entries a message may hold. Entries with
// commands take some twenty bytes at least, so this is more than the library puts into one of its messages (one MiB).
const (
	entryMin    = 3
	entriesMost = 1 << 16
)

func (r *reader) raft() *Raft {
	x := new(rafted)
	x.out.Genesis, x.out.Msg = r.genesis(), &x.msg
	x.typ = raftpb.MessageType(r.byte())
	flags := r.byte()
	if !Exchanged(x.typ) || flags >= flagSnapshot<<1 || (x.typ == raftpb.MsgSnap) != (flags&flagSnapshot != 0) {
		r.bad = true
		return &x.out
	}
	x.to, x.from, x.term = r.uint(), r.uint(), r.uint()
	x.logTerm, x.index, x.commit = r.uint(), r.uint(), r.uint()
	m := &x.msg
	m.Type, m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit = &x.typ, &x.to, &x.from, &x.term, &x.logTerm, &x.index, &x.commit
	if flags&flagReject != 0 {
		x.reject, x.hint = true, r.uint()
		m.Reject, m.RejectHint = &x.reject, &x.hint
	}
	if flags&flagContext != 0 {
		m.Context = append([]byte(nil), r.bytes()...)
		r.bad = r.bad || len(m.Context) == 0
	}
	if flags&flagEntries != 0 {
		r.own()
		n := r.count(entryMin)
		if n == 0 || n > entriesMost || x.index > math.MaxUint64-uint64(n) {
			r.bad = true
			return &x.out
		}
		var block []entried
		if n == 1 {
			one := new(entryOne)
			block, m.Entries = one.entry[:], one.list[:]
		} else {
			block, m.Entries = make([]entried, n), make([]*raftpb.Entry, n)
		}
		for i := range block {
			e := &block[i]
			e.typ = raftpb.EntryType(r.byte())
			e.term, e.index = r.uint(), x.index+1+uint64(i)
			e.entry.Data = r.bytes()
			e.entry.Type, e.entry.Term, e.entry.Index = &e.typ, &e.term, &e.index
			if e.typ != raftpb.EntryNormal && e.typ != raftpb.EntryConfChangeV2 {
				r.bad = true
			}
			m.Entries[i] = &e.entry
		}
	}
	if flags&flagSnapshot != 0 {
		m.Snapshot = r.snapshot()
	}
	return &x.out
}
