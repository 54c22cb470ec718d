package core

import (
	"slices"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// client is the node's own session: its calls, in order, numbered from one. The calls before next have been sent to the
// present leader. Whatever happens to leaders, links, memberships and histories, the log takes each number once and in
// order.
type client struct {
	session uint64
	calls   []ownCall
	room    []ownCall // that calls are part of
	base    uint64    // number of calls[0]
	next    int
	bytes   int
	retry   bool
	moved   time.Duration // last progress
	backoff time.Duration
}

// ownCall is one call of the session.
type ownCall struct {
	call  *Call // nil once the driver has its outcome
	item  wire.Item
	feed  bool
	sent  bool // at some time, to some leader
	since time.Duration
}

// forwardMost bounds one message of forwarded calls.
const forwardMost = 256 << 10

func (r *Replica) Submit(now time.Duration, c *Call) {
	r.at(now)
	k := &r.client
	fail := func(why Failure) { r.due.failed = append(r.due.failed, Failed{Call: c, Reason: why}) }
	switch {
	case r.ended || r.fatal != nil || r.leaving.asked:
		fail(FailedClosed)
		return
	case len(c.Payload) > r.cfg.MaxEntryBytes:
		fail(FailedTooLarge)
		return
	case len(k.calls) >= r.cfg.MaxPendingCalls || k.bytes > 0 && k.bytes+len(c.Payload) > r.cfg.MaxPendingBytes:
		fail(FailedOverloaded)
		return
	}
	if len(k.calls) == 0 {
		k.progress(r.now)
	}
	if len(k.calls) == cap(k.calls) {
		k.makeRoom()
	}
	k.calls = append(k.calls, ownCall{
		call: c, item: wire.Item{Count: uint32(c.Count), Payload: c.Payload}, feed: c.Feed, since: r.now,
	})
	k.bytes += len(c.Payload)
}

// roomKept is the number of calls for which an idle session keeps memory.
const roomKept = 64

// makeRoom lets one more call be appended. Calls leave at the front, so there may be room before them.
func (k *client) makeRoom() {
	if n := len(k.calls); 2*n > cap(k.room) || n == 0 {
		k.room = make([]ownCall, max(4*n, 4))
	}
	k.calls = k.room[:copy(k.room, k.calls)]
	clear(k.room[len(k.calls):])
}

// Cancel takes back a call that was not sent yet; of one that was, the caller no longer hears, but the session goes on.
func (r *Replica) Cancel(now time.Duration, c *Call) {
	r.at(now)
	k := &r.client
	for i := range k.calls {
		if k.calls[i].call != c {
			continue
		}
		if k.calls[i].sent {
			k.calls[i].call = nil
			r.due.failed = append(r.due.failed, Failed{Call: c, Reason: FailedUnknown})
			return
		}
		k.drop(i)
		r.due.failed = append(r.due.failed, Failed{Call: c, Reason: FailedCancelled})
		return
	}
}

// drop takes a call out that was never sent.
func (k *client) drop(i int) {
	k.bytes -= len(k.calls[i].item.Payload)
	k.calls = slices.Delete(k.calls, i, i+1)
	k.next = min(k.next, len(k.calls))
}

// progress notes that the session moves.
func (k *client) progress(now time.Duration) { k.moved, k.backoff = now, resendFirst }

// settle ends the call of the given number, which is the oldest: the log holds it, and it is about to be applied here.
// It returns what the driver waits for, nil if it does not.
func (k *client) settle(number uint64) *Call {
	if len(k.calls) == 0 || number != k.base {
		return nil
	}
	c := k.calls[0]
	k.calls[0] = ownCall{}
	k.calls = k.calls[1:]
	k.base++
	k.next = max(k.next-1, 0)
	k.bytes -= len(c.item.Payload)
	if len(k.calls) == 0 {
		if len(k.room) > roomKept {
			k.room = nil
		}
		k.calls = k.room[:0]
	}
	return c.call
}

// restart begins a new session, for the calls that were never sent. Those that were must have ended.
func (k *client) restart(session uint64) {
	k.calls = slices.DeleteFunc(k.calls, func(c ownCall) bool { return c.sent })
	k.session, k.base, k.next, k.bytes = session, 1, 0, 0
	for i := range k.calls {
		k.bytes += len(k.calls[i].item.Payload)
	}
}

// checkSession begins a new session if the log does not know the present one: the group has forgotten it, or the history
// that it was part of was not taken over. What became of the calls that were sent cannot be told then.
func (r *Replica) checkSession() {
	k := &r.client
	if k.base <= 1 || r.table.Get(r.self) == nil || r.table.Sessions.Calls(k.session)+1 >= k.base {
		return
	}
	r.failSent()
	k.restart(r.newID())
}

// failSent ends the calls that were sent in a session that is over.
func (r *Replica) failSent() {
	k := &r.client
	for i := range k.calls {
		if c := &k.calls[i]; c.sent && c.call != nil {
			r.due.failed = append(r.due.failed, Failed{Call: c.call, Reason: FailedUnknown})
			c.call = nil
		}
	}
}

// failCalls ends all calls.
func (r *Replica) failCalls(unsent Failure) {
	r.failSent()
	k := &r.client
	for i := range k.calls {
		if c := &k.calls[i]; c.call != nil {
			r.due.failed = append(r.due.failed, Failed{Call: c.call, Reason: unsent})
			c.call = nil
		}
	}
	k.calls, k.next, k.bytes = nil, 0, 0
}

// reachableLeader returns the leader's node, if there is one that can be sent to.
func (r *Replica) reachableLeader() (id.PeerID, bool) {
	if r.rn == nil || r.lead == 0 {
		return id.PeerID{}, false
	}
	who := r.leaderPeer()
	if who == r.cfg.Self {
		return who, true
	}
	p := r.peers[who]
	return who, p != nil && p.up
}

// forwardCalls sends calls that the leader does not have yet.
func (r *Replica) forwardCalls() {
	k := &r.client
	if k.retry {
		k.retry = false
		k.next = 0
	}
	to, ok := r.reachableLeader()
	if !ok || to == r.cfg.Self {
		return
	}
	for k.next < len(k.calls) {
		m := &wire.Forward{Genesis: r.genesis, Member: r.self, Session: k.session, First: k.base + uint64(k.next)}
		for size := 0; k.next < len(k.calls) && (size == 0 || size+len(k.calls[k.next].item.Payload) <= forwardMost); k.next++ {
			c := &k.calls[k.next]
			c.sent = true
			m.Ack = m.Ack || c.feed && c.call != nil
			m.Items = append(m.Items, c.item)
			size += len(c.item.Payload) + runOverhead
		}
		r.send(to, m)
	}
}

// enqueueOwn puts the leader's own calls in line.
func (r *Replica) enqueueOwn() {
	k, l := &r.client, &r.leader
	have := l.callsNext(k.session)
	if have+1 < k.base {
		r.checkSession()
		return
	}
	k.next = int(min(have+1-k.base, uint64(len(k.calls)))) // what the log and the line hold
	if k.next >= len(k.calls) {
		return
	}
	x := waitingRun{run: run{session: k.session, first: have + 1, items: make([]wire.Item, 0, len(k.calls)-k.next)}, owner: r.self}
	for i := k.next; i < len(k.calls); i++ {
		x.items = append(x.items, k.calls[i].item)
		x.ack = x.ack || k.calls[i].feed && k.calls[i].call != nil
	}
	if r.enqueue(x) {
		for i := k.next; i < len(k.calls); i++ {
			k.calls[i].sent = true
		}
		k.next = len(k.calls)
	}
}

// onAck learns where the leader's log has calls of this member.
func (r *Replica) onAck(from id.PeerID, m *wire.Ack) {
	if r.rn == nil || m.Genesis != r.genesis || from != r.leaderPeer() {
		return
	}
	r.acked(m.First, m.Calls, m.Index)
	r.client.progress(r.now)
}

// acked ends the feeds among the calls from number first on; the first of them has the given user index.
func (r *Replica) acked(first, calls uint64, at Index) {
	k := &r.client
	for n := first; n < first+calls && n < k.base+uint64(len(k.calls)); n++ {
		if n < k.base {
			return // applied meanwhile, so the counts before are gone; applying has ended the calls
		}
		c := &k.calls[n-k.base]
		if c.feed && c.call != nil {
			r.due.acked = append(r.due.acked, Ack{Call: c.call, First: at})
			c.call = nil
		}
		at += Index(c.item.Count)
	}
}

// onExpect learns that the leader misses calls.
func (r *Replica) onExpect(from id.PeerID, m *wire.Expect) {
	k := &r.client
	if r.rn == nil || m.Genesis != r.genesis || from != r.leaderPeer() {
		return
	}
	if m.Next < k.base {
		return
	}
	k.next = min(k.next, int(min(m.Next-k.base, uint64(len(k.calls)))))
}

// tickClient sends again what made no progress, and ends calls that have had no leader for too long.
func (r *Replica) tickClient() {
	k := &r.client
	if len(k.calls) == 0 {
		return
	}
	if r.rn != nil {
		r.checkSession()
	}
	if _, ok := r.reachableLeader(); ok {
		if r.now-k.moved >= k.backoff {
			k.moved, k.backoff = r.now, min(2*max(k.backoff, resendFirst), resendMost)
			if !r.isLeader() {
				k.next = 0
			}
		}
		return
	}
	since := r.leaderless()
	for i := len(k.calls) - 1; i >= 0; i-- {
		c := &k.calls[i]
		if c.call == nil || r.now-max(since, c.since) < r.cfg.Patience {
			continue
		}
		if c.sent {
			r.due.failed = append(r.due.failed, Failed{Call: c.call, Reason: FailedUnknown})
			c.call = nil
			continue
		}
		r.due.failed = append(r.due.failed, Failed{Call: c.call, Reason: FailedOffline})
		k.drop(i)
	}
}

// leaderless returns since when no leader can be reached.
func (r *Replica) leaderless() time.Duration {
	if r.rn == nil {
		return r.blankSince
	}
	if r.lead == 0 {
		return r.leadAt
	}
	if p := r.peers[r.leaderPeer()]; p != nil && !p.up {
		return p.seen
	}
	return r.leadAt
}
