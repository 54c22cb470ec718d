package pebble_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// A durable group that is joined with another setting is another group, which is said, until the old one is joined too.
func TestChangedSettingIsNoticed(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 1)
	tm.online(0)
	tm.write(0, "one")
	if s := tm.groups[0].Status(); s.Note != "" {
		t.Errorf("the first life has the note %q", s.Note)
	}
	first, opts := tm.groups[0].ID(), tm.opts
	tm.net.Close(0)

	tm.opts = append(opts[:len(opts):len(opts)], groups.WithConsensus(groups.Consensus{BootstrapDelay: 300 * time.Millisecond, RemoveAfter: 12 * time.Second}))
	changed := tm.restart(0)
	tm.online(0)
	tm.reads(nil, 0)
	if s := changed.Status(); !strings.Contains(s.Note, "holds 1 that nobody has joined") || !strings.Contains(s.Note, first.Short()) {
		t.Errorf("the note is %q, want one of group %s", s.Note, first.Short())
	}
	tm.opts = opts
	if old := tm.join(0); old.Status().Note != "" || old.ID() != first {
		t.Errorf("the note of the old group is %q", old.Status().Note)
	}
	tm.online(0)
	tm.reads([]string{"one"}, 0)
	if s := changed.Status(); s.Note != "" {
		t.Errorf("with both groups joined the note is %q", s.Note)
	}
	changed.Close()
	if s := tm.join(0).Status(); s.Note != "" {
		t.Errorf("a further handle has the note %q", s.Note)
	}
}

// journal2 is the journal's next version: it takes over what the one before had, once, and numbers nothing but what is new.
type journal2 struct {
	journal
	imported bool
}

type note struct {
	Import bool
	Lines  []string
}

func (*journal2) Signature() id.ID { return id.Of("journal v2") }

func (j *journal2) Apply(_ groups.ApplyContext, e note) []string {
	if e.Import && j.imported {
		return nil
	}
	j.imported = j.imported || e.Import
	j.lines = append(j.lines, e.Lines...)
	return e.Lines
}

// All nodes join the old and the new group; two of them bring the state over at once, and it arrives once. Then the old one is left
// and its logs are gone.
func TestMoveToAnotherSignature(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 3)
	tm.online(0, 1, 2)
	tm.voters(0, 3)
	tm.write(0, "one")
	tm.write(1, "two")
	for i := range 3 {
		tm.net.Close(i)
	}
	for i := range 3 {
		tm.restart(i)
		for j := range i {
			tm.meet(i, j)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var news []*groups.Group[note, struct{}, []string]
	for i := range 3 {
		g, err := groups.Join(tm.net.Node(i), tm.key, func() *journal2 { return new(journal2) }, groups.ExpectMembers(3))
		if err != nil {
			t.Fatal(err)
		}
		news = append(news, g)
	}
	took := 0
	for i := range 2 {
		old, err := tm.groups[i].Query(ctx, struct{}{}, groups.Strong)
		if err != nil {
			t.Fatal(err)
		}
		done, err := news[i].Execute(ctx, note{Import: true, Lines: old.Value})
		if err != nil {
			t.Fatal(err)
		}
		if done.Value != nil {
			took++
		}
	}
	if took != 1 {
		t.Errorf("the state was taken over %d times", took)
	}
	if _, err := news[2].Execute(ctx, note{Lines: []string{"three"}}); err != nil {
		t.Fatal(err)
	}
	for i, g := range news {
		res, err := g.Query(ctx, struct{}{}, groups.Strong)
		if want := []string{"one", "two", "three"}; err != nil || !slices.Equal(res.Value, want) {
			t.Errorf("node %d has %q, %v, want %q", i, res.Value, err, want)
		}
		if err := tm.groups[i].Leave(ctx); err != nil {
			t.Errorf("leave the old group: %v", err)
		}
	}
	for i := range 3 {
		tm.net.Close(i)
		if held, err := groups.InspectStore(ctx, tm.stores[i]); err != nil || len(held) != 1 || held[0].Group != news[i].ID() {
			t.Errorf("node %d holds %v, %v", i, held, err)
		}
	}
}

// fragile is a journal whose first version cannot take a certain line.
type fragile struct {
	journal
	mended bool
}

func (f *fragile) Apply(ctx groups.ApplyContext, line string) []string {
	if line == "poison" {
		if !f.mended {
			panic("cannot take poison")
		}
		line = "(left out)"
	}
	return f.journal.Apply(ctx, line)
}

// A command at which Apply panics stops the group at every start, until a version comes that takes it. That one has the same
// signature: no member has applied the command.
func TestPoisonCommand(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tm := newTeam(t, 0)
	start := func(mended bool) (*groups.Group[string, struct{}, []string], func()) {
		if len(tm.net.Up()) == 0 && len(tm.groups) == 0 {
			tm.net.Add(mosaik.WithStorage(s))
			tm.groups = append(tm.groups, nil)
		} else {
			tm.net.Restart(0)
		}
		g, err := groups.Join(tm.net.Node(0), tm.key, func() *fragile { return &fragile{mended: mended} }, tm.opts...)
		if err != nil {
			t.Fatal(err)
		}
		return g, func() { tm.net.Close(0) }
	}
	var panicked *groups.PanicError
	g, stop := start(false)
	if _, err := g.Execute(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Execute(ctx, "poison"); !errors.As(err, &panicked) {
		t.Fatalf("poison: %v", err)
	}
	stop()
	g, stop = start(false)
	tm.net.WaitFor("it fails again", func() bool { return errors.As(g.Status().Failed, &panicked) })
	stop()
	g, stop = start(true)
	defer stop()
	if _, err := g.Execute(ctx, "two"); err != nil {
		t.Fatal(err)
	}
	if res, err := g.Query(ctx, struct{}{}, groups.Strong); err != nil || !slices.Equal(res.Value, []string{"one", "(left out)", "two"}) {
		t.Fatalf("the mended machine has %q, %v", res.Value, err)
	}
}

// A durable member that is started with another preference keeps the one with which it joined, which is said.
func TestChangedPreferenceIsNoticed(t *testing.T) {
	t.Parallel()
	tm := newTeam(t, 1)
	tm.online(0)
	opts := tm.opts
	tm.net.Close(0)
	tm.opts = append(opts[:len(opts):len(opts)], groups.WithPreference(groups.Reluctant))
	g := tm.restart(0)
	tm.online(0)
	if s := g.Status(); !strings.Contains(s.Note, "started with the preference Reluctant, and the group has it with Normal") {
		t.Errorf("the note is %q", s.Note)
	}
}
