package link

import (
	"math/bits"
	"sync"
)

// buffers is a pool of read buffers, so that a link with long frames does not allocate one for each. Their sizes are powers of
// two, from readBufferMax on.
type buffers [8]sync.Pool

// long is what all readers share. What nobody needs the garbage collector takes.
var long buffers

// class returns which pool has buffers of at least size bytes, and false when there is none.
func (p *buffers) class(size int) (int, bool) {
	c := bits.Len(uint(size-1)) - bits.Len(readBufferMax-1)
	return c, c >= 0 && c < len(p)
}

// get returns a buffer of at least size bytes. What is in it is undefined.
func (p *buffers) get(size int) *[]byte {
	c, pooled := p.class(size)
	if pooled {
		if b, ok := p[c].Get().(*[]byte); ok {
			return b
		}
		size = readBufferMax << c
	}
	b := make([]byte, size)
	return &b
}

// put gives a buffer back that nobody uses any more.
func (p *buffers) put(b *[]byte) {
	if c, ok := p.class(len(*b)); ok && len(*b) == readBufferMax<<c {
		p[c].Put(b)
	}
}
