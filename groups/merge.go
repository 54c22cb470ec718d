package groups

import (
	"errors"
	"fmt"
	"io"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// Divergence is commands that a history of the group held when it merged into another one, and that were not taken over
// as they are. Histories and merging are explained in docs/groups.md.
type Divergence[C any] struct {
	From     string // the history that is over, by the name that Status has
	Into     string // the one that took its place; empty while it is not decided
	First    Index  // of the first command in From; the others follow without gaps
	Commands []C

	// Snapshot writes the state that the machine had at the end of From, as its [View] does. It is nil unless this member's
	// log was cut: then Commands are only the last ones, and the state is all that is left of those before. It waits for
	// the machine to come to the end of From. The latest two states are kept, in memory also by a durable member, until the
	// group is closed on this node; after that WriteTo fails.
	Snapshot io.WriterTo
}

// ErrStateGone reports that the state of a [Divergence] is not kept any more.
var ErrStateGone = host.ErrStateGone

// MergeRepropose is the default of what happens when two histories of a group that were founded or went on apart from
// each other meet: all commands of the one that gives way are proposed again in the other one, in their order, each
// exactly once. Nothing that was acknowledged is lost, but commands take effect after commands that they did not see.
//
// A history whose log was cut so that it lacks commands that the other one does not have either cannot be proposed again. If
// that is so of one of the two, the other one gives way. If it is so of both, one gives way as with [MergeSurface], whatever
// the policy: its members have a [Diverged] event and a [Divergence] with the state that it had.
func MergeRepropose() Option {
	return func(o *options) error {
		o.merge, o.resolve = core.MergeRepropose, nil
		return nil
	}
}

// MergeSurface has merges drop the commands of the history that gives way: each member of it tells of them by a [Diverged]
// event and keeps them for [Group.Divergences]. Commands that both histories have from a common past stay. All members
// must use the same policy; it is part of the group's id.
func MergeSurface() Option {
	return func(o *options) error {
		o.merge, o.resolve = core.MergeSurface, nil
		return nil
	}
}

// MergeFunc has resolve say which commands are proposed in place of those of a history that gives way. It is called by one
// member of that history, or by several after each other if the first fails, so its answer must depend on its argument
// alone; it must not block. Commands that it leaves out are dropped; all are reported as by [MergeSurface]. Should it
// panic, nothing is proposed. All members must use the same policy; that it is a function is part of the group's id.
func MergeFunc[C any](resolve func(Divergence[C]) []C) Option {
	return func(o *options) error {
		if resolve == nil {
			return errors.New("groups: MergeFunc: the function is nil")
		}
		o.merge, o.resolve = core.MergeResolve, resolve
		return nil
	}
}

// resolver makes the application's function usable for the engine, which knows bytes only.
func resolver[C any](chosen any, c codec.Codec[C]) (func([]core.Item) []core.Resolved, error) {
	if chosen == nil {
		return nil, nil
	}
	resolve, ok := chosen.(func(Divergence[C]) []C)
	if !ok {
		return nil, fmt.Errorf("%w: MergeFunc has a %T, commands are %T", ErrTypeMismatch, chosen, *new(C))
	}
	return func(items []core.Item) (out []core.Resolved) {
		defer func() {
			if recover() != nil {
				out = nil
			}
		}()
		d := Divergence[C]{First: 1}
		d.fill(c, items)
		for _, cmd := range resolve(d) {
			if payload, err := c.Append(nil, &cmd); err == nil && len(payload) <= MaxCallBytes {
				out = append(out, core.Resolved{Count: 1, Payload: payload})
			}
		}
		return out
	}, nil
}

// fill decodes commands. What the codec cannot read had no effect on any member and is left out.
func (d *Divergence[C]) fill(c codec.Codec[C], items []core.Item) {
	a := adapter[C, struct{}, struct{}]{codec: c}
	for i := range items {
		if i == 0 {
			d.First = Index(items[i].First)
		}
		before := len(a.commands)
		if err := a.decode(&items[i]); err != nil {
			a.commands = a.commands[:before]
		}
	}
	d.Commands = a.commands
}

// Divergences returns the commands that merges did not take over as they are, of the latest 16 merges that this member
// took part in, oldest first. They are kept in memory only, also with a durable log: read them when the [Diverged]
// event comes.
func (g *Group[C, Q, R]) Divergences() []Divergence[C] {
	var out []Divergence[C]
	for _, n := range g.host.Diverged() {
		d := Divergence[C]{From: host.HistoryName(n.From), Into: host.HistoryName(n.Into), First: 1}
		d.fill(g.codec, n.Items)
		if n.State != nil {
			d.Snapshot = n.State
		}
		out = append(out, d)
	}
	return out
}
