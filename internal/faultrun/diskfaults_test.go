//go:build linux

package faultrun

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/logstore"
)

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
