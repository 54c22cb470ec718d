//go:build race

package discovery_test

// slow is how much slower than usual the program runs: the race detector costs a lot, above all in cryptography.
const slow = 10
