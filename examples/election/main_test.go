package main

import (
	"os"
	"slices"
	"testing"
)

// TestMain makes the test binary do what the program does when it is started to take part.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-name") {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestEveryDeathHasOneSuccessor(t *testing.T) {
	if err := watch(t.Context()); err != nil {
		t.Fatal(err)
	}
}
