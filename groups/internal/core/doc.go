// Package core is the engine of a group's member: raft, and around it what a group without a coordinator needs. It founds
// histories, takes members in and lets them go, runs calls exactly once, answers strong reads, cuts the log and brings up
// members that lack what was cut, merges histories that were founded apart, and lets survivors of a lost majority go on.
//
// All of it is a pure state machine: events and the time go in through the methods of [Engine], and Flush says what there
// is to be done. There is no I/O but to the log, no goroutine, no clock and no lock, so package sim runs the very code that
// package host drives on real nodes. Nothing that a peer sends can make it panic or allocate without bound.
//
// # Where to read
//
// Each file holds one idea. In the order of a member's life:
//
//   - replica.go: the member, and the loop that Flush runs
//   - found.go, blank.go: how a first history begins, or one is joined
//   - raftio.go, admit.go, raftlog.go: between the engine and the raft library, and what is let through to it
//   - members.go, leader.go, leave.go: who is in, and what a leader does about it
//   - campaign.go, prefer.go, vouch.go: who leads, and what brings a member to know that it may
//   - client.go, batch.go, apply.go, reads.go: calls and reads, from Submit to Output
//   - snapshot.go, mark.go, image.go, sent.go, fetch.go, compact.go: state, and the log behind it
//   - rest.go: groups without work
//   - merge.go, backlog.go, release.go: two histories become one
//   - recover.go, muster.go, fork.go, heirloom.go: what is left when a majority is gone
//   - durable.go, record.go, resume.go: logs that outlive the process
package core
