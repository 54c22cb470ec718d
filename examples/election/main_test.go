package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/internal/leak"
)

// TestMain makes the test binary do what the program does when it is started to take part.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-name") {
		main()
		return
	}
	os.Exit(leak.Check(m.Run()))
}

// Of each leader that dies the next line says who leads now, and nobody leads after it has died.
func TestEveryDeathHasOneSuccessor(t *testing.T) {
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	var out strings.Builder
	if err := watch(t.Context(), &out); err != nil {
		t.Fatalf("%v, after\n%s", err, out.String())
	}
	first := regexp.MustCompile(`(?m)^(\w+) leads$`).FindStringSubmatch(out.String())
	turns := regexp.MustCompile(`(?m)^(\w+) was killed; (\w+) leads, all survivors agreed after`).FindAllStringSubmatch(out.String(), -1)
	if first == nil || len(turns) != deaths {
		t.Fatalf("not the expected lines:\n%s", out.String())
	}
	leader, dead := first[1], make(map[string]bool)
	for _, turn := range turns {
		dead[leader] = true
		if turn[1] != leader || dead[turn[2]] {
			t.Errorf("after %s had led:\n%s", leader, out.String())
		}
		leader = turn[2]
	}
}
