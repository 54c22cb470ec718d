package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/discovery/registry"
)

// TestMain makes the test binary do what the program does when it is started for a node.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-node") {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestTown(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(registry.Env, filepath.Join(dir, "registry"))
	for range 2 { // the second time with the books of the first
		if err := town(4*time.Second, dir); err != nil {
			t.Fatal(err)
		}
	}
}
