//go:build linux

package faultrun

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

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
