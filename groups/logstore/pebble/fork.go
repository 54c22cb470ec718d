package pebble

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/logstore"
)

// A fork of a history begins where the old one did and takes its entries over, all but a few as they are. What is there
// already is not written again: a log may be larger than a batch should be, and the batch is what makes it one step.

// keeps reports whether a batch begins the log where it begins already.
func (l *log) keeps(b *logstore.Batch) bool {
	return b.Begin != nil && len(b.Entries) > 0 && b.Begin.GetIndex() == l.begin.GetIndex() && b.Entries[0].GetIndex() == l.begin.GetIndex()+1
}

// changed returns those of the entries, which begin with the first of the log, that the log does not hold as they are.
func (l *log) changed(entries []*raftpb.Entry) (out []*raftpb.Entry, err error) {
	first := entries[0].GetIndex()
	written := entries[:min(uint64(len(entries)), l.from-first)] // the others are in memory, or new
	if len(written) > 0 {
		if out, err = l.differing(written); err != nil {
			return nil, l.unreadable(err)
		}
	}
	for _, e := range entries[len(written):] {
		if index := e.GetIndex(); index < l.next {
			old := l.tail[index-l.from]
			if old == e || old.GetType() == e.GetType() && old.GetTerm() == e.GetTerm() && bytes.Equal(old.Data, e.Data) {
				continue
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// differing compares entries with those in the database.
func (l *log) differing(entries []*raftpb.Entry) (out []*raftpb.Entry, err error) {
	first := entries[0].GetIndex()
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(l.group, first), UpperBound: entryKey(l.group, first+uint64(len(entries))),
	})
	if err != nil {
		return nil, classify(err)
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		e := entries[n]
		if index := indexOf(it.Key()); index != e.GetIndex() {
			return nil, fmt.Errorf("%w: entries %d to %d are missing", logstore.ErrCorrupt, e.GetIndex(), index-1)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, classify(err)
		}
		if !holds(v, e) {
			out = append(out, e)
		}
		n++
	}
	if err := it.Error(); err != nil {
		return nil, classify(err)
	}
	if n < len(entries) {
		return nil, fmt.Errorf("%w: entries from %d on are missing", logstore.ErrCorrupt, entries[n].GetIndex())
	}
	return out, nil
}

// holds reports whether a value is what putEntry writes for an entry.
func holds(v []byte, e *raftpb.Entry) bool {
	return len(v) == entryHead+len(e.Data) && v[0] == byte(e.GetType()) && binary.BigEndian.Uint64(v[1:]) == e.GetTerm() &&
		bytes.Equal(v[entryHead:], e.Data)
}
