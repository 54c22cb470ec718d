// Package id holds the two identifiers everything else is built on: [ID], a 32-byte digest that names
// networks, tags, streams and groups, and [PeerID], the Ed25519 public key that is a node's identity.
//
// The two are different types, so one cannot be passed for the other. Both print as 64 lower-case
// hexadecimal digits, and both have a ten-digit Short form for logs and metric labels.
package id
