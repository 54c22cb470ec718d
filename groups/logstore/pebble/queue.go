package pebble

import (
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/id"
)

// job is one thing to write. Only the fields that are set count, and they count in the order in which they stand here.
type job struct {
	log   *log
	owner *id.PeerID

	begin   *raftpb.SnapshotMetadata
	clear   bool // all entries
	cut     span // entries given up, after clear and before entries
	state   *raftpb.HardState
	record  []byte
	schema  []byte
	entries []*raftpb.Entry

	seq  uint64     // told to the log, if not zero
	done chan error // capacity one, nil if nobody waits
	size int
}

// span is entries from, and up to but not including.
type span struct{ from, to uint64 }

// jobOverhead is what a job counts beside its entries.
const jobOverhead = 256

func (j *job) measure() {
	j.size = jobOverhead + len(j.record) + len(j.schema)
	for _, e := range j.entries {
		j.size += len(e.Data) + entryHead + entryKeySize
	}
}

// queue is what waits for the writer, of all groups, in order. When it holds more than queueMax bytes those who have
// something to write wait.
type queue struct {
	mu      sync.Mutex
	change  sync.Cond
	jobs    []*job
	bytes   int
	stopped bool          // nothing more is taken
	ended   chan struct{} // closed when the writer has returned
}

func (q *queue) init() {
	q.change.L = &q.mu
	q.ended = make(chan struct{})
}

// put adds a job. It blocks while there is no room, and returns false if the queue was stopped.
func (q *queue) put(j *job) bool {
	j.measure()
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes > queueMax && !q.stopped {
		q.change.Wait()
	}
	if q.stopped {
		return false
	}
	q.jobs = append(q.jobs, j)
	q.bytes += j.size
	if len(q.jobs) == 1 {
		q.change.Broadcast()
	}
	return true
}

// take appends what waits, up to batchMax bytes and at least one job, to out. It blocks until there is something, and
// returns nothing if the queue was stopped and is empty.
func (q *queue) take(out []*job) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 && !q.stopped {
		q.change.Wait()
	}
	n, bytes := 0, 0
	for n < len(q.jobs) && (n == 0 || bytes+q.jobs[n].size <= batchMax) {
		bytes += q.jobs[n].size
		n++
	}
	out = append(out, q.jobs[:n]...)
	rest := copy(q.jobs, q.jobs[n:])
	clear(q.jobs[rest:])
	q.jobs = q.jobs[:rest]
	if q.bytes > queueMax {
		q.change.Broadcast()
	}
	q.bytes -= bytes
	return out
}

func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.change.Broadcast()
	q.mu.Unlock()
}

// waiting returns the bytes in the queue.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// write is the writer: it takes all that waits, of all groups, writes and syncs it as one batch, and tells those who wait.
func (s *store) write() {
	defer close(s.queue.ended)
	var jobs []*job
	for {
		jobs = s.queue.take(jobs[:0])
		if len(jobs) == 0 {
			return
		}
		begin := time.Now()
		bytes, err := s.commit(jobs)
		if p := s.failure.Load(); p != nil {
			err = *p
		}
		if err == nil {
			s.metrics.wrote(len(jobs), bytes, time.Since(begin))
		}
		for _, j := range jobs {
			if j.seq != 0 {
				j.log.written = j.seq
			}
		}
		for _, j := range jobs {
			if j.done != nil {
				j.done <- err
			}
			if j.seq != 0 && j.seq == j.log.written && err == nil {
				j.log.tell(j.seq, nil)
			}
		}
		clear(jobs)
		if err != nil {
			return
		}
	}
}

// commit writes jobs as one batch and returns when it is synced.
func (s *store) commit(jobs []*job) (bytes int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("database: %v", v)
		}
		if err != nil {
			s.fail(err)
		}
	}()
	b := s.db.NewBatch()
	for _, j := range jobs {
		if err := s.fill(b, j); err != nil {
			return 0, err
		}
	}
	bytes = b.Len()
	if err := b.Commit(pebble.Sync); err != nil {
		return 0, err
	}
	return bytes, b.Close()
}

func (s *store) fill(b *pebble.Batch, j *job) error {
	if j.owner != nil {
		if err := b.Set(ownerKey, j.owner[:], nil); err != nil {
			return err
		}
	}
	if j.log == nil {
		return nil
	}
	group := j.log.group
	if j.clear {
		if err := b.DeleteRange(entryKey(group, 0), entriesEnd(group), nil); err != nil {
			return err
		}
	}
	if j.begin != nil {
		v, err := encodeBegin(j.begin)
		if err != nil {
			return err
		}
		if err := b.Set(fieldKey(group, beginField), v, nil); err != nil {
			return err
		}
	}
	if j.cut.from < j.cut.to {
		if err := b.DeleteRange(entryKey(group, j.cut.from), entryKey(group, j.cut.to), nil); err != nil {
			return err
		}
	}
	if j.state != nil {
		op := b.SetDeferred(fieldKeySize, stateSize)
		copy(op.Key, fieldKey(group, stateField))
		putState(op.Value, j.state)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	if j.record != nil {
		if err := b.Set(fieldKey(group, recordField), j.record, nil); err != nil {
			return err
		}
	}
	if j.schema != nil {
		if err := b.Set(fieldKey(group, schemaField), j.schema, nil); err != nil {
			return err
		}
	}
	for _, e := range j.entries {
		op := b.SetDeferred(entryKeySize, entryHead+len(e.Data))
		copy(op.Key, entryKey(group, e.GetIndex()))
		putEntry(op.Value, e)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}
