package core

import (
	"slices"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// goneMost bounds the histories that a member remembers to be over.
const goneMost = 16

// isGone reports whether this member knows the history to be over. One that was merely left for a fork may live on.
func (r *Replica) isGone(g wire.Genesis) bool {
	return slices.ContainsFunc(r.gone, func(x wire.Gone) bool { return x.From == g && x.Round == 0 })
}

// noteGone remembers that a history is over. Forks are remembered by those who took part in them only: to others the
// history that was left may be as good as the one that was begun.
func (r *Replica) noteGone(x wire.Gone) {
	if r.addGone(x) {
		r.keepRecord(func() {})
	}
}

// addGone does the same, but for the durable record. It reports whether that changes.
func (r *Replica) addGone(x wire.Gone) bool {
	if x.From.IsZero() || x.Into.IsZero() || x.From == x.Into {
		return false
	}
	same := func(o wire.Gone) bool { return o.From == x.From && o.Into == x.Into && o.Round == x.Round }
	i := slices.IndexFunc(r.gone, same)
	if i >= 0 && (r.gone[i].Lost || !x.Lost) {
		return false
	}
	r.gone = slices.DeleteFunc(slices.Clone(r.gone), same) // hellos that were sent hold the old ones
	if len(r.gone) >= goneMost {
		r.gone = r.gone[1:]
	}
	r.gone = append(r.gone, x)
	return true
}

// onGone follows news of histories that are over. It reports whether this member's was among them.
func (r *Replica) onGone(m *wire.Hello) bool {
	for _, x := range m.Gone {
		mine := !r.genesis.IsZero() && x.From == r.genesis
		switch {
		case !mine && x.Round == 0:
			r.noteGone(x)
		case mine && (x.Round == 0 || x.Round == r.recovery.round && r.recovery.sealed(r.now)):
			r.moveTo(x, false)
			return true
		}
	}
	return false
}

// moveTo leaves a history that is over for another one. final says that this member has followed the old one to its last
// entry, so that it knows which of its calls that took in.
func (r *Replica) moveTo(x wire.Gone, final bool) {
	news := News{Kind: NewsMerged, From: x.From, Into: x.Into, Commands: r.index, Lossy: x.Lost}
	if x.Round != 0 {
		news.Kind = NewsFollowed
	}
	r.due.news = append(r.due.news, news)
	kept := x.Round != 0 || r.cfg.Merge == MergeRepropose && !x.Lost
	if !kept {
		r.surface(x.Into)
	}
	r.addGone(x)
	r.becomeBlank()
	r.forgetHistory()
	r.startAnew()
	k := &r.client
	if final {
		for i := range k.calls {
			k.calls[i].sent = false
		}
	}
	if !kept {
		r.failSent()
		k.restart(r.newID())
	}
	r.home = x.Into
	r.announce()
	r.askToJoin()
}

// successor returns the history that one is part of now, as far as this member knows.
func (r *Replica) successor(g wire.Genesis) wire.Genesis {
	for range goneMost {
		i := slices.IndexFunc(r.gone, func(x wire.Gone) bool { return x.From == g && x.Round == 0 })
		if i < 0 {
			break
		}
		g = r.gone[i].Into
	}
	return g
}

// surface hands out the commands of this history that no other one has taken in, as far as the log has them. If it was cut,
// the driver keeps the state as well.
func (r *Replica) surface(into wire.Genesis) {
	calls, err := r.callsAfter(r.common)
	if err != nil {
		r.fatal = err
		return
	}
	n := News{Kind: NewsDivergence, From: r.genesis, Into: into, Commands: r.index, State: lacking(r.cut(), r.common)}
	for _, c := range calls {
		n.Items = append(n.Items, Item{First: c.index, Count: int(c.Count), Payload: c.Payload})
	}
	r.due.news = append(r.due.news, n)
}

// keyOf returns the key of the history that a peer belongs to.
func keyOf(h *wire.Hello) genesis.Key {
	return genesis.Key{Forced: h.Forced, Commands: h.Commands, ID: h.Genesis}
}
