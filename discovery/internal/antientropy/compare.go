package antientropy

import (
	"cmp"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// In returns the items that are in one of the given buckets of n.
func In(items []Item, buckets []uint32, n int) []Item {
	chosen := make(map[uint32]bool, len(buckets))
	for _, b := range buckets {
		chosen[b] = true
	}
	var out []Item
	for i := range items {
		if chosen[bucket(items[i].Prefix, n)] {
			out = append(out, items[i])
		}
	}
	return out
}

// Plan is what the side that has both lists does next.
type Plan struct {
	Send      []id.PeerID // everything about these peers
	SendBeats []id.PeerID // only the latest beat
	Want      wire.Prefixes
}

// Compare plans the exchange between mine and theirs, which are from the same buckets. Rows of theirs that accept turns
// down are not asked for.
func Compare(mine []Item, theirs []wire.Row, step int64, accept func(*wire.Row) bool) Plan {
	var plan Plan
	at := make(map[wire.Prefix]int, len(mine))
	for i := range mine {
		at[mine[i].Prefix] = i
	}
	met := make([]bool, len(mine))
	for i := range theirs {
		t := &theirs[i]
		j, ok := at[t.Prefix]
		if !ok {
			if accept(t) {
				plan.Want.Entries = append(plan.Want.Entries, t.Prefix)
			}
			continue
		}
		if met[j] {
			continue // a row twice: the first counts
		}
		met[j] = true
		plan.settle(&mine[j], t, step, accept)
	}
	for j := range mine {
		if !met[j] {
			plan.Send = append(plan.Send, mine[j].Peer)
		}
	}
	return plan
}

// settle plans the exchange about one peer that both sides know.
func (p *Plan) settle(m *Item, t *wire.Row, step int64, accept func(*wire.Row) bool) {
	newer := cmp.Or(cmp.Compare(m.Start, t.Start), cmp.Compare(rank(&m.Row), rank(t)), cmp.Compare(m.Update, t.Update))
	// Equal versions with different contents: the peer has signed both. Each side gets the other's, and both choose alike.
	twins := newer == 0 && !m.Departed && m.Check != t.Check
	send, want := newer > 0 || twins, newer < 0 || twins
	if send {
		p.Send = append(p.Send, m.Peer)
	}
	if want && accept(t) {
		p.Want.Entries = append(p.Want.Entries, t.Prefix)
	}
	if m.Start != t.Start || m.Departed || t.Departed {
		return
	}
	// An entry takes the latest beat along. But the side with the older content may have the younger sign of life.
	switch fresher := cmp.Compare(age(&m.Row, step), age(t, step)); {
	case fresher > 0 && !send:
		p.SendBeats = append(p.SendBeats, m.Peer)
	case fresher < 0 && !want && accept(t):
		p.Want.Beats = append(p.Want.Beats, t.Prefix)
	}
}
