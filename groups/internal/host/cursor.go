package host

import (
	"context"
	"errors"
	"fmt"
)

// cursor reads chunks of a view that is too large to be kept as bytes: it has the view written out once more, and holds
// the writing up at each chunk that is wanted until the next one is. Chunks before it can only be had by another cursor.
type cursor struct {
	next   int // the lowest chunk that can be had
	wants  chan chunkWant
	chunks chan []byte
	end    chan struct{} // closed when the writing has ended
	err    error         // then: why, if it failed
	cancel context.CancelFunc
}

// chunkWant is a chunk and the buffer to append it to.
type chunkWant struct {
	chunk int
	dst   []byte
}

var errPassed = errors.New("groups: the view ended before the chunk")

// newCursor starts writing a view out in chunks of a size. The view must not be released before close has returned.
func newCursor(view View, size int) *cursor {
	ctx, cancel := context.WithCancel(context.Background())
	c := &cursor{wants: make(chan chunkWant), chunks: make(chan []byte), end: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(c.end)
		w := &chunkWriter{ctx: ctx, c: c, size: size}
		if !w.wait() {
			c.err = ctx.Err()
			return
		}
		if p := contain(func() { _, c.err = view.WriteTo(w) }); p != nil {
			c.err = p
		}
		if c.err == nil && !w.finish() {
			c.err = errPassed
		}
	}()
	return c
}

// read appends a chunk to dst. The chunk must not be below next.
func (c *cursor) read(chunk int, dst []byte) ([]byte, error) {
	c.next = chunk + 1
	select {
	case c.wants <- chunkWant{chunk, dst}:
	case <-c.end:
		return nil, c.failure()
	}
	select {
	case b := <-c.chunks:
		return b, nil
	case <-c.end:
		return nil, c.failure()
	}
}

func (c *cursor) failure() error {
	if c.err == nil {
		return errPassed
	}
	return fmt.Errorf("groups: write out a view: %w", c.err)
}

// close ends the writing and waits for that.
func (c *cursor) close() {
	c.cancel()
	<-c.end
}

// chunkWriter picks the wanted chunk out of what is written to it.
type chunkWriter struct {
	ctx  context.Context
	c    *cursor
	size int
	pos  int64
	want chunkWant
	held bool // want is one
}

func (w *chunkWriter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if !w.held && !w.wait() {
			return n, w.ctx.Err()
		}
		at, off := int(w.pos/int64(w.size)), int(w.pos%int64(w.size))
		k := min(len(p)-n, w.size-off)
		if at == w.want.chunk {
			w.want.dst = append(w.want.dst, p[n:n+k]...)
		} else if at < w.want.chunk {
			// All that is left before the wanted chunk can be skipped at once.
			k = int(min(int64(len(p)-n), int64(w.want.chunk)*int64(w.size)-w.pos))
		}
		n += k
		w.pos += int64(k)
		if at == w.want.chunk && off+k == w.size && !w.give() {
			return n, w.ctx.Err()
		}
	}
	return n, nil
}

// wait takes the next want.
func (w *chunkWriter) wait() bool {
	select {
	case w.want = <-w.c.wants:
		w.held = true
		return true
	case <-w.ctx.Done():
		return false
	}
}

// give hands the wanted chunk over.
func (w *chunkWriter) give() bool {
	w.held = false
	select {
	case w.c.chunks <- w.want.dst:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// finish hands over the last chunk, if that is wanted and shorter than others.
func (w *chunkWriter) finish() bool {
	off := int(w.pos % int64(w.size))
	return !w.held || off > 0 && int(w.pos/int64(w.size)) == w.want.chunk && w.give()
}
