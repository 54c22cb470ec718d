// Package discovery answers who is on the network, without a server and without anybody listing addresses.
//
// Every node has a signed, versioned [PeerEntry]: its addresses, and the tags, streams, groups and tickets it shows. All
// entries of a network spread to all nodes, which keep them in a catalog. A [Catalog] is an immutable snapshot of it:
//
//	for p := range net.Discovery().Catalog().Peers() {
//		fmt.Println(p.ID(), p.HasTag("storage"))
//	}
//	for e := range net.Discovery().Events(ctx) {
//		fmt.Println(e)
//	}
//
// # How news travels
//
//	change ──▶ own entry, signed ──▶ about 6 neighbours ──▶ their neighbours …   an update is forwarded if, and only if,
//	                                                                           it changed the catalog of the forwarder
//	every 15 s ──▶ beat, signed ──▶ the same way                               a sign of life without the content
//	link up, every 60 s, overflow ──▶ comparison of digests ──▶ what differs   repairs whatever was missed
//	Close ──▶ departure, signed ──▶ the same way                               kept as a tombstone: nobody revives the peer
//
// A peer that was not heard of for PurgeAfter is dropped. One whose connection broke and cannot be made again is hidden
// within 7 s, and shown again when it is reached, see [Catalog.Lost]. Entries of other networks, entries from the future
// beyond MaxClockDrift, and entries that exceed the size limits are refused; [Discovery.Status] counts refusals by reason.
//
// # What is promised
//
// Nodes that are connected, directly or through others, and whose clocks agree within MaxClockDrift, end up with the same
// catalog: at once in the usual case, within about a minute when messages were lost. A peer that closed in order
// disappears everywhere and stays away until it is opened again. What an entry says was signed by its peer, but that is
// all: tags and times are the peer's own claim. Nothing is promised about the order in which different nodes see news of
// different peers.
package discovery
