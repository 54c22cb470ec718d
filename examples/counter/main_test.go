package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/examples/internal/program"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
)

// TestMain makes the test binary the program itself when it is started with a name.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], "counter-test-") {
		main()
		return
	}
	os.Exit(leak.Check(m.Run()))
}

func open(t *testing.T, name string) *program.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program.Start(t, exec.Command(self, name))
}

// What is typed in one terminal shows in all, and goes on when one of them ends.
func TestTerminals(t *testing.T) {
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	name := "counter-test-" + id.Random().Short()
	a, b, c := open(t, name), open(t, name), open(t, name)
	for _, x := range []*program.Program{a, b, c} {
		x.Shows(`^online with`)
	}
	a.Enter("+3")
	for _, x := range []*program.Program{a, b, c} {
		x.Shows(`^= 3 `)
	}
	b.Enter("-1")
	b.Enter("twelve")
	b.Shows(`error: "twelve" is not a number`)
	for _, x := range []*program.Program{a, c} {
		x.Shows(`^= 2 `)
	}
	b.EndOfInput()
	c.Enter("+40")
	a.Shows(`^= 42 `)
	a.Enter("")
	a.Shows(`^= 42 .*strong read`)
}
