package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/discovery/registry"
)

// TestMain makes the test binary do what the program does when it is started to take part.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-name") {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestEveryDeathHasOneSuccessor(t *testing.T) {
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	if err := watch(t.Context()); err != nil {
		t.Fatal(err)
	}
}
