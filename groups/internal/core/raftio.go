package core

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// Settings of the raft library.
const (
	raftMessageBytes   = 1 << 20
	raftInflight       = 64
	raftInflightBytes  = 16 << 20
	raftCommittedBytes = 4 << 20
	termJumpMost       = 1 << 32 // a message further ahead is not believed
)

// start begins a history: the log stands at the founder's configuration, and everything else comes as entries.
func (r *Replica) start(g wire.Genesis, founder wire.Member) {
	index, term := uint64(firstIndex), uint64(firstTerm)
	begin := &raftpb.SnapshotMetadata{
		Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{founder.ID}},
	}
	if err := r.log.Reset(begin); err != nil {
		r.fatal = fmt.Errorf("core: begin a log: %w", err)
		return
	}
	if err := r.log.Append(&raftpb.HardState{Term: &term, Commit: &index}, nil); err != nil {
		r.fatal = fmt.Errorf("core: begin a log: %w", err)
		return
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        r.self,
		ElectionTick:              int(r.cfg.ElectionTimeout / r.cfg.Tick),
		HeartbeatTick:             int(r.cfg.Heartbeat / r.cfg.Tick),
		Storage:                   r.log,
		Applied:                   index,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             raftMessageBytes,
		MaxCommittedSizePerReady:  raftCommittedBytes,
		MaxUncommittedEntriesSize: r.cfg.MaxUncommitted,
		MaxInflightMsgs:           raftInflight,
		MaxInflightBytes:          raftInflightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		StepDownOnRemoval:         true,
		DisableProposalForwarding: true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{r.cfg.Log},
	})
	if err != nil {
		r.fatal = fmt.Errorf("core: start raft: %w", err)
		return
	}
	r.rn, r.genesis, r.founder = rn, g, founder
	r.table = member.NewTable(founder)
	r.conf = begin.ConfState
	r.index, r.handed, r.applied = 0, index, index
	r.target = 0
	r.dirty = true
	r.noticeSoft(rn.BasicStatus())
}

// Receive takes in a message from a bonded peer.
func (r *Replica) Receive(now time.Duration, from id.PeerID, m wire.Message) {
	r.at(now)
	p := r.peers[from]
	if p == nil || !p.up || r.ended || r.fatal != nil {
		return
	}
	p.seen = r.now
	r.guard(func() {
		switch m := m.(type) {
		case *wire.Raft:
			r.onRaft(from, m)
		case *wire.Forward:
			r.onForward(from, m)
		case *wire.Ack:
			r.onAck(from, m)
		case *wire.Expect:
			r.onExpect(from, m)
		case *wire.Read:
			r.onRead(from, m)
		case *wire.ReadIndex:
			r.onReadIndex(from, m)
		case *wire.Hello:
			r.onHello(from, m)
		case *wire.Join:
			r.onJoin(from, m)
		case *wire.Accept:
			r.onAccept(from, m)
		case *wire.Removed:
			r.onRemoved(from, m)
		case *wire.Leave:
			r.onLeave(from, m)
		case *wire.Left:
			r.onLeft(from, m)
		}
	})
}

// onRaft checks a message of the library and hands it over. The library trusts its peers and panics on messages that
// cannot be; what is refused here is what it would not survive.
func (r *Replica) onRaft(from id.PeerID, m *wire.Raft) {
	msg := m.Msg
	if r.rn == nil || m.Genesis != r.genesis || msg.GetTo() != r.self {
		return
	}
	sender := msg.GetFrom()
	if sender == 0 || sender == r.self {
		return
	}
	if row := r.table.Get(sender); row != nil {
		if row.Peer != from {
			return // somebody speaks for another member
		}
	} else {
		if r.table.WasRemoved(sender) {
			r.send(from, &wire.Removed{Genesis: r.genesis, Member: sender})
			return
		}
		if p, ok := r.routes[sender]; ok && p != from || len(r.routes) >= routesMost && !ok {
			return
		}
		r.routes[sender] = from
	}
	if msg.GetTerm() > r.term+termJumpMost || msg.GetTerm() == 0 {
		return
	}
	if r.acceptable(msg) {
		if msg.GetType() == raftpb.MsgApp && msg.GetTerm() >= r.term {
			r.noteCommit(msg)
		}
		r.rn.Step(msg)
	}
}

// routesMost bounds the members remembered that are not in the table yet.
const routesMost = 64

// acceptable reports whether the library can take the message.
func (r *Replica) acceptable(m *raftpb.Message) bool {
	last, _ := r.log.LastIndex()
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		if m.GetCommit() > last {
			r.drainRaft() // what came just before may not be in the log yet
			last, _ = r.log.LastIndex()
		}
		return m.GetCommit() <= last && contextOK(m.Context)
	case raftpb.MsgHeartbeatResp:
		// The context acknowledges a number of read rounds; there were no more than were started.
		return contextOK(m.Context) && contextValue(m.Context) <= r.reads.rounds
	case raftpb.MsgAppResp:
		return m.GetIndex() <= last && m.GetRejectHint() <= m.GetIndex()
	case raftpb.MsgApp:
		return r.entriesOK(m)
	default:
		return len(m.Entries) == 0
	}
}

// entriesOK reports whether an append is well-formed and leaves what is committed alone.
func (r *Replica) entriesOK(m *raftpb.Message) bool {
	committed := r.rn.BasicStatus().GetCommit()
	prev := m.GetLogTerm()
	for _, e := range m.Entries {
		if e.GetTerm() < prev || e.GetTerm() > m.GetTerm() {
			return false
		}
		prev = e.GetTerm()
		if e.GetIndex() <= committed {
			if have, err := r.log.Term(e.GetIndex()); err == nil && have != e.GetTerm() {
				return false
			}
		}
	}
	return true
}

// A heartbeat's context is the library's count of read rounds.
func contextOK(c []byte) bool { return len(c) == 0 || len(c) == 8 }

func contextValue(c []byte) uint64 {
	v := uint64(0)
	for i := len(c) - 1; i >= 0; i-- {
		v = v<<8 | uint64(c[i])
	}
	return v
}

// noteCommit remembers what the leader had committed when this member first heard of it: once that is applied here, the
// member is online.
func (r *Replica) noteCommit(m *raftpb.Message) {
	if m.GetFrom() != r.lead || m.GetTerm() != r.term || r.target == 0 {
		r.target = max(m.GetCommit(), firstIndex)
	}
}

// drainRaft carries out what the library wants until it wants nothing more.
func (r *Replica) drainRaft() {
	if r.rn == nil {
		return
	}
	for r.rn != nil && r.rn.HasReady() {
		rd := r.rn.Ready()
		r.noticeSoft(r.rn.BasicStatus())
		for _, s := range rd.ReadStates {
			r.onReadState(s)
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				r.persist(m)
			case raft.LocalApplyThread:
				r.commit(m)
			default:
				r.sendRaft(m)
			}
			if r.fatal != nil {
				return
			}
		}
	}
}

// persist writes to the log and gives the responses that wait for it.
func (r *Replica) persist(m *raftpb.Message) {
	var state *raftpb.HardState
	if m.Term != nil {
		state = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	if m.Snapshot != nil {
		r.fatal = fmt.Errorf("core: a snapshot without content")
		return
	}
	if err := r.log.Append(state, m.Entries); err != nil {
		r.fatal = fmt.Errorf("core: write the log: %w", err)
		return
	}
	for _, resp := range m.Responses {
		if resp.GetTo() == r.self {
			r.rn.Step(resp)
		} else {
			r.sendRaft(resp)
		}
	}
}

// sendRaft sends a message of the library to the member it is for.
func (r *Replica) sendRaft(m *raftpb.Message) {
	if r.cfg.Preference != Normal && m.GetType() == raftpb.MsgPreVote && r.holdBack() {
		return
	}
	to, ok := r.peerOf(m.GetTo())
	if !ok {
		return
	}
	if p := r.peers[to]; p == nil || !p.up {
		r.rn.ReportUnreachable(m.GetTo())
		return
	}
	r.send(to, &wire.Raft{Genesis: r.genesis, Msg: m})
}

// holdBack reports whether a member that would rather not lead keeps its candidacy to itself for now.
func (r *Replica) holdBack() bool {
	return r.cfg.Preference == Observer || r.now < r.leadAt+reluctantFactor*r.cfg.ElectionTimeout
}

// noticeSoft compares the library's state with what was last seen.
func (r *Replica) noticeSoft(st raft.BasicStatus) {
	role, term, lead := st.RaftState, st.GetTerm(), st.Lead
	if role == r.role && term == r.term && lead == r.lead {
		return
	}
	wasLeader, hadLead := r.role == raft.StateLeader, r.lead
	r.role, r.term = role, term
	if lead != hadLead {
		r.lead, r.leadAt = lead, r.now
		r.soft = true
	}
	if lead != 0 {
		r.campaignAt = 0
	}
	switch isLeader := role == raft.StateLeader; {
	case isLeader && !wasLeader:
		r.takeOver()
	case !isLeader && wasLeader:
		r.stepDown()
	}
	r.dirty = true
}

// noticeLeader tells others and the waiting calls once the leader has changed.
func (r *Replica) noticeLeader() {
	if !r.soft {
		return
	}
	r.soft = false
	r.client.retry = true
	r.reads.retry = true
	if r.lead != 0 {
		h := r.hello()
		for _, who := range r.bonded() {
			if p := r.peers[who]; p.hello == nil || p.hello.Genesis != r.genesis {
				r.send(who, h)
			}
		}
	}
}

// raftLogger gives the library's lines to ours, without its habit of panicking through the logger.
type raftLogger struct{ to RaftLogger }

func (l raftLogger) Debug(v ...any) { l.Debugf("%s", fmt.Sprint(v...)) }
func (l raftLogger) Debugf(f string, v ...any) {
	if l.to != nil {
		l.to.Debugf(f, v...)
	}
}
func (l raftLogger) Info(v ...any) { l.Infof("%s", fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any) {
	if l.to != nil {
		l.to.Infof(f, v...)
	}
}
func (l raftLogger) Warning(v ...any) { l.Warningf("%s", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) {
	if l.to != nil {
		l.to.Warningf(f, v...)
	}
}
func (l raftLogger) Error(v ...any) { l.Errorf("%s", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any) {
	if l.to != nil {
		l.to.Errorf(f, v...)
	}
}

// The library calls these when an invariant is broken; the engine's guard catches the panic.
func (l raftLogger) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
