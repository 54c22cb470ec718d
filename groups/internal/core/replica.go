package core

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// Times of the engine that nobody needs to choose.
const (
	helloEvery      = 500 * time.Millisecond // to peers that have not heard the latest, and join requests
	planEvery       = 200 * time.Millisecond // the leader looks at the members while something may be due
	expelledFor     = time.Second            // a leader heeds the wish that a peer is taken out
	planCalm        = 1 * time.Second        // and while nothing is
	foundStep       = 500 * time.Millisecond // a founder of the next rank waits this much longer
	campaignSteps   = 10                     // turns that fit into an election timeout, see takeTurns
	leaveEvery      = 300 * time.Millisecond // leave requests
	leaveGiveUp     = 3 * time.Second
	leaveDrain      = 1 * time.Second        // own calls under way are waited for before a departure
	resendFirst     = 250 * time.Millisecond // calls without progress
	resendMost      = 2 * time.Second
	silentLately    = 60 * time.Second // a peer that was taken out for its silence is on probation for this long:
	stableFor       = 5 * time.Second  // it becomes a voter again only after this long a bond
	silentBeats     = 3                // heartbeats without an answer after which a member is not healthy
	firstIndex      = 1                // raft index at which a history begins
	firstTerm       = 1
	reluctantFactor = 3
)

// Replica is one group's engine on one node. See [Engine].
type Replica struct {
	cfg Config
	log logstore.Log
	rng *rand.Rand

	now   time.Duration
	born  time.Duration // first event
	begun bool
	ended bool // Stop was called, or the engine gave up
	fatal error
	due   queued // what the next Flush hands out

	peers   map[id.PeerID]*peer
	listed  []id.PeerID
	version uint64 // of this member's hello

	// The history that this member is part of; zero while blank.
	genesis wire.Genesis
	origin  wire.Origin
	entered time.Duration // when this member began in it
	line    genesis.Line  // as of what was handed out
	self    uint64        // member id; while blank, the one to join with
	table   *member.Table
	tombs   map[uint64]string // members of this history that will never act again, and how that is known
	leavers map[uint64]bool   // members that said that they go
	former  bool              // this engine was part of a history that took it out
	evicted bool              // that was just found in the log
	rn      *raft.RawNode
	stirred bool // rn may have something to say

	role       raft.StateType
	term       uint64
	lead       uint64       // member id, zero if unknown
	home       wire.Genesis // that the last history became part of, while this member is in none
	leadAt     time.Duration
	heardLead  time.Duration     // last message from the leader
	soft       bool              // the leader, or its term, changed and that was not followed up
	tell       bool              // nor were the peers outside told
	index      Index             // user index handed out for applying
	handed     uint64            // raft index handed out for applying
	commits    uint64            // raft index that the library knows to be committed
	applied    uint64            // raft index that the driver has applied
	offset     uint64            // added to raft indices that the driver sees, so that they never repeat in another history
	persisting []persisting      // responses to give once the log is safe, oldest first
	pledges    []pledge          // what waits for the record to be safe, oldest first
	forked     *News             // of a fork that is not safe yet; nothing is sent meanwhile
	parting    parting           // images of a history that is over
	resumed    bool              // of an earlier life, and has not had a leader in this one
	applying   []*raftpb.Message // responses to give once the driver has applied, oldest first
	conf       *raftpb.ConfState
	target     uint64 // raft index from which on this member is online under the present leader
	floor      uint64 // raft index to be applied before this member is online in this history, and after it was given a state

	client  client
	leader  leading
	reads   reading
	leaving leaving
	snaps   snapshots
	fetch   fetching
	lasting bool        // images outlive the process
	asked   []*Question // that wait for an answer

	ballot   genesis.Ballot
	bound    binding           // by the vote in ballot
	try      *genesis.Campaign // under way, to found a history
	tries    uint64            // round of the last one
	nextTry  time.Duration     // not before
	met      bool              // there may be another history in sight
	common   uint64            // raft index up to which the log is that of the history that takes this one in
	gone     []wire.Gone       // histories that are over, the latest last
	recovery recovery

	campaign   campaigning
	helloAt    time.Duration
	blankSince time.Duration
	foundAt    time.Duration // from when on nothing stands in the way of founding, zero if something does

	status    *Status
	onlineAt  time.Duration
	wasOnline bool
	busyAt    time.Duration // last moment at which there was more to do than heartbeats
	dirty     bool          // something that Status shows changed
	refresh   bool          // even if only a position did
}

// peer is what the engine knows of another node.
type peer struct {
	up    bool
	since time.Duration // of up
	seen  time.Duration // last message, or the end of the bond
	hello *wire.Hello   // the latest, nil before the first
	heard uint64        // version of this member's hello that the peer has
}

// New returns an engine. If the log is empty the engine is blank: it has no history until it founds one or joins one.
// Otherwise it resumes as the member it was, with its vote, and hands out its committed commands anew, for a fresh state
// machine. The log is the engine's to write. An error that wraps logstore.ErrCorrupt says that the log cannot be used.
func New(cfg Config, log logstore.Log) (*Replica, error) {
	switch {
	case cfg.Tick <= 0 || cfg.Heartbeat < cfg.Tick || cfg.ElectionTimeout < 2*cfg.Heartbeat:
		return nil, fmt.Errorf("core: tick %v, heartbeat %v, election timeout %v: each must be at least the one before, and the last twice",
			cfg.Tick, cfg.Heartbeat, cfg.ElectionTimeout)
	case cfg.MaxVoters < 1 || cfg.MaxInflight < 1 || cfg.MaxEntryBytes < 1 || cfg.MaxPendingCalls < 1:
		return nil, fmt.Errorf("core: limits must be positive")
	}
	if cfg.Snapshots && (cfg.ChunkBytes < 1 || cfg.ChunkBytes > chunkMost || cfg.KeepEntries < 1 || cfg.MostEntries < cfg.KeepEntries || cfg.MostBytes < 1) {
		return nil, fmt.Errorf("core: limits of the log and of chunks must be positive, and those of chunks at most %d", chunkMost)
	}
	cfg.Expect = max(cfg.Expect, 1)
	r := &Replica{
		cfg:     cfg,
		log:     log,
		rng:     rand.New(rand.NewPCG(cfg.Seed, cfg.BootNonce)),
		peers:   make(map[id.PeerID]*peer),
		version: 1,
		dirty:   true,
		lasting: log.Images().Lasting(),
	}
	r.self = r.newID()
	r.client = client{session: max(cfg.BootNonce, 1), base: 1}
	// Answers to an earlier life of this node must not look like answers to this one.
	r.reads.lastID = r.rng.Uint64() >> 1
	if err := r.resume(); err != nil {
		return nil, err
	}
	return r, nil
}

var _ Engine = (*Replica)(nil)

// at takes note of the time.
func (r *Replica) at(now time.Duration) {
	if !r.begun {
		r.begun = true
		r.born, r.blankSince, r.onlineAt, r.leadAt = now, now, now, now
	}
	r.now = max(r.now, now)
}

func (r *Replica) Tick(now time.Duration) {
	r.at(now)
	if r.ended || r.fatal != nil {
		return
	}
	r.guard(func() {
		if r.rn != nil {
			r.tickRaft()
		}
		if r.now-r.helloAt >= helloEvery {
			r.helloAt = r.now
			r.tickHello()
		}
		if r.genesis.IsZero() {
			r.tickBlank()
		}
		r.tickClient()
		r.tickReads()
		r.tickLeader()
		r.tickLeave()
		r.tickSnapshots()
		r.tickFetch()
		r.tickCompact()
		r.tickMerge()
		r.tickRecovery()
		r.tickAsked()
	})
}

// tickRaft advances the library's clock.
func (r *Replica) tickRaft() {
	if r.recovery.sealed(r.now) {
		return
	}
	r.tickCampaign()
	// The library has no election timeout for those who do not vote, so they would believe in their last leader for ever.
	if r.lead != 0 && !r.isVoter() && r.now-max(r.heardLead, r.leadAt) >= 2*r.cfg.ElectionTimeout {
		_ = r.rn.ForgetLeader() // never fails
	}
	r.leadAlone()
	r.rn.Tick()
	r.stirred = true
}

// guard runs a step of the engine and turns a panic, which nothing a member sends should cause, into the end of this
// replica instead of the process.
func (r *Replica) guard(step func()) {
	defer func() {
		if v := recover(); v != nil {
			r.fatal = fmt.Errorf("core: panic: %v", v)
			r.dirty = true
		}
	}()
	step()
}

func (r *Replica) Applied(now time.Duration, raftIndex uint64) {
	r.at(now)
	if r.rn == nil || r.fatal != nil || raftIndex <= r.offset {
		return
	}
	r.applied = max(r.applied, raftIndex-r.offset)
	r.guard(func() {
		for len(r.applying) > 0 {
			m := r.applying[0]
			if last := m.Entries[len(m.Entries)-1].GetIndex(); last > r.applied {
				return
			}
			r.applying = r.applying[1:]
			r.step(m)
		}
	})
}

// Flush works out what follows from everything that was taken in since the last one.
func (r *Replica) Flush(now time.Duration, out *Output) {
	r.at(now)
	out.Status, out.Fatal = nil, nil
	if r.fatal == nil && !r.ended {
		r.guard(r.work)
	}
	if r.fatal != nil && !r.ended {
		r.ended = true
		out.Fatal = r.fatal
		r.failAll(FailedClosed)
	}
	if r.dirty || r.online() != r.wasOnline {
		r.dirty = false
		out.Status = r.buildStatus()
	}
	out.Rest = r.rest(out.Status != nil || r.due.busyOutput())
	r.due.exchange(out)
	if out.Rest != nil {
		r.due = queued{} // not worth the memory now
	}
}

// work lets raft, the calls, the reads and the members push each other until none has anything to do.
func (r *Replica) work() {
	for again := true; again; again = r.stirred && r.fatal == nil {
		r.drainRaft()
		r.noticeLeader()
		r.forwardCalls()
		r.sendReads()
		if r.rn != nil {
			r.planMembers()
			r.workMerge()
		}
		if r.rn != nil {
			r.proposeWaiting()
			r.planSnapshots()
			r.startReadRound()
		}
	}
	r.tellOutsiders()
}

// queued collects what events produce until the next Flush.
type queued struct {
	send   []Envelope
	apply  []Apply
	failed []Failed
	acked  []Ack
	reads  []ReadReady
	news   []News
	answer []Answer
	left   bool
	reset  bool

	drop     []uint64
	diverged []Divergence
	fetch    *Fetch
	before   int // of apply, when reset was set
}

// exchange gives out what was queued, and takes the slices of the last time to be filled again.
func (q *queued) exchange(out *Output) {
	out.Send, q.send = q.send, emptied(out.Send)
	out.Apply, q.apply = q.apply, emptied(out.Apply)
	out.Failed, q.failed = q.failed, emptied(out.Failed)
	out.Acked, q.acked = q.acked, emptied(out.Acked)
	out.Reads, q.reads = q.reads, emptied(out.Reads)
	out.Drop, q.drop = q.drop, emptied(out.Drop)
	out.Diverged, q.diverged = q.diverged, emptied(out.Diverged)
	out.Fetch, q.fetch = q.fetch, nil
	out.News, q.news = q.news, emptied(out.News)
	out.Answers, q.answer = q.answer, emptied(out.Answers)
	out.Left, q.left = q.left, false
	out.Reset, q.reset = q.reset, false
	out.Before, q.before = q.before, 0
}

func emptied[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// send queues a message for a peer. It is lost if there is no bond, and while a fork is not safe.
func (r *Replica) send(to id.PeerID, m wire.Message) {
	if !r.bondedWith(to) || r.forked != nil {
		return
	}
	r.due.send = append(r.due.send, Envelope{To: to, Message: m})
}

// peerOf returns where a member is. The table may not have it yet; then it is where a hello says so.
func (r *Replica) peerOf(member uint64) (id.PeerID, bool) {
	if row := r.table.Get(member); row != nil {
		return row.Peer, true
	}
	for who, p := range r.peers {
		if h := p.hello; h != nil && h.Member == member && h.Genesis == r.genesis {
			return who, true // ids are random: no two peers have the same
		}
	}
	return id.PeerID{}, false
}

// leaderPeer returns the leader's node, zero if unknown.
func (r *Replica) leaderPeer() id.PeerID {
	if r.lead == 0 {
		return id.PeerID{}
	}
	if r.lead == r.self {
		return r.cfg.Self
	}
	p, _ := r.peerOf(r.lead)
	return p
}

func (r *Replica) isLeader() bool { return r.rn != nil && r.role == raft.StateLeader }

func (r *Replica) isVoter() bool { return r.conf != nil && slices.Contains(r.conf.Voters, r.self) }

// bonded returns the peers that are up, in a fixed order.
func (r *Replica) bonded() []id.PeerID {
	return r.bondedIf(func(*peer) bool { return true })
}

// bondedIf returns the peers that are up and fit, in a fixed order.
func (r *Replica) bondedIf(fits func(*peer) bool) []id.PeerID {
	var out []id.PeerID
	for who, p := range r.peers {
		if p.up && fits(p) {
			out = append(out, who)
		}
	}
	slices.SortFunc(out, id.PeerID.Compare)
	return out
}

func (r *Replica) bondedWith(who id.PeerID) bool {
	p := r.peers[who]
	return p != nil && p.up
}

// newID returns a random member id.
func (r *Replica) newID() uint64 {
	for {
		if v := r.rng.Uint64(); validMember(v) {
			return v
		}
	}
}

// validMember reports whether a member can have that id: not zero, nor one that the library keeps for itself.
func validMember(v uint64) bool {
	return v != 0 && v < raft.LocalApplyThread && v < raft.LocalAppendThread
}

func (r *Replica) newGenesis() (g wire.Genesis) {
	for i := range g {
		g[i] = byte(r.rng.Uint64())
	}
	return g
}

// Stop fails all calls and reads that wait.
func (r *Replica) Stop(now time.Duration) {
	r.at(now)
	if r.ended {
		return
	}
	r.ended = true
	r.failAll(FailedClosed)
	r.sayFarewell()
}

// failAll ends all calls and reads. Calls that were sent may have happened.
func (r *Replica) failAll(unsent Failure) {
	r.failAsked()
	r.failCalls(unsent)
	r.failReads()
	r.dirty = true
}

// rank orders the members that could found a history: those that want to lead first, then by a hash that differs from
// group to group.
func (r *Replica) rank(p id.PeerID, preference uint8) (reluctant bool, hash id.ID) {
	return preference != member.Normal, r.cfg.Group.Derive([]byte("founder"), p[:])
}

func compareRank(aReluctant bool, a id.ID, bReluctant bool, b id.ID) int {
	if aReluctant != bReluctant {
		if bReluctant {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.Compare(b), 0)
}
