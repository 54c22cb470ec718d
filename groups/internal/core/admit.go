package core

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// onRaft checks a message of the library and hands it over. The library trusts its peers and panics on messages that
// cannot be; what is refused here is what it would not survive.
func (r *Replica) onRaft(from id.PeerID, m *wire.Raft) {
	msg := m.Msg
	if r.rn == nil || m.Genesis != r.genesis || msg.GetTo() != r.self || r.recovery.sealed(r.now) {
		return
	}
	sender := msg.GetFrom()
	if row := r.table.Get(sender); row != nil {
		if row.Peer != from || sender == r.self {
			return // somebody speaks for another member
		}
	} else {
		if r.table.WasRemoved(sender) {
			r.sayRemoved(from, sender)
			return
		}
		// This member may not have come to the entry that takes the sender in. It is believed what it says of itself.
		if h := r.peers[from].hello; h == nil || h.Genesis != r.genesis || h.Member != sender || !validMember(sender) {
			return
		}
	}
	if msg.GetTerm() > r.term+termJumpMost || msg.GetTerm() == 0 || msg.GetTerm() > termMost {
		return
	}
	if sender == r.lead {
		r.heardLead = r.now
	}
	if !r.acceptable(msg) {
		return
	}
	if t := msg.GetType(); (t == raftpb.MsgApp || t == raftpb.MsgHeartbeat) && msg.GetTerm() >= r.term {
		r.noteCommit(msg)
	}
	r.step(msg)
}

// acceptable reports whether the library can take the message.
func (r *Replica) acceptable(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgApp:
		return r.entriesOK(m)
	case raftpb.MsgSnap:
		return len(m.Entries) == 0 && r.onSnapshot(m)
	case raftpb.MsgHeartbeat:
		if len(m.Entries) > 0 || !contextOK(m.Context) {
			return false
		}
		if r.holds(m.GetCommit()) {
			return true
		}
		r.noteLoss(m)
		return false
	case raftpb.MsgHeartbeatResp:
		// The context acknowledges a number of read rounds; there were no more than were started.
		return len(m.Entries) == 0 && contextOK(m.Context) && contextValue(m.Context) <= r.reads.rounds
	case raftpb.MsgAppResp:
		if m.GetReject() && (m.GetRejectHint() < firstIndex || m.GetRejectHint() > m.GetIndex()) {
			return false // all logs agree on where they begin
		}
		return len(m.Entries) == 0 && r.holds(m.GetIndex())
	default:
		return len(m.Entries) == 0
	}
}

// holds reports whether the log reaches the index.
func (r *Replica) holds(index uint64) bool {
	last, err := r.log.LastIndex()
	if index > last && r.stirred {
		r.drainRaft() // what came just before may not be in the log yet
		last, err = r.log.LastIndex()
	}
	return err == nil && index <= last && r.rn != nil && r.fatal == nil
}

// noteLoss ends a durable member whose leader says that it had acknowledged more than its log holds:
// the end of what was synced is gone. Nothing that such a member says of itself can be counted on, and the leader would
// wait forever for it to hold what it had acknowledged.
func (r *Replica) noteLoss(m *raftpb.Message) {
	last, err := r.log.LastIndex()
	if err != nil || r.rn == nil || r.fatal != nil || !r.cfg.Durable || m.GetTerm() < r.term {
		return
	}
	r.fatal = fmt.Errorf("core: this member had acknowledged entries up to %d, and its log ends at %d: %w", m.GetCommit(), last, logstore.ErrCorrupt)
	r.dirty = true
}

// entriesOK reports whether an append is well-formed and leaves what is committed alone.
func (r *Replica) entriesOK(m *raftpb.Message) bool {
	prev := m.GetLogTerm()
	if prev > m.GetTerm() {
		return false
	}
	for i, e := range m.Entries {
		if e.GetTerm() < prev || e.GetTerm() > m.GetTerm() || e.GetIndex() != m.GetIndex()+1+uint64(i) || !entryOK(e) {
			return false
		}
		prev = e.GetTerm()
		if e.GetIndex() <= r.commits {
			if have, err := r.log.Term(e.GetIndex()); err == nil && have != e.GetTerm() {
				return false
			}
		}
	}
	return true
}

// entryOK reports whether an entry can be read. One that cannot would end every member that applies it, so it must not
// come to be committed.
func entryOK(e *raftpb.Entry) bool {
	switch e.GetType() {
	case raftpb.EntryNormal:
		if isControl(e.Data) {
			return controlOK(e.Data)
		}
		return eachItem(e.Data, func(uint64, int) {}, func(uint64, int, []byte) {}) == nil
	case raftpb.EntryConfChangeV2:
		_, err := changeOf(e)
		return err == nil
	default:
		return false
	}
}

// A heartbeat's context is the library's count of read rounds.
func contextOK(c []byte) bool { return len(c) == 0 || len(c) == 8 }

func contextValue(c []byte) uint64 {
	if len(c) == 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(c)
}
