package pebble_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// shelf is a machine whose state can be written out: numbers by name.
type shelf struct {
	Sums    map[string]int
	applied int // here, which is not part of the state
}

func newShelf() *shelf { return &shelf{Sums: make(map[string]int)} }

func (*shelf) Signature() id.ID { return id.Of("shelf v1") }

func (s *shelf) Apply(_ groups.ApplyContext, name string) map[string]int {
	s.Sums[name]++
	s.applied++
	return nil
}

func (s *shelf) Query(name string) map[string]int {
	if name != "" {
		return map[string]int{name: s.Sums[name]}
	}
	total := 0
	for _, n := range s.Sums {
		total += n
	}
	return map[string]int{"total": total, "applied": s.applied}
}

func (s *shelf) Snapshot() (groups.View, error) {
	b, err := json.Marshal(s) // sorts the keys of maps
	return groups.BytesView(b), err
}

func (s *shelf) Restore(r io.Reader) error { return json.NewDecoder(r).Decode(s) }

type shelfGroup = groups.Group[string, string, map[string]int]

// A member whose log was cut comes back from the image of its state and what follows it in the log, and applies only that.
func TestComesBackFromImage(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3)
	tm.online(0, 1, 2)
	key := groups.RandomKey()
	var shelves [3]*shelfGroup
	join := func(i int) {
		g, err := groups.Join(tm.net.Node(i), key, newShelf,
			groups.WithRetention(groups.Retention{Keep: 20, Most: 100}), hurried, groups.ExpectMembers(3))
		if err != nil {
			t.Fatal(err)
		}
		shelves[i] = g
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	online := func() {
		for _, g := range shelves {
			if err := g.When().Online(ctx); err != nil {
				t.Fatalf("%v\n%s", err, g.Status())
			}
		}
	}
	for i := range 3 {
		join(i)
	}
	online()
	total := 0
	for round := range 3 {
		for cut := false; !cut; {
			for range 100 {
				if _, err := shelves[total%3].Execute(ctx, fmt.Sprint("item ", total%50)); err != nil {
					t.Fatal(err)
				}
				total++
			}
			time.Sleep(1100 * time.Millisecond) // the status is up to a second behind with the log
			cut = true
			for _, g := range shelves {
				st := g.Status()
				cut = cut && st.LogCut && st.LogEntries < total/2
			}
			if ctx.Err() != nil {
				t.Fatalf("the logs are not cut: %+v", shelves[0].Status())
			}
		}
		genesis := shelves[0].Status().Genesis
		for i := range 3 {
			tm.net.Kill(i)
		}
		for i := range 3 {
			tm.net.Restart(i)
			join(i)
		}
		online()
		for i, g := range shelves {
			res, err := g.Query(ctx, "", groups.Strong)
			if err != nil {
				t.Fatal(err)
			}
			if res.Value["total"] != total || res.Index != groups.Index(total) {
				t.Fatalf("round %d: node %d has %d at index %d, want %d", round, i, res.Value["total"], res.Index, total)
			}
			if res.Value["applied"] > total*3/4 {
				t.Errorf("round %d: node %d applied %d of %d commands again", round, i, res.Value["applied"], total)
			}
			if g.Status().Genesis != genesis {
				t.Errorf("another history")
			}
		}
	}
	t.Logf("%d commands", total)
}
