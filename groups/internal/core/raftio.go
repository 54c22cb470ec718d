package core

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// Settings of the raft library.
const (
	raftMessageBytes   = 1 << 20
	raftInflight       = 64
	raftInflightBytes  = 16 << 20
	raftCommittedBytes = 4 << 20
	termJumpMost       = 1 << 32 // a message further ahead is not believed
	termMost           = 1 << 62 // nor one from here on: terms are counted up one by one, and never run out
)

// start begins a history: the log stands at the founders' configuration, and everything else comes as entries.
func (r *Replica) start(o wire.Origin) {
	index, term := uint64(firstIndex), uint64(firstTerm)
	begin := &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: founding(o.Founders)}
	r.genesis, r.origin, r.former = o.Genesis, o, false
	if _, _, ok := r.submit(logstore.Batch{
		Begin: begin, State: &raftpb.HardState{Term: &term, Commit: &index}, Record: r.record(),
	}); !ok {
		return
	}
	r.table = member.NewTable(o.Founders, member.NewSessions(0))
	r.line = genesis.Line{}
	r.index, r.handed, r.applied, r.commits = 0, index, index, index
	r.term = term
	r.run(o, begin.ConfState)
}

func founding(founders []wire.Member) *raftpb.ConfState {
	s := new(raftpb.ConfState)
	for _, f := range founders {
		s.Voters = append(s.Voters, f.ID)
	}
	return s
}

// run starts the raft library on the log, from what was handed out.
func (r *Replica) run(o wire.Origin, conf *raftpb.ConfState) {
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        r.self,
		ElectionTick:              int(r.cfg.ElectionTimeout / r.cfg.Tick),
		HeartbeatTick:             int(r.cfg.Heartbeat / r.cfg.Tick),
		Storage:                   raftStorage{r.log, r, conf},
		Applied:                   r.handed,
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
	r.rn, r.genesis, r.origin, r.conf, r.entered = rn, o.Genesis, o, conf, r.now
	r.ballot, r.bound, r.try, r.recovery = genesis.Ballot{}, binding{}, nil, recovery{}
	r.tombs, r.leavers = make(map[uint64]string), make(map[uint64]bool)
	r.target, r.floor = 0, 0
	r.stirred, r.dirty = true, true
}

// step hands a message to the library. What it refuses is lost, as if the network had lost it.
func (r *Replica) step(m *raftpb.Message) {
	r.stirred = true
	_ = r.rn.Step(m)
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
		default:
			r.onOther(from, m)
		case *wire.Raft:
			r.onRaft(from, m)
		case *wire.Pulse:
			r.onPulse(from, m)
		case *wire.Pulsed:
			r.onPulsed(from, m)
		case *wire.Forward:
			r.onForward(from, m)
		case *wire.Ack:
			r.onAck(from, m)
		case *wire.Expect:
			r.onExpect(from, m)
		case *wire.Read:
			r.onRead(from, m)
		case *wire.ReadIndex:
			r.onReadIndex(m)
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
		case *wire.Fetching:
			r.onFetching(from, m)
		}
	})
}

// noteCommit remembers what the leader had committed when this member first heard of it: once that is applied here, the
// member is online. A heartbeat does not say that, since it names no more than the member is known to have. But the answer
// to it makes the leader send what is missing, so if the next heartbeat comes without anything before it, nothing was.
func (r *Replica) noteCommit(m *raftpb.Message) {
	known := m.GetFrom() == r.lead && m.GetTerm() == r.term
	switch {
	case known && r.target != 0:
		return
	case !known && m.GetType() == raftpb.MsgHeartbeat:
		r.target = 0
		return
	}
	r.target = max(m.GetCommit(), firstIndex)
	if r.floor == 0 {
		r.floor = r.target
	}
}

// drainRaft carries out what the library wants until it wants nothing more.
func (r *Replica) drainRaft() {
	for r.rn != nil && r.stirred && r.fatal == nil {
		if !r.rn.HasReady() {
			r.stirred = false
			return
		}
		rd := r.rn.Ready()
		r.noticeSoft(&rd)
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
			if r.fatal != nil || r.rn == nil {
				return
			}
		}
		if r.evicted {
			r.beginAnew()
		}
	}
}

// persist writes to the log and gives the responses that wait for it, now or when it is safe.
func (r *Replica) persist(m *raftpb.Message) {
	var b logstore.Batch
	if m.Term != nil {
		b.State = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	if m.Snapshot != nil {
		if err := r.install(m.Snapshot); err != nil {
			r.fatal = err
			return
		}
		b.Begin = m.Snapshot.GetMetadata()
	}
	b.Entries = m.Entries
	seq, safe, ok := r.submit(b)
	if !ok {
		return
	}
	if b.State != nil {
		r.commits = b.State.GetCommit()
	}
	switch n := len(r.persisting); {
	case len(m.Responses) == 0:
	case safe && n == 0:
		r.respond(m.Responses)
	case safe: // the log will say nothing of this batch, so the responses go with those before
		last := &r.persisting[n-1]
		last.responses = append(last.responses, m.Responses...)
	default:
		r.persisting = append(r.persisting, persisting{seq, m.Responses})
	}
}

// sendRaft sends a message of the library to the member it is for.
func (r *Replica) sendRaft(m *raftpb.Message) {
	if !wire.Exchanged(m.GetType()) || r.recovery.sealed(r.now) || r.cfg.Preference != Normal && m.GetType() == raftpb.MsgPreVote && r.holdBack() {
		return
	}
	to, ok := r.peerOf(m.GetTo())
	if !ok {
		return
	}
	if p := r.peers[to]; p == nil || !p.up {
		r.rn.ReportUnreachable(m.GetTo())
		if m.GetType() == raftpb.MsgSnap {
			r.snapshotFailed(m.GetTo())
		}
		r.stirred = true
		return
	}
	if !r.supersede(to, m) {
		r.send(to, &wire.Raft{Genesis: r.genesis, Msg: m})
	}
}

// holdBack reports whether a member that would rather not lead keeps its candidacy to itself for now. That goes for an
// observer as well: one that votes has saved the group, and may be the only one with the whole log.
func (r *Replica) holdBack() bool { return r.now < r.leadAt+reluctantFactor*r.cfg.ElectionTimeout }

// noticeSoft compares the library's state with what was last seen.
func (r *Replica) noticeSoft(rd *raft.Ready) {
	role, term, lead := r.role, r.term, r.lead
	if rd.SoftState != nil {
		role, lead = rd.RaftState, rd.Lead
	}
	if rd.HardState != nil {
		term = rd.GetTerm()
	}
	if role == r.role && term == r.term && lead == r.lead {
		return
	}
	wasLeader := r.role == raft.StateLeader && term == r.term
	if lead != r.lead {
		r.leadAt = r.now
	}
	if lead != r.lead || term != r.term && lead != 0 {
		r.soft = true
	}
	if wasLeader = wasLeader && role == raft.StateLeader; !wasLeader && r.role == raft.StateLeader {
		r.stepDown()
	}
	stood := role == raft.StateCandidate && (r.role != role || r.term != term)
	r.role, r.term, r.lead = role, term, lead
	if lead != 0 {
		r.campaign = campaigning{}
	}
	if stood {
		r.takeTurns(0, 2) // should the votes be split
	}
	if role == raft.StateLeader && !wasLeader {
		r.takeOver()
	}
	r.dirty = true
}

// noticeLeader has the waiting calls and reads sent again once the leader has changed.
func (r *Replica) noticeLeader() {
	if !r.soft {
		return
	}
	r.soft = false
	r.client.retry = true
	r.reads.retry = true
	r.tell = r.lead != 0
}

// tellOutsiders tells peers that may look for the leader, to join, who it is now.
func (r *Replica) tellOutsiders() {
	if !r.tell {
		return
	}
	r.tell = false
	for _, who := range r.bondedIf(r.outsider) {
		r.sendHello(who, false)
	}
}
