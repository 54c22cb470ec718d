package host

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// A group whose key, machine signature or settings were changed is another group, and begins with nothing, while the store
// still holds what the old one had. The inventories of the stores that a node uses tell of that.

// settleTime is how long a program has after its first Join to join all groups of a store before those that are left are
// told of. A group of which the store had nothing tells at once.
const settleTime = 30 * time.Second

// inventory is what a durable store held when the node first used it.
type inventory struct {
	store  logstore.Store
	since  time.Time
	held   []id.ID
	joined map[id.ID]bool
}

// left returns the groups that nobody has joined.
func (v *inventory) left() (out []id.ID) {
	for _, g := range v.held {
		if !v.joined[g] {
			out = append(out, g)
		}
	}
	return out
}

// inventories are those of a node's stores, hardly ever more than one.
type inventories struct {
	mu  sync.Mutex
	all []*inventory
}

// join notes that a group is joined. It reports whether it is the first of its store, whether the store had nothing of it,
// and then, which groups it holds that nobody has joined.
func (v *inventories) join(store logstore.Store, group id.ID) (first, fresh bool, others []id.ID) {
	l, ok := store.(logstore.Lister)
	if !ok || !store.Durable() || !reflect.TypeOf(store).Comparable() {
		return false, false, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	at := v.of(store)
	if at == nil {
		held, err := l.Groups()
		if err != nil {
			return false, false, nil // whoever opens the log hears of it
		}
		first = true
		at = &inventory{store: store, since: time.Now(), held: held, joined: make(map[id.ID]bool)}
		v.all = append(v.all, at)
	}
	if slices.Contains(at.held, group) {
		at.joined[group] = true
		return first, false, nil
	}
	return first, true, at.left()
}

// others returns the groups that a store holds and nobody has joined, and whether there was time to.
func (v *inventories) others(store logstore.Store) (left []id.ID, settled bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at := v.of(store); at != nil {
		return at.left(), time.Since(at.since) >= settleTime
	}
	return nil, false
}

func (v *inventories) of(store logstore.Store) *inventory {
	for _, at := range v.all {
		if at.store == store {
			return at
		}
	}
	return nil
}

// tellOrphans warns, once there was time to join them, of the groups of a store that nobody has joined.
func (s *Service) tellOrphans(ctx context.Context, store logstore.Store) {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	if left, _ := s.stores.others(store); len(left) > 0 {
		s.log.Warn("the store holds groups that nobody has joined on this node: another key, machine signature or setting makes another group",
			"groups", len(left), "such_as", left[0].Short())
	}
}

// orphans says in words that there are groups in the store that nobody has joined: at once if this one began with nothing,
// else when there was time to join them.
func (g *Group) orphans() string {
	others, settled := g.svc.stores.others(g.cfg.Storage)
	if len(others) == 0 || !g.fresh && !settled {
		return ""
	}
	if !g.fresh {
		return fmt.Sprintf("the store holds %d groups that nobody has joined on this node, such as %s: "+
			"another key, machine signature or setting makes another group", len(others), others[0].Short())
	}
	return fmt.Sprintf("the store had nothing of this group, and holds %d that nobody has joined on this node, such as %s: "+
		"another key, machine signature or setting makes another group", len(others), others[0].Short())
}
