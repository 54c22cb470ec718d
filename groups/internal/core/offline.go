package core

import (
	"errors"
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// Offline is the engine of a member whose node is stopped: it says what the member's log holds, and can fork the history.
type Offline struct {
	r      *Replica
	log    *offlineLog
	status Stored
}

// Stored is what the log of a stopped member holds.
type Stored struct {
	Genesis   GenesisID // zero: the member is part of no history
	Origin    wire.Origin
	Absorbed  []genesis.Absorption
	Self      id.PeerID
	Members   []Member // as of what is known to be committed
	Term      uint64   // of the last entry
	Last      uint64   // raft index of that entry
	Committed Index    // commands that are known to be committed
	Commands  Index    // commands in all of the log
	Plan      *Plan    // what a recovery would do; nil where there can be none
	Why       string   // why there can be none
}

// offlineLog is a log that takes what belongs to the begin of a life, and a fork, and nothing else.
type offlineLog struct {
	logstore.Log
	open bool
	seq  uint64
}

func (l *offlineLog) Submit(b logstore.Batch) (seq uint64, safe bool, err error) {
	if !l.open {
		return l.seq, true, nil
	}
	l.seq, safe, err = l.Log.Submit(b)
	return l.seq, safe, err
}

func (l *offlineLog) Compact(uint64) error { return nil }

// OpenOffline reads the log of a stopped member. seed is of the randomness of a fork.
func OpenOffline(log logstore.Log, saved []Saved, seed uint64) (*Offline, error) {
	l := &offlineLog{Log: log, open: true}
	const tick = 100 * time.Millisecond
	r, err := New(Config{
		BootNonce: seed, Seed: seed, Durable: true, Saved: saved, Snapshots: len(saved) > 0,
		Tick: tick, Heartbeat: 5 * tick, ElectionTimeout: 20 * tick, MaxVoters: 1, MaxInflight: 1, MaxEntryBytes: 1, MaxPendingCalls: 1,
		ChunkBytes: 1, KeepEntries: 1, MostEntries: 1, MostBytes: 1,
	}, l)
	if err != nil {
		return nil, err
	}
	o := &Offline{r: r, log: l}
	l.open = false
	if r.rn == nil {
		o.status.Why = "the member is part of no history"
		return o, nil
	}
	history := r.genesis
	if err := o.replay(); err != nil {
		return nil, err
	}
	if r.rn == nil {
		o.status.Genesis, o.status.Why = history, "the member has left this history: it was removed, or the history was merged into another one"
		return o, nil
	}
	return o, o.describe()
}

// replay hands out all that is committed, as to a state machine.
func (o *Offline) replay() error {
	var out Output
	for {
		before := o.r.handed
		o.r.Flush(0, &out)
		if out.Fatal != nil {
			return out.Fatal
		}
		for _, a := range out.Apply {
			o.r.Applied(0, a.RaftIndex)
		}
		if o.r.rn == nil || o.r.handed == before && len(out.Apply) == 0 {
			return nil
		}
	}
}

// describe fills the status in.
func (o *Offline) describe() error {
	r, s := o.r, &o.status
	_, commands, err := r.inherit(r.handed + 1)
	if err != nil {
		return fmt.Errorf("core: read the log: %w", err)
	}
	s.Genesis, s.Origin, s.Absorbed = r.genesis, r.origin, r.line.Absorbed
	s.Committed, s.Commands = r.index, commands
	st := r.standing(0)
	s.Term, s.Last = st.Term, st.Last
	me := r.table.Get(r.self)
	for _, row := range r.table.All() {
		s.Members = append(s.Members, Member{
			ID: MemberID(row.ID), Peer: row.Peer, Preference: Preference(row.Preference), Voter: row.Voter, Durable: row.Durable,
		})
	}
	if me == nil {
		s.Why = "the member was only about to join, and holds nothing that others lack"
		return nil
	}
	s.Self = me.Peer
	r.cfg.Self, r.cfg.Preference = me.Peer, Preference(me.Preference)
	s.Plan = o.plan(me)
	if !s.Plan.Needed {
		s.Why = "the member is a majority by itself: start its node, and the group goes on"
	}
	return nil
}

// plan says what a fork would do. All other members are taken for lost.
func (o *Offline) plan(me *member.Row) *Plan {
	r := o.r
	p := &Plan{Genesis: r.genesis, Founder: me.Peer, Survivors: []Survivor{
		{Peer: me.Peer, Voter: me.Voter, Term: o.status.Term, Last: o.status.Last, Commands: o.status.Committed},
	}}
	voters := 0
	for _, row := range r.table.All() {
		if !row.Voter {
			continue
		}
		voters++
		if row.ID != me.ID {
			p.Missing = append(p.Missing, Missing{Peer: row.Peer, Why: "nobody asks it while this node is stopped", Dead: r.provenDead(row) != ""})
		}
	}
	p.Needed = !me.Voter || voters > 1
	p.Lossless = me.Voter && !r.outvoted(func(id uint64) bool { return id != r.self })
	return p
}

// Status returns what the log holds.
func (o *Offline) Status() Stored { return o.status }

// Fork has the member go on by itself when its node starts: in a history of its own that begins with all that its log
// holds. It is one change of the log, which is safe once the log is closed without an error.
func (o *Offline) Fork() error {
	if o.status.Plan == nil || !o.status.Plan.Needed {
		return errors.New("core: recover: " + o.status.Why)
	}
	o.log.open = true
	lossy := !o.status.Plan.Lossless
	o.r.guard(func() { o.r.fork(wire.Ordered, o.r.newRound(), lossy) })
	o.log.open = false
	return o.r.fatal
}
