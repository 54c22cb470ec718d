// Package faultrun has no code of its own. Its tests run nodes as processes, each in a network namespace, do all kinds of harm
// to them, and hold what their clients were told against what the nodes have in the end. See docs/fault-runs.md.
package faultrun
