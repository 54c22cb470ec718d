package host

import (
	"fmt"
	"runtime/debug"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// kickLocked makes sure that a group loop will see what is in the mailbox.
func (g *Group) kickLocked() {
	if !g.running && !g.halted && !g.dead {
		g.running = true
		g.wg.Add(1)
		g.svc.crew.run(g.asLoop)
	}
}

// workAsLoop and workAsApplier are what the crew's goroutines run.
func (g *Group) workAsLoop() {
	defer g.wg.Done()
	g.work()
}

func (g *Group) workAsApplier() {
	defer g.wg.Done()
	if g.apply() {
		g.work()
	}
}

// work is the group loop. When the mailbox is empty it ends, or becomes the applier if something waits to be applied
// and nobody does it; when the applier leaves something for the engine it becomes the loop again.
func (g *Group) work() {
	for {
		if apply := g.drain(); !apply {
			return
		}
		if again := g.apply(); !again {
			return
		}
	}
}

// drain hands mailboxes to the engine until there is nothing left. It returns true if the caller is to be the applier.
func (g *Group) drain() (apply bool) {
	for {
		g.mu.Lock()
		g.queue = append(g.queue, g.decided...)
		clear(g.decided)
		g.decided = g.decided[:0]
		if g.dead || g.halted || g.box.empty() {
			g.running = false
			g.restLocked()
			apply = g.claimApplierLocked()
			g.mu.Unlock()
			return apply
		}
		rest := g.wakeLocked()
		if g.claimApplierLocked() {
			g.wg.Add(1)
			g.svc.crew.run(g.asApplier)
		}
		box := g.box
		g.box = g.spare
		applied := g.applied
		g.reported = applied
		g.backlog = 0
		if len(g.unread) > 0 {
			clear(g.unread)
		}
		if g.waiting > 0 {
			g.room.Broadcast()
		}
		g.mu.Unlock()

		g.step(&box, applied, rest)
		box.reset()
		g.spare = box // read under the lock by the next round of this loop or of its successor
	}
}

// claimApplierLocked reports whether something waits to be applied and nobody does it, and makes the caller's side the
// one that does.
func (g *Group) claimApplierLocked() bool {
	if g.applying || len(g.queue) == 0 || g.dead {
		return false
	}
	g.applying = true
	return true
}

// step hands all of the mailbox to the engine and does what follows from it.
func (g *Group) step(box *mailbox, applied uint64, rest *core.Rest) {
	defer func() {
		if v := recover(); v != nil {
			g.fail(fmt.Errorf("groups: the consensus engine panicked: %v\n%s", v, debug.Stack()))
		}
	}()
	now, e := g.svc.now(), g.engine
	if rest != nil {
		e.Wake(now, rest)
		g.lack.moved = now
	}
	if applied != g.told {
		e.Applied(now, applied)
		g.told = applied
	}
	if box.stored != 0 || box.failed != nil {
		e.Persisted(now, box.stored, box.failed)
	}
	for i := range box.peers {
		g.peerEvent(&box.peers[i])
	}
	for i := range box.bulk {
		g.bulkEvent(&box.bulk[i])
	}
	if box.relist {
		e.Listed(now, box.listed)
	}
	for _, r := range box.reads {
		e.Read(now, &r.Read)
	}
	for _, c := range box.calls {
		e.Submit(now, &c.Call)
	}
	for _, c := range box.cancels {
		e.Cancel(now, &c.Call)
	}
	for _, q := range box.asks {
		e.Ask(now, q)
	}
	if box.tick {
		g.watchLack(now)
		g.watchMachine(now)
		e.Tick(now)
	}
	if box.retire {
		e.Retire(now)
	}
	if box.leave {
		e.Leave(now)
	}
	if box.stop {
		g.stopping = true
		e.Stop(now)
	}
	e.Flush(now, &g.out)
	g.follow()
	for _, c := range box.cancels {
		// Whatever the engine gave up it has reported; the rest goes on without its caller.
		c.settle(0, core.FailedUnknown, nil)
	}
	if box.stop {
		g.mu.Lock()
		g.halted = true
		g.room.Broadcast()
		g.mu.Unlock()
	}
}

// peerEvent tells the engine what a bond reported. Events of a bond that another one has replaced are dropped.
func (g *Group) peerEvent(ev *peerEvent) {
	now, peer := g.svc.now(), ev.bond.Peer()
	current := g.bonds[peer]
	switch ev.kind {
	case peerMessage:
		if current != ev.bond {
			return
		}
		if m, is := ev.msg.(*wire.Trouble); is {
			g.complained(peer, m.Text)
			return
		}
		g.engine.Receive(now, peer, ev.msg)
	case peerUp:
		if current != nil {
			g.engine.PeerDown(now, peer, false)
		}
		g.bonds[peer] = ev.bond
		g.engine.PeerUp(now, peer)
		g.bondsChanged()
		g.events.emit(Event{Kind: BondUp, Peer: peer})
		g.log.Info("bond is up", "peer", peer.Short(), "transport", ev.bond.Transport())
	case peerDown:
		if current != ev.bond {
			return
		}
		delete(g.bonds, peer)
		g.engine.PeerDown(now, peer, ev.closed)
		g.forgetComplaint(peer)
		g.bondsChanged()
		g.events.emit(Event{Kind: BondDown, Peer: peer, Reason: ev.bond.Reason()})
		g.log.Info("bond is down", "peer", peer.Short(), "reason", ev.bond.Reason())
	}
}

// follow does what the engine asks for: send, have applied, answer.
func (g *Group) follow() {
	out := &g.out
	for i := range out.Send {
		g.send(&out.Send[i])
	}
	runs := out.Apply
	kept := stateToKeep(out.News)
	if out.Reset {
		g.decide(runs[:out.Before])
		runs = runs[out.Before:]
		g.begin(kept)
	}
	if len(out.Apply) > 0 || out.Reset {
		g.advanced()
	}
	g.decide(runs)
	for _, mark := range out.Drop {
		g.images.drop(mark)
	}
	g.followFetch(out.Fetch)
	// Whoever hears of something from here on finds it in the state.
	if out.Status != nil {
		g.publish(out.Status)
	}
	if out.Reset {
		g.events.emit(Event{Kind: StateReset})
	}
	for _, d := range out.Diverged {
		g.diverged(d)
	}
	for _, a := range out.Acked {
		g.finish(a.Call.Host.(*Call), a.First, 0)
	}
	for _, f := range out.Failed {
		g.meter.failed(f.Reason)
		g.finish(f.Call.Host.(*Call), 0, f.Reason)
	}
	for _, r := range out.Reads {
		read := r.Read.Host.(*Read)
		if r.OK {
			g.progress.serve(read, r.RaftIndex)
		} else if !g.stopping { // else the end of the group is what it fails with
			read.settle(false, nil)
		}
	}
	for _, a := range out.Answers {
		a.Question.Host.(chan core.Answer) <- a
	}
	for i := range out.News {
		g.tell(&out.News[i], kept)
	}
	if out.Left && !g.leftTold {
		g.leftTold = true
		close(g.left)
	}
	g.resting = out.Rest
	if out.Fatal != nil {
		g.fail(fmt.Errorf("groups: the consensus engine gave up: %w", out.Fatal))
	}
}

// send hands a message to the peer's link. The engine copes with a message that is lost, so a full link drops it.
func (g *Group) send(e *core.Envelope) {
	b := g.bonds[e.To]
	if b == nil {
		g.meter.dropped.Inc()
		return
	}
	if !b.Send(e.Message) {
		g.meter.dropped.Inc()
	}
}

// decide hands runs to the applier, with the states that they install.
func (g *Group) decide(runs []core.Apply) {
	for i := range runs {
		o := order{epoch: g.epoch, run: runs[i]}
		if in := o.run.Install; in != nil && in.Saved != 0 {
			g.images.holdFirst(in.Saved)
		} else if in != nil && g.fetch != nil && g.fetch.order.ID == in.Fetch {
			o.fetched, g.fetch = g.fetch, nil
			g.agrees()
		}
		g.decided = append(g.decided, o)
	}
}

// begin follows the engine into another history: what was decided before is applied first, then the machine starts
// afresh.
func (g *Group) begin(keep *KeptState) {
	g.mu.Lock()
	g.epoch++
	g.applied, g.reported, g.told = 0, 0, 0
	g.mu.Unlock()
	reads := g.progress.begin(g.epoch)
	g.mu.Lock()
	g.box.reads = append(g.box.reads, reads...)
	g.mu.Unlock()
	g.decided = append(g.decided, order{reset: true, keep: keep, epoch: g.epoch})
	g.agrees()
	g.log.Info("this member begins again with an empty machine, in another history or as a new member")
}

// diverged reports that this member's state, or the way it writes it out, is not what the group agreed on.
func (g *Group) diverged(d core.Divergence) {
	text := fmt.Sprintf("the state after %d commands is written out as %s here and as %s by the leader: "+
		"the machine is not deterministic, or does not write equal states as equal bytes", d.Index, d.Root.Short(), d.Agreed.Short())
	g.meter.diverged.Inc()
	g.state.change(func(s *State) { s.Differs = text })
	g.events.emit(Event{Kind: StateDiverged, Reason: text})
	g.log.Error("state diverged", "reason", text)
}

// agrees notes that the state is replaced by one that nobody has found to differ.
func (g *Group) agrees() {
	if g.State().Differs != "" {
		g.state.change(func(s *State) { s.Differs = "" })
	}
}

// finish ends a call of which the engine has nothing more to say and the applier knows nothing.
func (g *Group) finish(c *Call, first core.Index, failure core.Failure) {
	g.mu.Lock()
	g.window.release(c)
	g.letInLocked()
	cause := c.given
	g.mu.Unlock()
	if failure != core.FailedUnknown && failure != core.FailedCancelled {
		cause = nil
	}
	c.settle(first, failure, cause)
}

// letInLocked hands calls from the line to the loop, as far as the window allows.
func (g *Group) letInLocked() {
	before := len(g.box.calls)
	g.box.calls = g.window.advance(g.box.calls)
	if len(g.box.calls) > before {
		g.kickLocked()
	}
}
