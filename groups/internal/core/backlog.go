package core

import (
	"encoding/binary"
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// errCut reports a log that does not reach back to where another history parts from this one.
var errCut = errors.New("core: the log was cut, so its commands cannot be proposed again")

// toRepropose returns what the other history is to take in, by the policy.
func (r *Replica) toRepropose() ([]logged, error) {
	if r.cfg.Merge == MergeSurface || r.line.Key.Fixed {
		return nil, nil
	}
	if lacking(r.cut(), r.common) {
		return nil, errCut // the leader that froze the history had more of the log
	}
	calls, err := r.callsAfter(r.common)
	if err != nil || r.cfg.Merge == MergeRepropose || r.cfg.Resolve == nil {
		return calls, err
	}
	items := make([]Item, len(calls))
	for i, c := range calls {
		items[i] = Item{First: c.index, Count: int(c.Count), Payload: c.Payload}
	}
	// What stands in for them is a session of its own, which is the same whoever proposes it.
	session := max(binary.BigEndian.Uint64(r.genesis[:]), 1)
	var out []logged
	for i, x := range r.cfg.Resolve(items) {
		out = append(out, logged{Again: wire.Again{
			Session: session, Number: uint64(i + 1), Item: wire.Item{Count: uint32(x.Count), Payload: x.Payload},
		}})
	}
	return out, nil
}

// counting tells which of the calls in a part of the log count, as applying told. Where the part does not begin with the
// history the numbers of the sessions at its begin are not known; but what comes twice comes with a number that is no higher.
type counting struct {
	whole    bool
	line     leading // for the phase
	sessions *member.Sessions
	last     map[uint64]uint64
}

func newCounting(whole bool) *counting {
	return &counting{whole: whole, sessions: member.NewSessions(0), last: make(map[uint64]uint64)}
}

func (c *counting) take(session, number uint64) bool {
	switch {
	case c.line.line.Phase != genesis.Active:
		return false
	case c.whole:
		return c.sessions.Take(session, number)
	case number <= c.last[session]:
		return false
	}
	c.last[session] = number
	return true
}

// callsAfter returns the calls in the log that count, behind a raft index and up to what is committed.
func (r *Replica) callsAfter(from uint64) ([]logged, error) {
	first, err := r.log.FirstIndex()
	if err != nil {
		return nil, err
	}
	var out []logged
	count, index := newCounting(first <= firstIndex+1), Index(0)
	for at := first; at <= r.handed; {
		entries, err := r.log.Entries(at, r.handed+1, 4<<20)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			at = e.GetIndex() + 1
			if e.GetType() != raftpb.EntryNormal || len(e.Data) == 0 {
				continue
			}
			if isControl(e.Data) {
				if err := count.line.followControl(e.Data); err != nil {
					return nil, err
				}
				continue
			}
			var session uint64
			err := eachItem(e.Data, func(s uint64, _ int) { session = s }, func(number uint64, n int, payload []byte) {
				if !count.take(session, number) {
					return
				}
				if e.GetIndex() > from {
					out = append(out, logged{
						Again: wire.Again{Session: session, Number: number, Item: wire.Item{Count: uint32(n), Payload: payload}},
						index: index + 1,
					})
				}
				index += Index(n)
			})
			if err != nil {
				return nil, err
			}
		}
	}
	for i := range out {
		out[i].index += r.index - index // what came before the part that is left
	}
	return out, nil
}
