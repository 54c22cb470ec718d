package core

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// Fetch asks the driver to fetch the state with a root from other members, and to prepare a state machine with it. The
// driver answers with Fetched. A Fetch takes the place of the one before it; the zero Fetch only ends that.
type Fetch struct {
	ID    uint64
	Index uint64 // raft index of the snapshot, names the image in the log store
	Root  Root
}

// Install makes the machine that a Fetch has prepared the one to use, before anything later is applied.
type Install struct {
	Fetch uint64
	Saved uint64 // mark of a Saved image to read the machine from, in place of a Fetch
	User  Index  // commands that its state contains

	// Mark names what was fetched as an image from now on, if images outlive the process; otherwise it is zero.
	Mark uint64
}

// FetchStatus is how far a Fetch has got.
type FetchStatus struct {
	Index       uint64 // raft index
	Done, Total int64  // bytes; Total is zero while unknown
}

// fetching is the receiving side of a snapshot.
type fetching struct {
	lastID uint64
	id     uint64          // of the fetch under way, zero if none is
	msg    *raftpb.Message // held back from the library until the state is here
	root   Root
	rescue bool   // the group did not agree on the root
	state  *State // once everything is here

	done, total int64
	told        time.Duration // the leader was, of the progress
	failed      string        // why the last one failed, empty once one has succeeded
	backoff     time.Duration
	notBefore   time.Duration
}

// Pauses between tries to fetch.
const (
	fetchAgain     = time.Second
	fetchAgainMost = 30 * time.Second
	tellEvery      = time.Second
)

var errInstalled = errors.New("core: the state that was fetched is not the one that the group agreed on")

// onSnapshot takes a snapshot message. It reports whether the library can have it at once, which is so if it will not
// need the state.
func (r *Replica) onSnapshot(m *raftpb.Message) bool {
	if m.GetTerm() < r.term {
		return true
	}
	meta, f := m.GetSnapshot().GetMetadata(), &r.fetch
	index := meta.GetIndex()
	root, rescue, ok := decodeReference(m.GetSnapshot().GetData())
	if !ok || index == 0 || meta.GetTerm() == 0 || meta.GetTerm() > m.GetTerm() ||
		!confOK(meta.GetConfState()) || !knows(meta.GetConfState(), r.self) {
		return false
	}
	r.drainRaft()
	if r.rn == nil || r.fatal != nil {
		return false
	}
	if term, err := r.log.Term(index); index <= r.commits || err == nil && term == meta.GetTerm() {
		return true
	}
	switch {
	case f.id != 0 && f.root == root && f.msg.GetSnapshot().GetMetadata().GetIndex() == index:
		f.msg = m
		r.tellFetching(false)
		r.installFetched()
	case f.id == 0 && r.now < f.notBefore:
		f.msg = m
		r.tellFetching(true)
		f.msg = nil
	case !r.cfg.Snapshots:
		f.msg = m
		r.fetchFailed("the others have cut their logs, and this member's state machine is not a Snapshotter")
	default:
		f.lastID++
		f.id, f.msg, f.root, f.rescue, f.state = f.lastID, m, root, rescue, nil
		f.done, f.total = 0, 0
		r.due.fetch = &Fetch{ID: f.id, Index: index, Root: root}
		r.dirty = true
		r.tellFetching(false)
	}
	return false
}

// tellFetching reports to the leader.
func (r *Replica) tellFetching(failed bool) {
	f := &r.fetch
	f.told = r.now
	if to, ok := r.peerOf(r.lead); ok {
		r.send(to, &wire.Fetching{
			Genesis: r.genesis, Member: r.self, Index: f.msg.GetSnapshot().GetMetadata().GetIndex(), Done: uint64(f.done), Failed: failed,
		})
	}
}

// FetchProgress says how far a fetch has got.
func (r *Replica) FetchProgress(now time.Duration, fetch uint64, done, total int64) {
	r.at(now)
	f := &r.fetch
	if fetch != f.id || f.id == 0 || done <= f.done && total == f.total {
		return
	}
	f.done, f.total = max(f.done, done), total
	if r.now-f.told >= tellEvery {
		r.tellFetching(false)
		r.dirty = true
	}
}

// Fetched says that the state machine of a fetch is prepared; state is the engine's part. With an error it says that the
// fetch has failed.
func (r *Replica) Fetched(now time.Duration, fetch uint64, state []byte, err error) {
	r.at(now)
	f := &r.fetch
	if fetch != f.id || f.id == 0 || r.rn == nil || r.fatal != nil || r.ended {
		return
	}
	if err != nil {
		r.fetchFailed(err.Error())
		return
	}
	s, err := DecodeState(state)
	meta := f.msg.GetSnapshot().GetMetadata()
	switch {
	case err != nil:
		r.fetchFailed(err.Error())
	case s.Origin.Genesis != r.genesis || s.Index != meta.GetIndex() || s.Term != meta.GetTerm() ||
		!sameConf(s.Conf, meta.GetConfState()) || !s.fits():
		r.fetchFailed(errState.Error())
	default:
		f.state = s
		r.guard(r.installFetched)
	}
}

// installFetched gives the snapshot to the library once its state is here and there is a leader to answer to. A snapshot
// holds what is committed, so it does not matter if the leader that sent it leads no more: the message is readdressed.
func (r *Replica) installFetched() {
	f := &r.fetch
	if f.state == nil || r.rn == nil || r.lead == 0 || r.isLeader() {
		return
	}
	r.drainRaft()
	if r.fatal != nil || r.rn == nil {
		return
	}
	m := proto.Clone(f.msg).(*raftpb.Message)
	term, lead := r.term, r.lead
	m.Term, m.From = &term, &lead
	r.step(m)
	r.drainRaft()
	if f.state != nil && r.fatal == nil {
		r.endFetch() // the library had no use for it any more
	}
}

// install replaces what the log and the engine hold by a snapshot, as the library wants it.
func (r *Replica) install(s *raftpb.Snapshot) error {
	f, meta := &r.fetch, s.GetMetadata()
	st := f.state
	if st == nil || st.Index != meta.GetIndex() || st.Term != meta.GetTerm() {
		return fmt.Errorf("core: a snapshot at %d whose state is not here", meta.GetIndex())
	}
	r.dropImages()
	r.adopt(st)
	r.floor = max(r.floor, st.Index)
	order := &Install{Fetch: f.id, User: st.User}
	if r.lasting {
		s := &r.snaps
		s.lastID++
		order.Mark = s.lastID
		s.images = append(s.images, &image{
			id: s.lastID, index: st.Index, term: st.Term, user: st.User, conf: st.Conf, used: r.now,
			root: f.root, written: true, agreed: f.root, isAgreed: !f.rescue, rescue: f.rescue,
		})
	}
	r.due.apply = append(r.due.apply, Apply{Install: order, RaftIndex: r.offset + st.Index, Term: st.Term})
	r.snaps.installed, r.snaps.mark = 0, st.Index
	if !f.rescue {
		r.snaps.installed, r.snaps.installedRoot = st.Index, f.root
	}
	*f = fetching{lastID: f.lastID}
	// What this member had proposed and the state contains has happened, but its answers are not known.
	for calls := st.Table.Sessions.Calls(r.client.session); len(r.client.calls) > 0 && r.client.base <= calls; {
		if c := r.client.settle(r.client.base); c != nil {
			r.due.failed = append(r.due.failed, Failed{Call: c, Reason: FailedUnknown})
		}
	}
	r.client.base = max(r.client.base, st.Table.Sessions.Calls(r.client.session)+1)
	r.checkSession()
	r.client.progress(r.now)
	return nil
}

// fetchFailed gives a fetch up and lets the leader know. It will be tried again, after a while if it failed before.
func (r *Replica) fetchFailed(why string) {
	f := &r.fetch
	if f.msg != nil {
		r.tellFetching(true)
	}
	f.backoff = min(max(2*f.backoff, fetchAgain), fetchAgainMost)
	f.notBefore = r.now + f.backoff
	f.failed = why
	r.endFetch()
}

// endFetch forgets the fetch under way, if there is one.
func (r *Replica) endFetch() {
	f := &r.fetch
	if f.id != 0 {
		r.due.fetch = new(Fetch)
	}
	f.id, f.msg, f.state = 0, nil, nil
	r.dirty = true
}

// tickFetch installs what waited for a leader.
func (r *Replica) tickFetch() {
	if r.fetch.state != nil {
		r.installFetched()
	}
}

// fetchStatus describes the fetch under way, nil if there is none.
func (r *Replica) fetchStatus() *FetchStatus {
	if f := &r.fetch; f.id != 0 {
		return &FetchStatus{Index: f.msg.GetSnapshot().GetMetadata().GetIndex(), Done: f.done, Total: f.total}
	}
	return nil
}

// whyFetching says in words what keeps a member that needs the state of others.
func (r *Replica) whyFetching() string {
	f := &r.fetch
	switch {
	case f.id != 0 && f.state != nil:
		return "has fetched the state of the group, and waits for a leader"
	case f.id != 0 && f.total > 0:
		return fmt.Sprintf("fetching the state of the group: %.1f of %.1f MiB", float64(f.done)/(1<<20), float64(f.total)/(1<<20))
	case f.id != 0:
		return "fetching the state of the group"
	case f.failed != "":
		return "could not fetch the state of the group, and will try again: " + f.failed
	case r.snaps.installed != 0:
		return "comparing the fetched state with what the group agreed on"
	default:
		return ""
	}
}
