//go:build linux

package faultrun

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/groups/logstore"
)

// harm does one thing after another to a cluster: one loop for its network, and one or two for its processes, at the same time.
type harm struct {
	c     *cluster
	kinds []*fault
	rest  time.Duration // longest pause between faults

	gate sync.RWMutex // held for writing while everything else must be well

	mu    sync.Mutex // guards all following fields
	count map[string]int
	errs  []error
}

// fault is a kind of harm. do does it and undoes it.
type fault struct {
	name    string
	network bool // of the network, else of processes
	whole   bool // begins only when all members are well
	alone   bool // likewise, and nothing else happens meanwhile
	do      func(h *harm, ctx context.Context, rng *rand.Rand) error
}

// run goes on until ctx ends; then everything is well again, as far as it was harm that did it.
func (h *harm) run(ctx context.Context, seed uint64) {
	var wg sync.WaitGroup
	loop := func(stream uint64, network bool) {
		rng := rand.New(rand.NewPCG(seed, 1000+stream))
		var mine []*fault
		for _, f := range h.kinds {
			if f.network == network && (h.c.net != nil || !network) {
				mine = append(mine, f)
			}
		}
		if len(mine) == 0 {
			return
		}
		wg.Go(func() {
			for h.pause(ctx, between(rng, 0, h.rest)) {
				h.once(ctx, mine[rng.IntN(len(mine))], rng)
			}
		})
	}
	loop(0, true)
	loop(1, false)
	if h.c.durable {
		loop(2, false)
	}
	wg.Go(func() {
		for h.pause(ctx, time.Minute) {
			h.gate.Lock()
			h.awaitWhole(ctx)
			h.gate.Unlock()
		}
	})
	wg.Wait()
}

func (h *harm) once(ctx context.Context, f *fault, rng *rand.Rand) {
	unlock := h.gate.RUnlock
	if f.whole || f.alone {
		h.gate.Lock()
		well := h.awaitWhole(ctx)
		if !well || f.alone {
			unlock = h.gate.Unlock
		} else {
			h.gate.Unlock()
			h.gate.RLock()
		}
		if !well {
			unlock()
			return
		}
	} else {
		h.gate.RLock()
	}
	defer unlock()
	if ctx.Err() != nil {
		return
	}
	h.c.note("fault: %s", f.name)
	err := f.do(h, ctx, rng)
	if errors.Is(err, errNotNow) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[f.name]++
	if err != nil {
		h.c.note("%s: %v", f.name, err)
		h.errs = append(h.errs, fmt.Errorf("%s: %w", f.name, err))
	}
}

// wholeWithin is how long a cluster to which nothing happens may take to be whole.
const wholeWithin = 90 * time.Second

// awaitWhole is called while nothing happens to the cluster. That it does not get well is a failure.
func (h *harm) awaitWhole(ctx context.Context) bool {
	begin := time.Now()
	err := h.c.awaitWhole(ctx, wholeWithin)
	if ctx.Err() != nil {
		return false
	}
	h.c.note("whole after %v: %v", time.Since(begin).Round(time.Millisecond), err)
	if err != nil {
		h.mu.Lock()
		h.errs = append(h.errs, err)
		h.mu.Unlock()
	}
	return err == nil
}

var errNotNow = errors.New("not now")

// pause waits and reports whether to go on.
func (h *harm) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}

// aWhile is short, in which connections live on, or long, in which they do not and members are removed.
func aWhile(rng *rand.Rand) time.Duration {
	if rng.IntN(3) > 0 {
		return between(rng, 200*time.Millisecond, 4*time.Second)
	}
	return between(rng, 4*time.Second, 14*time.Second)
}

// some returns a random number of nodes, at least one and at most most.
func (h *harm) some(rng *rand.Rand, most int) []int {
	return rng.Perm(len(h.c.nodes))[:1+rng.IntN(most)]
}

// victim returns a node: as often as not one that leads.
func (h *harm) victim(rng *rand.Rand) int {
	if rng.IntN(2) == 0 {
		if i := h.c.leader(rng.IntN(kinds)); i >= 0 {
			return i
		}
	}
	return rng.IntN(len(h.c.nodes))
}

// take claims nodes to which nothing else is being done.
func (h *harm) take(nodes ...int) (release func(), err error) {
	var have []int
	release = func() {
		for _, i := range have {
			h.c.nodes[i].busy.Unlock()
		}
	}
	for _, i := range nodes {
		if !h.c.nodes[i].busy.TryLock() {
			release()
			return nil, errNotNow
		}
		have = append(have, i)
	}
	return release, nil
}

// Networks.

// split cuts a random part off from the rest, in both directions or in one.
func split(both bool) func(h *harm, ctx context.Context, rng *rand.Rand) error {
	return func(h *harm, ctx context.Context, rng *rand.Rand) error {
		side := h.some(rng, len(h.c.nodes)-1)
		if rng.IntN(2) == 0 {
			side = []int{h.victim(rng)}
		}
		away := rng.IntN(2) == 0
		h.c.note("%v against the rest, both ways: %t, outwards: %t", side, both, away)
		for i := range h.c.nodes {
			for _, j := range side {
				if slices.Contains(side, i) {
					continue
				}
				var err error
				if both || away {
					err = errors.Join(err, h.c.net.cut(j, i))
				}
				if both || !away {
					err = errors.Join(err, h.c.net.cut(i, j))
				}
				if err != nil {
					return err
				}
			}
		}
		return h.untilMended(ctx, rng)
	}
}

// partial cuts single pairs, or single directions of them.
func partial(h *harm, ctx context.Context, rng *rand.Rand) error {
	for range 1 + rng.IntN(len(h.c.nodes)-1) {
		p := rng.Perm(len(h.c.nodes))
		err := h.c.net.cut(p[0], p[1])
		if rng.IntN(3) > 0 {
			err = errors.Join(err, h.c.net.cut(p[1], p[0]))
		}
		if err != nil {
			return err
		}
		h.c.note("between %d and %d", p[0], p[1])
	}
	return h.untilMended(ctx, rng)
}

func unplug(h *harm, ctx context.Context, rng *rand.Rand) error {
	i := h.victim(rng)
	h.c.note("node %d", i)
	if err := h.c.net.unplug(i); err != nil {
		return err
	}
	return h.untilMended(ctx, rng)
}

func (h *harm) untilMended(ctx context.Context, rng *rand.Rand) error {
	h.pause(ctx, aWhile(rng))
	h.c.note("mended")
	return h.c.net.mend()
}

// Processes.

// killed kills nodes and starts them again.
func (h *harm) killed(ctx context.Context, rng *rand.Rand, nodes ...int) error {
	release, err := h.take(nodes...)
	if err != nil {
		return err
	}
	defer release()
	var wg sync.WaitGroup
	for _, i := range nodes {
		wg.Go(h.c.nodes[i].kill)
	}
	wg.Wait()
	h.pause(ctx, between(rng, 0, 3*time.Second))
	errs := make([]error, len(nodes))
	for k, i := range nodes {
		wg.Go(func() { errs[k] = h.c.nodes[i].start() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func killOne(h *harm, ctx context.Context, rng *rand.Rand) error {
	return h.killed(ctx, rng, h.victim(rng))
}

func killMany(h *harm, ctx context.Context, rng *rand.Rand) error {
	return h.killed(ctx, rng, h.some(rng, len(h.c.nodes))...)
}

func killAll(h *harm, ctx context.Context, rng *rand.Rand) error {
	return h.killed(ctx, rng, rng.Perm(len(h.c.nodes))...)
}

// killMinority kills as many as volatile members can stand. Nothing more may be killed until the members are whole again, which
// is what being alone sees to; networks may fail again at once.
func killMinority(h *harm, ctx context.Context, rng *rand.Rand) error {
	nodes := []int{h.victim(rng)}
	if rng.IntN(3) == 0 {
		nodes = h.some(rng, (len(h.c.nodes)-1)/2)
	}
	return h.killed(ctx, rng, nodes...)
}

// restart closes a node in order and opens it again.
func restart(h *harm, ctx context.Context, rng *rand.Rand) error {
	i := h.victim(rng)
	release, err := h.take(i)
	if err != nil {
		return err
	}
	defer release()
	if err := h.c.nodes[i].shut(); err != nil {
		return err
	}
	h.pause(ctx, between(rng, 0, 2*time.Second))
	return h.c.nodes[i].start()
}

// halt stops nodes and lets them go on.
func halt(h *harm, ctx context.Context, rng *rand.Rand) error {
	nodes := []int{h.victim(rng)}
	if rng.IntN(4) == 0 {
		nodes = h.some(rng, len(h.c.nodes))
	}
	release, err := h.take(nodes...)
	if err != nil {
		return err
	}
	defer release()
	for _, i := range nodes {
		h.c.nodes[i].stop()
	}
	h.pause(ctx, aWhile(rng))
	for _, i := range nodes {
		h.c.nodes[i].resume()
	}
	return nil
}

// churn has leadership change hands a few times.
func churn(h *harm, ctx context.Context, rng *rand.Rand) error {
	for range 3 + rng.IntN(8) {
		if p := h.c.nodes[rng.IntN(len(h.c.nodes))].living(); p != nil {
			short, cancel := context.WithTimeout(ctx, 4*time.Second)
			q := request{Ask: "transfer", Group: rng.IntN(kinds), To: h.c.peer(rng.IntN(len(h.c.nodes))), Within: 3 * time.Second}
			p.ask(short, q) // it may be refused
			cancel()
		}
		if !h.pause(ctx, between(rng, 0, 300*time.Millisecond)) {
			break
		}
	}
	return nil
}

// step steps the wall clock of a node, once or several times, and back.
func step(h *harm, ctx context.Context, rng *rand.Rand) error {
	i := rng.IntN(len(h.c.nodes))
	release, err := h.take(i)
	if err != nil {
		return err
	}
	defer release()
	for range 1 + rng.IntN(3) {
		by := between(rng, -25*time.Second, 25*time.Second)
		if rng.IntN(5) == 0 {
			by = between(rng, -time.Hour, time.Hour)
		}
		if err := h.c.nodes[i].stepClock(by); errors.Is(err, errNoClock) {
			h.c.note("%v", err)
			return errNotNow
		} else if err != nil {
			return err
		}
		if !h.pause(ctx, between(rng, 0, 6*time.Second)) {
			break
		}
	}
	return h.c.nodes[i].stepClock(0)
}

// stepClock sets by how much the wall clock of a node is off.
func (n *node) stepClock(by time.Duration) error {
	p := n.living()
	if p == nil {
		return nil
	}
	n.stop()
	defer n.resume()
	n.c.note("the clock of node %d is off by %v", n.index, by.Round(time.Second))
	if err := awaitStopped(p.cmd.Process.Pid); err != nil {
		return err
	}
	return stepClock(p.cmd.Process.Pid, by)
}

// Disks.

// diskFull leaves a node no room, until it says so or a while has passed, and starts it again with room.
func diskFull(h *harm, ctx context.Context, rng *rand.Rand) error {
	i := h.victim(rng)
	release, err := h.take(i)
	if err != nil {
		return err
	}
	defer release()
	n := h.c.nodes[i]
	h.c.note("the disk of node %d is full", i)
	if err := h.c.fillDisk(i); err != nil {
		return err
	}
	said := false
	for deadline := time.Now().Add(10 * time.Second); !said && time.Now().Before(deadline); {
		for _, g := range n.status() {
			said = said || g.Failed != ""
		}
		if !h.pause(ctx, 50*time.Millisecond) {
			break
		}
	}
	h.c.note("node %d says that it has failed: %t", i, said)
	if said {
		h.mu.Lock()
		h.count["disk full, noticed by the groups"]++
		h.mu.Unlock()
	}
	h.pause(ctx, between(rng, 0, 2*time.Second))
	n.kill()
	if err := h.c.freeDisk(i); err != nil {
		return err
	}
	return n.start()
}

// tornTail kills a node, and its last write was cut off.
func tornTail(h *harm, ctx context.Context, rng *rand.Rand) error {
	i := h.victim(rng)
	release, err := h.take(i)
	if err != nil {
		return err
	}
	defer release()
	h.c.nodes[i].kill()
	what, err := h.c.damage(i, tear, rng)
	if err != nil {
		return err
	}
	h.c.note("node %d: %s", i, what)
	h.pause(ctx, between(rng, 0, 2*time.Second))
	return h.c.nodes[i].start()
}

// damaged kills a node whose disk then loses what was synced, which no promise survives but that of the other members. So it
// happens only when all are well, and the node comes back when the others have everything that was acknowledged.
func damaged(how int) func(h *harm, ctx context.Context, rng *rand.Rand) error {
	return func(h *harm, ctx context.Context, rng *rand.Rand) error {
		i := h.victim(rng)
		n := h.c.nodes[i]
		n.kill()
		what, err := h.c.damage(i, how, rng)
		if err != nil {
			return err
		}
		h.c.note("node %d: %s", i, what)
		if err := h.othersAgree(ctx, i); err != nil {
			return errors.Join(err, n.start())
		}
		err = n.start()
		outcome := ", not noticed"
		if errors.Is(err, errCorrupt) {
			outcome = ", noticed by the store"
		} else if err == nil && !h.wholeOrFailed(ctx, n) {
			outcome, err = ", noticed by a group", errCorrupt
		}
		if errors.Is(err, errCorrupt) {
			n.kill()
			err = errors.Join(h.c.wipe(i), n.start())
		}
		h.mu.Lock()
		h.count[damageNames[how]+outcome]++
		h.mu.Unlock()
		if err == nil {
			h.awaitWhole(ctx)
		}
		return err
	}
}

// wholeOrFailed waits until the cluster is whole, or a group on the node has failed because it lost what it had acknowledged.
func (h *harm) wholeOrFailed(ctx context.Context, n *node) bool {
	for deadline := time.Now().Add(wholeWithin); time.Now().Before(deadline); {
		for _, g := range n.status() {
			if strings.Contains(g.Failed, logstore.ErrCorrupt.Error()) {
				return false
			}
		}
		if h.c.whole() == nil || !h.pause(ctx, 100*time.Millisecond) {
			break
		}
	}
	return true // or what is not whole is found out by the next who needs it to be
}

// othersAgree waits until all nodes but one have a leader among them, and what that leader had committed by then.
func (h *harm) othersAgree(ctx context.Context, but int) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && h.pause(ctx, 100*time.Millisecond); {
		var least [kinds]uint64
		for k := range kinds {
			l := h.c.leader(k)
			if l < 0 || l == but {
				break
			}
			if st := h.c.nodes[l].status(); st != nil && st[k].Online && st[k].Leads {
				least[k] = st[k].Committed + 1
			}
		}
		agree := !slices.Contains(least[:], 0)
		for wait := 50; agree && wait > 0; wait-- {
			behind := false
			for i, n := range h.c.nodes {
				if i == but {
					continue
				}
				st := n.status()
				for k := range least {
					behind = behind || st == nil || !st[k].Online || st[k].Committed+1 < least[k]
				}
			}
			if !behind {
				return nil
			}
			h.pause(ctx, 100*time.Millisecond)
		}
	}
	return fmt.Errorf("the other nodes do not agree without node %d", but)
}
