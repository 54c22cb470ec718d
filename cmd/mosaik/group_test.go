package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

type tally struct{ n int64 }

func (*tally) Signature() id.ID                               { return id.Of("tally v1") }
func (c *tally) Apply(_ groups.ApplyContext, add int64) int64 { c.n += add; return c.n }
func (c *tally) Query(struct{}) int64                         { return c.n }

// run runs the command and returns what it prints.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func mustContain(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in\n%s", w, text)
		}
	}
}

// Of three durable nodes two are lost; the directory of the third is looked at, recovered by the command, and used.
func TestRecoverDirectory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	net := testnet.Loopback(t, 0)
	key := groups.RandomKey()
	unshaken := groups.WithConsensus(groups.Consensus{Patience: time.Minute}) // however busy this machine is
	join := func(n *mosaik.Network, opts ...groups.Option) *groups.Group[int64, struct{}, int64] {
		g, err := groups.Join(n, key, func() *tally { return new(tally) }, append(opts, unshaken)...)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	var dirs []string
	var gs []*groups.Group[int64, struct{}, int64]
	var stores []interface{ Close() error }
	for range 3 {
		dir := t.TempDir()
		s, err := pebble.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		dirs, stores = append(dirs, dir), append(stores, s)
		net.Add(mosaik.WithStorage(s))
	}
	t.Cleanup(func() {
		for _, i := range net.Up() {
			net.Close(i)
		}
	})
	net.DiscoverAll(ctx)
	for i := range 3 {
		gs = append(gs, join(net.Node(i)))
	}
	net.WaitFor("three voters", func() bool { return gs[2].Status().Voters == 3 && gs[2].Status().Online })
	for range 5 {
		if _, err := gs[2].Execute(ctx, 2); err != nil {
			t.Fatal(err)
		}
	}
	before := gs[2].Status()
	if _, err := run(t, "group", "list", dirs[2]); err == nil || !strings.Contains(err.Error(), "in use by a running node") {
		t.Errorf("a store in use was opened, or it is not said why not: %v", err)
	}
	for i := range 3 {
		net.Kill(i)
	}
	if err := stores[2].Close(); err != nil {
		t.Fatal(err)
	}

	if _, err := run(t, "group", "list", t.TempDir()); err == nil {
		t.Error("an empty directory is a store")
	}
	list := func() string {
		t.Helper()
		text, err := run(t, "group", "list", dirs[2])
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := list()
	mustContain(t, first, before.Group.String(), "history    "+before.Genesis, "5 commands", "commands   postcard/1 i64", "recovery   possible: recovery of history", net.Node(0).ID().String()+" (voter, durable)")
	if _, err := run(t, "group", "recover", dirs[2], "nothing"); err == nil {
		t.Error("a group that is not there was recovered")
	}
	text, err := run(t, "group", "recover", dirs[2])
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, text, "goes on", "are lost", net.Node(1).ID().Short()+" is missing", "--yes does it")
	if again := list(); again != first {
		t.Errorf("a plan has changed\n%s\ninto\n%s", first, again)
	}
	text, err = run(t, "group", "recover", dirs[2], before.Group.String()[:12], "--yes")
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, text, "recovered")
	mustContain(t, list(), "from "+before.Genesis, "by order", "majority by itself")
	if text, err = run(t, "group", "recover", dirs[2], "--yes"); err != nil || !strings.Contains(text, "nothing to recover") {
		t.Errorf("a second recovery: %s, %v", text, err)
	}

	s, err := pebble.Open(dirs[2])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	net.Restart(2)
	defer net.Close(2)
	g := join(net.Node(2), groups.WithStorage(s))
	if res, err := g.Execute(ctx, 1); err != nil || res.Value != 11 {
		t.Fatalf("%+v, %v\n%s", res, err, g.Status())
	}
}
