package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/internal/leak"
)

// TestMain makes the test binary do what the program does when it is started for a node.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-node") {
		main()
		return
	}
	os.Exit(leak.Check(m.Run()))
}

// The town says that nothing was lost, in a first run and in one that finds the books of the first.
func TestTown(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(registry.Env, filepath.Join(dir, "registry"))
	for range 2 {
		var out strings.Builder
		if err := town(4*time.Second, dir, &out); err != nil {
			t.Fatalf("%v, after\n%s", err, out.String())
		}
		if !verdict.MatchString(out.String()) {
			t.Fatalf("no such end as expected:\n%s", out.String())
		}
	}
}

var verdict = regexp.MustCompile(`(?s)^three nodes are online, .*\nkilled \[\d\]; .*` +
	`[1-9]\d* transfers were acknowledged, and all of them are in the books, once; .*\n` +
	fmt.Sprintf(`all three nodes have the same books, and they add up to %d\n$`, accounts*opening))
