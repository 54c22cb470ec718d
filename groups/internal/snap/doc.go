// Package snap holds how snapshot state is cut, named and fetched: manifests, the frames of the streams on which chunks
// travel, and the planner that decides what to ask whom. It does no I/O and reads no clock.
package snap
