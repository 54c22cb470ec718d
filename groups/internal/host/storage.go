package host

import (
	"bytes"
	"sync/atomic"

	"github.com/mosaik-go/mosaik/groups/logstore"
)

// relay hands what a log reports to its group, which is made after the log.
type relay struct{ to atomic.Pointer[Group] }

func (r *relay) persisted(seq uint64, err error) {
	if g := r.to.Load(); g != nil {
		g.persisted(seq, err)
	}
}

// persisted is called by the store when batches of the group's log are safe, or will not be.
func (g *Group) persisted(seq uint64, err error) {
	g.mu.Lock()
	if !g.dead && !g.halted {
		g.box.stored = max(g.box.stored, seq)
		if g.box.failed == nil {
			g.box.failed = err
		}
		g.kickLocked()
	}
	g.mu.Unlock()
}

// forgetLog makes the log of a group that this node has left empty, so that it does not come back as a member that the
// others have removed.
func (g *Group) forgetLog() {
	if g.store == nil || !g.cfg.Engine.Durable {
		return
	}
	b := logstore.Forget()
	b.Schema = []byte{}
	if _, _, err := g.store.Submit(b); err != nil {
		g.log.Warn("cannot forget the log of a group that was left; at the next start this member finds out that it was removed", "err", err)
	}
}

// closeLog ends the use of the log, once the engine is not called any more.
func (g *Group) closeLog() {
	if g.store == nil {
		return
	}
	if err := g.store.Close(); err != nil {
		g.log.Warn("cannot close the log", "err", err)
	}
}

// checkSchema asks whether the commands in the log are those of the program, and returns what the log is to say of them. A
// log with nothing in it says nothing.
func checkSchema(cfg *GroupConfig, log logstore.Log) ([]byte, error) {
	if cfg.Schema == nil {
		return nil, nil
	}
	var stored []byte
	if len(log.Record()) > 0 {
		stored = log.Schema()
	}
	return cfg.Schema(stored)
}

// keepSchema has the log say of its commands what checkSchema returned, before anything else is written to it.
func keepSchema(log logstore.Log, schema []byte) error {
	if schema == nil || bytes.Equal(schema, log.Schema()) {
		return nil
	}
	_, _, err := log.Submit(logstore.Batch{Schema: schema})
	return err
}
