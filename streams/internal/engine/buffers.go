package engine

import (
	"bytes"
	"math/bits"
	"sync"
)

// Long runs of items are copied into buffers that are used again, of sizes that double.
const (
	smallestBuffer = 14 // bits of its size
	largestBuffer  = 21
)

var buffers [largestBuffer - smallestBuffer + 1]sync.Pool

// pack copies items out of a frame.
func pack(items []byte) (copied []byte, pooled *[]byte) {
	class := bits.Len(uint(len(items)-1)) - smallestBuffer
	if class < 0 || class >= len(buffers) || len(items) < 1<<(smallestBuffer-1) {
		return bytes.Clone(items), nil
	}
	pooled, _ = buffers[class].Get().(*[]byte)
	if pooled == nil {
		b := make([]byte, 1<<(class+smallestBuffer))
		pooled = &b
	}
	return (*pooled)[:copy(*pooled, items)], pooled
}

// giveBack lets a buffer of pack be used again.
func giveBack(pooled *[]byte) {
	if pooled != nil {
		buffers[bits.Len(uint(len(*pooled)))-1-smallestBuffer].Put(pooled)
	}
}
