package groups

import (
	"github.com/mosaik-go/mosaik/id"
)

// Machine is a replicated state machine: commands of type C change it, queries of type Q read it, and both answer with
// an R. Each member of a group has its own copy; all copies go through the same commands in the same order.
//
// The group never calls Apply concurrently with Apply or Query; it may call Query concurrently with Query.
type Machine[C, Q, R any] interface {
	// Signature identifies the machine and everything that changes its behaviour. It becomes part of the group's id, so
	// members whose machines differ are in different groups. Change it when Apply does something else with commands that
	// may be in a log. The new group begins with nothing; "Changing a machine" in docs/groups.md says how to move the state.
	Signature() id.ID

	// Apply changes the state by one committed command and returns what Execute answers on the member that proposed it.
	// It must be deterministic: the result and the new state may depend on nothing but the state, ctx and cmd. No clock,
	// no randomness, no I/O, no map iteration order. It must not panic; if it does, the group fails on this node, see
	// [PanicError]. cmd was decoded for this call: Apply may keep it.
	Apply(ctx ApplyContext, cmd C) R

	// Query reads the state. It must not change it. What it returns must not be changed by later Apply calls. It runs in the
	// goroutine of the caller of Group.Query, which a panic reaches.
	Query(q Q) R
}

// BatchApplier is an optional interface of a [Machine]: when a machine has it, the group calls ApplyBatch in place of
// Apply. It must have the same effect as calling Apply for each command in order.
type BatchApplier[C, R any] interface {
	// ApplyBatch applies cmds in order and stores the result of cmds[i] in results[i]. ctx.Index is the index of the
	// first command; the others follow without gaps. How commands are cut into batches differs between members, so
	// nothing may depend on it. Both slices are reused after the call.
	ApplyBatch(ctx ApplyContext, cmds []C, results []R)
}

// ApplyContext says where in the group's history a command stands. It is the same on all members.
type ApplyContext struct {
	Index   Index  // of the command; the first of a group has index 1
	Term    uint64 // Raft term in which the command was put into the log
	Group   id.ID
	Network id.ID
}
