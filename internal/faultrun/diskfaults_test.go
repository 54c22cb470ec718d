//go:build linux

package faultrun

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mosaik-go/mosaik/groups/logstore"
)

// noRoom is what a node says that meets a full disk.
var noRoom = syscall.ENOSPC.Error()

// diskFull leaves a node no room until its groups have failed, and starts it again with room. Sometimes it is started before
// there is room again, and may come up or not.
func diskFull(h *harm, ctx context.Context, rng *rand.Rand) error {
	i := h.victim(rng)
	release, err := h.take(i)
	if err != nil {
		return err
	}
	defer release()
	n := h.c.nodes[i]
	said, err := h.fill(ctx, n, rng.IntN(kinds), 30*time.Second)
	h.c.note("all groups of node %d have failed: %t, %v", i, said, err)
	if said {
		h.tally("disk full, noticed by the groups")
		h.pause(ctx, between(rng, 0, 2*time.Second))
	}
	n.kill()
	if said && rng.IntN(3) == 0 {
		first := n.start()
		if first == nil {
			h.tally("disk full, and the node comes up again")
			h.pause(ctx, between(rng, 0, 2*time.Second))
			n.kill()
		} else if h.tally("disk full, and the node does not come up again"); !strings.Contains(first.Error(), noRoom) {
			err = errors.Join(err, first)
		}
	}
	return errors.Join(err, h.c.freeDisk(i), n.start())
}

// fill makes the disk of a node full, and has the node write until all its groups have failed, which it reports, or it was
// long enough. The store takes room for its log by some 18 MiB at a time, and writes into that at first, so a client of
// the node sends long commands to a group.
func (h *harm) fill(ctx context.Context, n *node, group int, within time.Duration) (said bool, err error) {
	p, client := n.living(), h.load.client()
	if p == nil {
		return false, nil
	}
	h.c.note("the disk of node %d is full", n.index)
	number := uint64(0)
	for deadline := time.Now().Add(within); time.Now().Before(deadline) && h.pause(ctx, time.Millisecond); {
		if err := h.c.fillDisk(n.index); err != nil { // again, since files are removed as well
			return false, err
		}
		number++
		h.load.call(client, p, request{Ask: "do", Group: group, Pad: 64 << 10, Within: 2 * time.Second,
			Command: command{ID: commandID(client, p, number), Do: add, Key: 1<<31 + uint32(client), New: 1}})
		st := n.status()
		said = st != nil
		for _, g := range st {
			said = said && g.Failed != ""
			if g.Failed != "" && !strings.Contains(g.Failed, noRoom) {
				return said, fmt.Errorf("node %d has failed, but not for want of room: %s", n.index, g.Failed)
			}
		}
		if said {
			break
		}
	}
	return said, nil
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
// happens only when all are well, and the node comes back when the others have everything that was acknowledged. The end of
// the run does not shorten it.
func damaged(how int) func(h *harm, ctx context.Context, rng *rand.Rand) error {
	return func(h *harm, ctx context.Context, rng *rand.Rand) error {
		ctx = context.WithoutCancel(ctx)
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
		h.tally(damageNames[how] + outcome)
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
	for deadline := time.Now().Add(wholeWithin); time.Now().Before(deadline) && h.pause(ctx, 100*time.Millisecond); {
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
