package main

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mosaik-go/mosaik/internal/leak"
)

// leakless is a test run that fails when it leaves a goroutine behind.
type leakless struct{ *testing.M }

func (m leakless) Run() int {
	return leak.Check(m.M.Run())
}

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){
		"mosaik": func() {
			if err := rootCommand().ExecuteContext(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, "mosaik:", err)
				os.Exit(1)
			}
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
