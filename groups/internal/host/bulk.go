package host

import (
	"context"
	"errors"

	"github.com/mosaik-go/mosaik/id"
)

// bulkEvent is something about images or a fetch that the engine must hear of.
type bulkEvent struct {
	kind        bulkKind
	id          uint64 // of the mark or the fetch
	root        id.ID  // for bulkImaged; zero: it failed
	done, total int64  // for bulkProgress
	state       []byte // for bulkFetched
	err         error  // likewise, and for bulkImaged
}

type bulkKind uint8

const (
	bulkImaged bulkKind = iota
	bulkUsed
	bulkProgress
	bulkFetched
)

// tellBulk puts an event into the mailbox. There are few: a handful for each image and fetch, and one now and then while
// they are in use.
func (g *Group) tellBulk(ev bulkEvent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead || g.halted {
		return
	}
	g.box.bulk = append(g.box.bulk, ev)
	g.kickLocked()
}

// bulkEvent hands an event to the engine.
func (g *Group) bulkEvent(ev *bulkEvent) {
	now, e := g.svc.now(), g.engine
	switch ev.kind {
	case bulkImaged:
		e.Imaged(now, ev.id, ev.root)
		g.imageEnded(ev.err)
	case bulkUsed:
		e.ImageUsed(now, ev.id)
	case bulkProgress:
		e.FetchProgress(now, ev.id, ev.done, ev.total)
	case bulkFetched:
		e.Fetched(now, ev.id, ev.state, ev.err)
		if ev.err != nil && g.fetch != nil && g.fetch.order.ID == ev.id && !errors.Is(ev.err, context.Canceled) {
			g.fetchFailed(ev.err, g.fetch.order.Index)
		}
	}
}
