//go:build !race

package discovery_test

// slow is how much slower than usual the program runs.
const slow = 1
