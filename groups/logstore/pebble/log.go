package pebble

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// log is the log of one group. Its end is kept in memory, at least what is not written yet, so that in ordinary work
// nothing is read from the database: what raft reads is what was just appended.
type log struct {
	store  *store
	group  id.ID
	notify func(uint64, error)
	images *images

	safe    atomic.Uint64 // batches up to here are written
	written uint64        // the same while the writer hands out the news; the writer's own

	telling sync.Mutex // held while notify is called
	closed  bool       // guarded by telling; written by the group's goroutine, which may read it freely

	// Owned by the group's goroutine, like all methods.
	begin   *raftpb.SnapshotMetadata
	state   *raftpb.HardState
	lazy    bool // state was not submitted
	record  []byte
	schema  []byte
	next    uint64 // index after the last entry
	bytes   int64  // of all entries, about
	seq     uint64
	tail    []*raftpb.Entry // up to the last entry
	from    uint64          // index of the first in tail
	size    int             // bytes of tail
	pending []pending       // batches not known to be written, oldest first
	kept    uint64          // entries up to here are written
}

// pending is a batch that is on its way: once it is written, so is the entry at last.
type pending struct{ seq, last uint64 }

// Open implements logstore.Store.
func (s *store) Open(group id.ID, notify func(uint64, error)) (logstore.Log, error) {
	s.mu.Lock()
	switch {
	case s.closing:
		s.mu.Unlock()
		return nil, logstore.ErrClosed
	case s.open[group] != nil:
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: group %s", logstore.ErrOpen, group.Short())
	}
	l := &log{store: s, group: group, notify: notify}
	l.images = newImages(s, group)
	s.open[group] = l
	s.mu.Unlock()
	err := l.load()
	if p := s.failure.Load(); p != nil {
		err = *p
	}
	if err != nil {
		s.forget(l)
		return nil, fmt.Errorf("pebble: log of group %s: %w", group.Short(), err)
	}
	return l, nil
}

func (s *store) forget(l *log) {
	s.mu.Lock()
	delete(s.open, l.group)
	s.mu.Unlock()
}

// load reads what the database has of the log, and makes sure that nothing is missing in it.
func (l *log) load() error {
	get := func(field byte) (v []byte, err error) { return l.store.get(fieldKey(l.group, field)) }
	v, err := get(recordField)
	if err != nil {
		return err
	}
	l.record = v
	if l.schema, err = get(schemaField); err != nil {
		return err
	}
	l.begin = new(raftpb.SnapshotMetadata)
	if v, err = get(beginField); err != nil {
		return err
	}
	if v != nil {
		if l.begin, err = decodeBegin(v); err != nil {
			return err
		}
	}
	l.state = new(raftpb.HardState)
	if v, err = get(stateField); err != nil {
		return err
	}
	if v != nil {
		if l.state, err = decodeState(v); err != nil {
			return err
		}
	}
	return l.scan()
}

// scan reads all entries once, which has the database check them, and keeps the last ones.
func (l *log) scan() error {
	first := l.begin.GetIndex() + 1
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(l.group, 0), UpperBound: entriesEnd(l.group),
	})
	if err != nil {
		return classify(err)
	}
	defer it.Close()
	l.next, l.from = first, first
	for ok := it.First(); ok; ok = it.Next() {
		index := indexOf(it.Key())
		if index < first {
			return fmt.Errorf("%w: entry %d before the beginning at %d", logstore.ErrCorrupt, index, first)
		}
		if index != l.next {
			return fmt.Errorf("%w: entries %d to %d are missing", logstore.ErrCorrupt, l.next, index-1)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return classify(err)
		}
		e, err := decodeEntry(index, v)
		if err != nil {
			return err
		}
		l.next++
		l.bytes += int64(len(v))
		l.tail = append(l.tail, e)
		l.size += len(v)
		l.kept = index
		l.shorten()
	}
	if err := it.Error(); err != nil {
		return classify(err)
	}
	if l.state.GetCommit() >= l.next {
		return fmt.Errorf("%w: %d entries are committed and only %d are here", logstore.ErrCorrupt, l.state.GetCommit(), l.next-1)
	}
	return nil
}

// InitialState implements raft.Storage.
func (l *log) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	members := l.begin.ConfState
	if members == nil {
		members = new(raftpb.ConfState)
	}
	return l.state, members, nil
}

// FirstIndex implements raft.Storage.
func (l *log) FirstIndex() (uint64, error) { return l.begin.GetIndex() + 1, nil }

// LastIndex implements raft.Storage.
func (l *log) LastIndex() (uint64, error) { return l.next - 1, nil }

// Snapshot implements raft.Storage. The engine knows which images there are.
func (l *log) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// Term implements raft.Storage.
func (l *log) Term(i uint64) (uint64, error) {
	switch {
	case i < l.begin.GetIndex():
		return 0, raft.ErrCompacted
	case i == l.begin.GetIndex():
		return l.begin.GetTerm(), nil
	case i >= l.next:
		return 0, raft.ErrUnavailable
	case i >= l.from:
		return l.tail[i-l.from].GetTerm(), nil
	}
	v, err := l.store.get(entryKey(l.group, i))
	if err == nil && v == nil {
		err = fmt.Errorf("%w: entry %d is missing", logstore.ErrCorrupt, i)
	}
	if err != nil {
		return 0, l.unreadable(err)
	}
	return termOf(i, v)
}

// Entries implements raft.Storage.
func (l *log) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= l.begin.GetIndex() {
		return nil, raft.ErrCompacted
	}
	if hi > l.next || lo > hi {
		return nil, raft.ErrUnavailable
	}
	if lo >= l.from {
		part := l.tail[lo-l.from : hi-l.from]
		part = part[:fitting(part, 0, maxSize)]
		return part[:len(part):len(part)], nil
	}
	out, size, err := l.read(lo, min(hi, l.from), maxSize)
	if err != nil {
		return nil, l.unreadable(err)
	}
	if hi > l.from && lo+uint64(len(out)) == l.from {
		part := l.tail[:hi-l.from]
		out = append(out, part[:fitting(part, size, maxSize)]...)
	}
	return out, nil
}

// fitting returns how many entries fit into maxSize bytes of which have are taken: at least one, if none are.
func fitting(entries []*raftpb.Entry, have, maxSize uint64) int {
	for n, e := range entries {
		if have += entryHead + uint64(len(e.Data)); have > maxSize && (n > 0 || have > entryHead+uint64(len(e.Data))) {
			return n
		}
	}
	return len(entries)
}

// read reads entries from the database.
func (l *log) read(lo, hi, maxSize uint64) (out []*raftpb.Entry, size uint64, err error) {
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(l.group, lo), UpperBound: entryKey(l.group, hi),
	})
	if err != nil {
		return nil, 0, classify(err)
	}
	defer it.Close()
	at := lo
	for ok := it.First(); ok; ok = it.Next() {
		if index := indexOf(it.Key()); index != at {
			return nil, 0, fmt.Errorf("%w: entries %d to %d are missing", logstore.ErrCorrupt, at, index-1)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, 0, classify(err)
		}
		if size+uint64(len(v)) > maxSize && len(out) > 0 {
			return out, maxSize, nil
		}
		e, err := decodeEntry(at, v)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, e)
		size += uint64(len(v))
		at++
	}
	if err := it.Error(); err != nil {
		return nil, 0, classify(err)
	}
	if at != hi {
		return nil, 0, fmt.Errorf("%w: entries %d to %d are missing", logstore.ErrCorrupt, at, hi-1)
	}
	return out, size, nil
}

// unreadable stops the store when it cannot read, since the group cannot go on and others will not fare better.
func (l *log) unreadable(err error) error {
	l.store.fail(fmt.Errorf("read the log of group %s: %w", l.group.Short(), err))
	return err
}

// Submit implements logstore.Log.
func (l *log) Submit(b logstore.Batch) (seq uint64, safe bool, err error) {
	if l.closed {
		return 0, false, logstore.ErrClosed
	}
	if p := l.store.failure.Load(); p != nil {
		return 0, false, *p
	}
	l.settle()
	j := &job{log: l, begin: b.Begin, clear: b.Begin != nil, record: b.Record, schema: b.Schema, entries: b.Entries}
	if l.keeps(&b) {
		if j.entries, err = l.changed(b.Entries); err != nil {
			return 0, false, err
		}
		j.clear = false
	}
	was := l.next
	if b.Begin != nil {
		l.begin = b.Begin
		l.next, l.from = b.Begin.GetIndex()+1, b.Begin.GetIndex()+1
		l.tail, l.size, l.bytes = nil, 0, 0
		l.forgetPending(l.next)
	}
	if len(b.Entries) > 0 {
		if j.cut, err = l.append(b.Entries); err != nil {
			return 0, false, err
		}
	}
	if b.Begin != nil && !j.clear {
		j.cut = span{l.next, was}
	}
	lazy := b.Begin == nil && b.Record == nil && b.Schema == nil && len(b.Entries) == 0
	if b.State != nil {
		lazy = lazy && b.State.GetTerm() == l.state.GetTerm() && b.State.GetVote() == l.state.GetVote()
		l.state = b.State
	}
	if b.Record != nil {
		l.record = b.Record
	}
	if b.Schema != nil {
		l.schema = b.Schema
	}
	l.seq++
	if lazy {
		l.lazy = l.lazy || b.State != nil
		return l.seq, true, nil
	}
	j.state, l.lazy = l.state, false
	j.seq = l.seq
	l.pending = append(l.pending, pending{l.seq, l.next - 1})
	if !l.store.queue.put(j) {
		return 0, false, l.store.reason()
	}
	return l.seq, false, nil
}

// append takes entries into memory and returns which indices nothing stands at any more.
func (l *log) append(entries []*raftpb.Entry) (cut span, err error) {
	at, first := entries[0].GetIndex(), l.begin.GetIndex()+1
	if at < first || at > l.next {
		return cut, fmt.Errorf("pebble: append at %d to a log of %d to %d", at, first, l.next-1)
	}
	if at < l.next {
		l.forgetPending(at)
		if l.next > first {
			l.bytes -= l.bytes / int64(l.next-first) * int64(l.next-at)
		}
		if at < l.from {
			l.tail, l.from, l.size = nil, at, 0
		} else {
			for _, e := range l.tail[at-l.from:] {
				l.size -= entryHead + len(e.Data)
			}
			n := at - l.from
			l.tail = l.tail[:n:n] // readers may hold what is replaced
		}
	}
	l.tail = append(l.tail, entries...)
	for _, e := range entries {
		l.size += entryHead + len(e.Data)
		l.bytes += int64(entryHead + len(e.Data))
	}
	was := l.next
	l.next = at + uint64(len(entries))
	l.shorten()
	return span{l.next, was}, nil
}

// settle notes which entries are written by now.
func (l *log) settle() {
	safe := l.safe.Load()
	n := 0
	for ; n < len(l.pending) && l.pending[n].seq <= safe; n++ {
		l.kept = l.pending[n].last
	}
	if n > 0 {
		rest := copy(l.pending, l.pending[n:])
		l.pending = l.pending[:rest]
		l.shorten()
	}
}

// forgetPending notes that the entries from the index on are not, or no longer, in the database.
func (l *log) forgetPending(index uint64) {
	l.kept = min(l.kept, index-1)
	for i := range l.pending {
		l.pending[i].last = min(l.pending[i].last, index-1)
	}
}

// shorten drops the older half of the tail when it is too large, except what is not written.
func (l *log) shorten() {
	if l.size <= l.store.tail {
		return
	}
	n := 0
	for n < len(l.tail)-1 && l.size > l.store.tail/2 && l.from+uint64(n) <= l.kept {
		l.size -= entryHead + len(l.tail[n].Data)
		n++
	}
	if n > 0 {
		l.tail = append(make([]*raftpb.Entry, 0, 2*(len(l.tail)-n)), l.tail[n:]...)
		l.from += uint64(n)
	}
}

// Compact implements logstore.Log. What it gives up is free for use some seconds later, when the database has seen to it.
func (l *log) Compact(upTo uint64) error {
	first := l.begin.GetIndex() + 1
	if upTo < first {
		return nil
	}
	if l.closed {
		return logstore.ErrClosed
	}
	term, err := l.Term(upTo)
	if err != nil {
		return fmt.Errorf("pebble: compact a log of %d to %d at %d: %w", first, l.next-1, upTo, err)
	}
	l.settle()
	l.bytes -= l.bytes / int64(l.next-first) * int64(upTo+1-first)
	l.begin = &raftpb.SnapshotMetadata{Index: &upTo, Term: &term, ConfState: l.begin.ConfState}
	if upTo >= l.from {
		n := upTo + 1 - l.from
		for _, e := range l.tail[:n] {
			l.size -= entryHead + len(e.Data)
		}
		l.tail = append([]*raftpb.Entry(nil), l.tail[n:]...)
		l.from = upTo + 1
	}
	if !l.store.queue.put(&job{log: l, begin: l.begin, cut: span{0, upTo + 1}, state: l.state}) {
		return l.store.reason()
	}
	l.lazy = false
	return nil
}

// Size implements logstore.Log.
func (l *log) Size() int64 { return l.bytes }

// Images implements logstore.Log.
func (l *log) Images() logstore.Images { return l.images }

// Record implements logstore.Log.
func (l *log) Record() []byte { return l.record }

// Schema implements logstore.Log.
func (l *log) Schema() []byte { return l.schema }

// tell reports to the group, unless the log is closed.
func (l *log) tell(seq uint64, err error) {
	if err == nil {
		l.safe.Store(seq)
	}
	l.telling.Lock()
	defer l.telling.Unlock()
	if !l.closed {
		l.notify(seq, err)
	}
}

// Close implements logstore.Log.
func (l *log) Close() error {
	if l.closed {
		return nil
	}
	j := &job{log: l}
	if l.lazy {
		j.state = l.state
	}
	err := l.store.do(j) // everything submitted before is written when this is
	l.telling.Lock()
	l.closed = true
	l.telling.Unlock()
	l.store.forget(l)
	return err
}
