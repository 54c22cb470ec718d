// Package groups keeps a state machine of yours in step on a set of nodes. Nodes that join with the same key form a group:
// they find each other, elect a leader and apply the same commands in the same order, by the Raft algorithm (Ongaro and
// Ousterhout, 2014).
//
//	group, err := groups.Join(net, groups.KeyFrom("a long secret"), newCounter)
//	...
//	defer group.Close()
//	res, err := group.Execute(ctx, 3)                       // applied on a majority, and here
//	sum, err := group.Query(ctx, struct{}{}, groups.Strong) // linearizable
//
// Guarantees, as long as fewer than half of the voting members fail at a time: a command that was acknowledged is never
// lost and never applied twice; strong reads are linearizable; a minority cut off from the others acknowledges
// nothing. Each failed call says whether it had an effect. Members are trusted; the key keeps strangers out.
//
// A group that was founded twice, by nodes that could not see each other, has two histories. They are told apart and never
// mixed; [ExpectMembers] makes a second founding impossible.
//
// The manual is docs/groups.md.
package groups
