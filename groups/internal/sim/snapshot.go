package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/id"
)

// snapshot is an image of a node's state machine, or what was fetched of one. What was applied is part of the state, so
// that replicas can be compared whether they applied it or fetched it.
type snapshot struct {
	root   core.Root
	state  Machine
	log    []Entry
	engine []byte
}

// hash names the state.
func (s *snapshot) hash() core.Root {
	var b strings.Builder
	b.Write(s.engine)
	for _, name := range slices.Sorted(maps.Keys(s.state)) {
		fmt.Fprintf(&b, "%s=%s ", name, s.state[name])
	}
	fmt.Fprint(&b, s.log)
	return id.Of(b.String())
}

func (s *snapshot) clone() *snapshot {
	return &snapshot{root: s.root, state: maps.Clone(s.state), log: slices.Clone(s.log), engine: s.engine}
}

// takeView makes an image of the machine as it is now, which takes a while and may fail.
func (n *Node) takeView(m *core.Mark) {
	w := n.w
	s := (&snapshot{state: n.State, log: n.Log, engine: w.Bugs.engineState(m.State)}).clone()
	w.After(time.Duration(w.Rng.Int64N(int64(500*time.Millisecond))), func() {
		n.do(func() {
			if w.Rng.IntN(20) == 0 {
				n.eng.Imaged(n.clock(), m.ID, core.Root{})
				return
			}
			s.root = s.hash()
			if w.Bugs.OddImages && n.Index == 1 {
				s.root = s.root.Derive([]byte("odd"))
			}
			n.images[m.ID] = s
			n.keep(m.ID, m.Index, s)
			n.eng.Imaged(n.clock(), m.ID, s.root)
		})
	})
}

// followSnapshots does what the engine wants to be done about snapshots.
func (n *Node) followSnapshots() {
	for _, mark := range n.out.Drop {
		delete(n.images, mark)
		n.forget(mark)
	}
	for _, d := range n.out.Diverged {
		n.w.tracef("%v diverged: %+v", n, d)
		n.w.Diverged++
	}
	if n.out.Fetch == nil {
		return
	}
	n.fetch = *n.out.Fetch
	if n.fetch.ID != 0 {
		n.fetchLater(n.w.now)
	}
}

// fetchLater looks for somebody to fetch from, in a moment, and again for a few seconds after the given time.
func (n *Node) fetchLater(since time.Duration) {
	w, f := n.w, n.fetch
	soon := func(most time.Duration, what func()) {
		w.After(time.Duration(w.Rng.Int64N(int64(most))), func() {
			n.do(func() {
				if n.fetch.ID == f.ID {
					what()
				}
			})
		})
	}
	soon(300*time.Millisecond, func() {
		from := w.nodes[w.Rng.IntN(len(w.nodes))]
		reachable := func() bool {
			return from.Alive && !from.paused && n.bonds[from.Index] != nil && from.bonds[n.Index] != nil &&
				!w.cut[[2]int{n.Index, from.Index}] && !w.cut[[2]int{from.Index, n.Index}]
		}
		mark, s := from.imageOf(f.Root)
		switch {
		case w.now-since > 5*time.Second:
			n.eng.Fetched(n.clock(), f.ID, nil, errors.New("nobody has it"))
			return
		case from == n || !reachable() || s == nil:
			n.fetchLater(since)
			return
		}
		from.do(func() { from.eng.ImageUsed(from.clock(), mark) })
		soon(2*time.Second, func() {
			if _, still := from.imageOf(f.Root); still == nil || !reachable() || w.Rng.IntN(4) == 0 {
				n.eng.FetchProgress(n.clock(), f.ID, w.Rng.Int64N(1000), 1000) // a part, and the rest from somebody else
				n.fetchLater(w.now)
				return
			}
			n.ready, n.readyAt = s.clone(), f.Index
			if n.disk != nil {
				n.disk.images[f.Index] = n.ready.clone() // before it takes the place of the log
			}
			if w.Bugs.UncheckedState {
				n.ready.state["x"] = "1"
			}
			n.eng.Fetched(n.clock(), f.ID, s.engine, nil)
		})
	})
}

// imageOf returns the image with a root, of the lowest mark if there are more.
func (n *Node) imageOf(root core.Root) (uint64, *snapshot) {
	for _, mark := range slices.Sorted(maps.Keys(n.images)) {
		if n.images[mark].root == root {
			return mark, n.images[mark]
		}
	}
	return 0, nil
}

// install replaces the machine by the one that was fetched.
func (n *Node) install(i *core.Install) {
	n.w.tracef("%v installs a snapshot of %d commands", n, i.User)
	n.w.Installed++
	if i.Saved != 0 {
		n.ready = n.first.clone()
	} else if i.Mark != 0 {
		n.images[i.Mark] = n.disk.images[n.readyAt]
		n.at[i.Mark] = n.readyAt
	}
	n.State, n.Log, n.ready = n.ready.state, n.ready.log, nil
	n.w.mix(nil, n.Index, int(i.User))
	if n.w.Loaded != nil {
		n.w.Loaded(n)
	}
}

// engineState is what a buggy engine would put into a snapshot.
func (b *Bugs) engineState(raw []byte) []byte {
	if !b.SnapshotIndex && !b.SnapshotSessions && !b.SnapshotVotes {
		return raw
	}
	s, err := core.DecodeState(raw)
	if err != nil {
		panic(err)
	}
	if b.SnapshotIndex && s.User > 0 {
		s.User--
	}
	if b.SnapshotSessions {
		s.Table.Sessions = member.NewSessions(0)
	}
	for _, row := range s.Table.All() {
		if b.SnapshotVotes {
			row.Voter = false
		}
	}
	return s.Encode()
}
