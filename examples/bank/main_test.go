package main

import (
	"os"
	"slices"
	"testing"
	"time"
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
	for range 2 { // the second time with the books of the first
		if err := town(4*time.Second, dir); err != nil {
			t.Fatal(err)
		}
	}
}
