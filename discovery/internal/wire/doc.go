// Package wire is what discovery says on the network and signs: peer entries, beats, departures, and the frames of the
// gossip and sync protocols.
//
// Signatures cover bytes, so every value has exactly one encoding. Integers are unsigned LEB128 varints in their shortest
// form, sets are strictly ascending, and nothing may follow. A decoder refuses everything else, allocates no more than
// the bytes at hand justify, and copies what it keeps. The layouts are in docs/discovery.md.
package wire
