// Package link puts frames on a stream: a [Writer] that batches by need behind a bounded buffer, a [Reader] that never
// buffers more than a frame's limit, and the codes that say why something was closed.
//
// A frame is its body's length in four bytes, big-endian, and the body.
package link
