package host

import (
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// A group whose key, machine signature or settings were changed is another group, and begins with nothing, while the store
// still holds what the old one had. The inventories of the stores that a node uses tell of that.

// inventory is what a durable store held when the node first used it.
type inventory struct {
	store  logstore.Store
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

// join notes that a group is joined. It reports whether the store had nothing of it, and then, which groups it holds that
// nobody has joined.
func (v *inventories) join(store logstore.Store, group id.ID) (fresh bool, others []id.ID) {
	l, ok := store.(logstore.Lister)
	if !ok || !store.Durable() || !reflect.TypeOf(store).Comparable() {
		return false, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	at := v.of(store)
	if at == nil {
		held, err := l.Groups()
		if err != nil {
			return false, nil // whoever opens the log hears of it
		}
		at = &inventory{store: store, held: held, joined: make(map[id.ID]bool)}
		v.all = append(v.all, at)
	}
	if slices.Contains(at.held, group) {
		at.joined[group] = true
		return false, nil
	}
	return true, at.left()
}

// others returns the groups that a store holds and nobody has joined.
func (v *inventories) others(store logstore.Store) []id.ID {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at := v.of(store); at != nil {
		return at.left()
	}
	return nil
}

func (v *inventories) of(store logstore.Store) *inventory {
	for _, at := range v.all {
		if at.store == store {
			return at
		}
	}
	return nil
}

// orphans says in words that this group began with nothing beside groups in the store that nobody has joined.
func (g *Group) orphans() string {
	if !g.fresh {
		return ""
	}
	others := g.svc.stores.others(g.cfg.Storage)
	if len(others) == 0 {
		return ""
	}
	return fmt.Sprintf("the store had nothing of this group, and holds %d that nobody has joined on this node, such as %s: "+
		"another key, machine signature or setting makes another group", len(others), others[0].Short())
}
