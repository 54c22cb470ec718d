package core

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/logstore"
)

// A log may say that a batch is safe only some time after it took it. Until then nothing that follows from the batch is
// told to anybody: neither that entries are here nor whom this member voted for. See the library's AsyncStorageWrites.
//
// What the library applies is safe here, but the commit index that says so may not be: the log takes it along with the
// next batch that matters. So a member that restarts may know less to be committed than it had applied, and may begin
// with an older configuration. That does no harm, because the engine makes a change of members only after the one
// before it was applied, and the batch that holds an entry holds the commit index of that moment: a log with a change in
// it has the one before it committed. So a member is at most one change behind what its log can be counted for, and
// majorities of configurations one change apart overlap. Only whoever forgets that a voter was taken out may lack that one's
// vote for ever: that change is synced at once, see commitChange, and others say that it is committed, see vouch.go.

// persisting is responses of the library that wait for a batch.
type persisting struct {
	seq       uint64
	responses []*raftpb.Message
}

// submit gives a batch to the log. ok is false if the engine cannot go on.
func (r *Replica) submit(b logstore.Batch) (seq uint64, safe, ok bool) {
	seq, safe, err := r.log.Submit(b)
	if err != nil {
		r.fatal = fmt.Errorf("core: write the log: %w", err)
		r.dirty = true
	}
	return seq, safe, err == nil
}

// Persisted gives the responses that waited for the log.
func (r *Replica) Persisted(now time.Duration, seq uint64, err error) {
	r.at(now)
	if r.fatal != nil || r.ended {
		return
	}
	if err != nil {
		r.fatal = fmt.Errorf("core: write the log: %w", err)
		r.dirty = true
		return
	}
	if len(r.parting.images) > 0 && seq >= r.parting.seq {
		r.due.drop = append(r.due.drop, r.parting.images...)
		r.parting = parting{}
	}
	r.guard(func() {
		r.kept(seq)
		n := 0
		for ; n < len(r.persisting) && r.persisting[n].seq <= seq; n++ {
			r.respond(r.persisting[n].responses)
		}
		rest := copy(r.persisting, r.persisting[n:])
		clear(r.persisting[rest:])
		r.persisting = r.persisting[:rest]
	})
}

func (r *Replica) respond(responses []*raftpb.Message) {
	for _, m := range responses {
		if m.GetTo() == r.self {
			r.step(m)
		} else {
			r.sendRaft(m)
		}
	}
}

// forgetHistory makes a member whose history is over for it remember just that.
func (r *Replica) forgetHistory() {
	if !r.cfg.Durable {
		return
	}
	r.former = true
	b := logstore.Forget()
	b.Record = r.record()
	seq, safe, ok := r.submit(b)
	if ok && !safe {
		// Until the log is forgotten for good it may need its images.
		r.parting = parting{seq, append(r.parting.images, r.due.drop...)}
		r.due.drop = nil
	}
}

// parting is images to drop once a batch is safe.
type parting struct {
	seq    uint64
	images []uint64
}

// leadAlone saves a group whose only voter has restarted the wait for a leader that cannot be.
func (r *Replica) leadAlone() {
	if !r.resumed {
		return
	}
	if r.lead != 0 {
		r.resumed = false
		return
	}
	if r.isVoter() && len(r.conf.Voters) == 1 && len(r.conf.VotersOutgoing) == 0 && r.handed >= r.commits {
		r.resumed = false
		_ = r.rn.Campaign()
	}
}
