package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/examples/internal/program"
	"github.com/mosaik-go/mosaik/internal/leak"
)

const child = "MOSAIK_FIRST_TEST_CHILD"

// TestMain makes the test binary the program itself when the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		main()
		return
	}
	os.Exit(leak.Check(m.Run()))
}

// The README shows this program, from its package clause on.
func TestReadmeHasTheProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "\npackage main")
	if !strings.Contains(string(readme), "```go\npackage main"+code+"```\n") {
		t.Error("the README shows another program than examples/first/main.go")
	}
}

func start(t *testing.T) *program.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), child+"=yes")
	return program.Start(t, cmd)
}

// What one process adds all show; whoever comes later goes on from it, also when the first is gone.
func TestTheSumIsShared(t *testing.T) {
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	a, b := start(t), start(t)
	a.Shows(`^sum 6 after 2 commands, `)
	b.Shows(`^sum 6 after 2 commands, `)
	c := start(t)
	for _, p := range []*program.Program{a, b, c} {
		p.Shows(`^sum 9 after 3 commands, `)
	}
	a.Interrupt()
	d := start(t)
	for _, p := range []*program.Program{b, c, d} {
		p.Shows(`^sum 12 after 4 commands, `)
	}
}
