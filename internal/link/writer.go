package link

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"sync"
	"time"
)

// ErrClosed is the error of a [Writer] after Close.
var ErrClosed = errors.New("link: closed")

// Defaults of [WriterConfig].
const (
	DefaultBuffer       = 1 << 20
	DefaultWriteTimeout = 10 * time.Second
)

const (
	writeBufferKept = 128 << 10 // buffers larger than this are given back when the link is quiet, that is,
	quietWrites     = 16        // after so many writes in a row that did not need them
	writeStep       = 128 << 10 // the most that has to be taken within one timeout
)

// WriterConfig says how a [Writer] works. Zero fields take the defaults.
type WriterConfig struct {
	MaxFrame int           // longest body, bytes; required
	Buffer   int           // bytes that may wait before writers wait, too; default 1 MiB
	Timeout  time.Duration // for the stream to take 128 KiB, or what there is; default 10 s; negative: none
}

// Writer writes frames to one stream. Callers append frames to a buffer; a goroutine of the writer's swaps it for an
// empty one and writes it out. So one frame is on its way at once, many frames travel together when there are many, and
// no timer is involved. All methods are safe for concurrent use.
//
// When Buffer bytes or more wait, Append waits and TryAppend refuses. A frame is always accepted into an empty buffer, so
// frames longer than Buffer can be sent. At most twice Buffer and two frames are held.
//
// A stream that takes nothing for the configured timeout is aborted with [CodeTimeout], and the writer ends.
type Writer struct {
	stream Stream
	cfg    WriterConfig

	wake chan struct{} // capacity one: there is something to write, or the end
	done chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex // guards all following fields
	buf    []byte     // frames that wait
	room   chan struct{}
	asleep bool // the goroutine waits on wake
	ending bool // Close was called
	err    error
}

// NewWriter returns a writer to s and starts its goroutine, which ends after Close, Abort, or a failed write.
func NewWriter(s Stream, cfg WriterConfig) *Writer {
	if cfg.Buffer == 0 {
		cfg.Buffer = DefaultBuffer
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultWriteTimeout
	}
	w := &Writer{stream: s, cfg: cfg, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write sends a frame with the given body, which it copies. It waits for room until ctx ends.
func (w *Writer) Write(ctx context.Context, body []byte) error {
	return w.Append(ctx, func(dst []byte) []byte { return append(dst, body...) })
}

// Append sends a frame whose body encode appends to dst. It waits for room until ctx ends, and asks ctx only then. encode
// runs under the writer's lock: it must not block, and must return dst with the body appended. The error is a *[CloseError]
// with [CodeFrameTooLarge] when the body is too long, in which case nothing is sent, the cause of ctx's end, in which case
// nothing is sent either, and otherwise says why the writer has ended. A nil error says that the frame waits to be written.
func (w *Writer) Append(ctx context.Context, encode func(dst []byte) []byte) error {
	for {
		room, err := w.tryAppend(encode)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryAppend appends a frame, or returns what will be closed when there is room or the writer has ended.
func (w *Writer) tryAppend(encode func(dst []byte) []byte) (room <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil || w.ending:
		return nil, w.endLocked()
	case len(w.buf) < w.cfg.Buffer:
		return nil, w.appendLocked(encode)
	}
	if w.room == nil {
		w.room = make(chan struct{})
	}
	return w.room, nil
}

// TryAppend is Append without waiting: it reports false, and sends nothing, when there is no room, when the body is too
// long or when the writer has ended.
func (w *Writer) TryAppend(encode func(dst []byte) []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.ending || len(w.buf) >= w.cfg.Buffer {
		return false
	}
	return w.appendLocked(encode) == nil
}

// Waiting returns the number of bytes that wait to be written.
func (w *Writer) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.buf)
}

func (w *Writer) appendLocked(encode func(dst []byte) []byte) error {
	start := len(w.buf)
	w.buf = encode(append(w.buf, 0, 0, 0, 0))
	size := len(w.buf) - start - HeaderSize
	if size > w.cfg.MaxFrame || size > math.MaxUint32 {
		w.buf = w.buf[:start]
		return &CloseError{Code: CodeFrameTooLarge}
	}
	binary.BigEndian.PutUint32(w.buf[start:], uint32(size))
	if w.asleep {
		w.asleep = false
		w.wake <- struct{}{}
	}
	return nil
}

func (w *Writer) endLocked() error {
	if w.err != nil {
		return w.err
	}
	return ErrClosed
}

// run swaps and writes until the end.
func (w *Writer) run() {
	defer close(w.done)
	var spare []byte
	quiet := 0 // short writes in a row
	for {
		w.mu.Lock()
		for len(w.buf) == 0 && !w.ending && w.err == nil {
			w.asleep = true
			w.mu.Unlock()
			<-w.wake
			w.mu.Lock()
		}
		if w.err != nil {
			w.mu.Unlock()
			return
		}
		if len(w.buf) == 0 {
			w.mu.Unlock()
			if err := w.stream.CloseWrite(); err != nil {
				w.fail(err)
			}
			return
		}
		out := w.buf
		w.buf = spare
		if w.room != nil {
			close(w.room)
			w.room = nil
		}
		w.mu.Unlock()

		if err := w.write(out); err != nil {
			w.fail(err)
			w.stream.Abort(CodeOf(err))
			return
		}
		spare = out[:0]
		if quiet++; len(out) > writeBufferKept/2 {
			quiet = 0
		}
		if quiet > quietWrites && cap(spare) > writeBufferKept {
			spare = nil
		}
	}
}

// write hands all of out to the stream, in steps with a deadline each, so that a slow stream is told from a stuck one.
func (w *Writer) write(out []byte) error {
	for len(out) > 0 {
		step := out[:min(len(out), writeStep)]
		if w.cfg.Timeout > 0 {
			if err := w.stream.SetWriteDeadline(time.Now().Add(w.cfg.Timeout)); err != nil {
				return err
			}
		}
		if _, err := w.stream.Write(step); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return &CloseError{Code: CodeTimeout}
			}
			return err
		}
		out = out[len(step):]
	}
	return nil
}

// fail ends the writer with err, unless it has ended already.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.buf = nil
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
	if w.asleep {
		w.asleep = false
		w.wake <- struct{}{}
	}
}

// Close sends what waits, ends the stream's writing direction and waits for that until ctx ends; then it aborts the
// stream with [CodeCancelled]. It returns nil if everything was handed to the transport.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	w.ending = true
	if w.asleep {
		w.asleep = false
		w.wake <- struct{}{}
	}
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		w.Abort(CodeCancelled)
	}
	return w.Err()
}

// Abort tears the stream down with the code and waits for the goroutine.
func (w *Writer) Abort(code Code) {
	w.fail(&CloseError{Code: code})
	w.stream.Abort(code)
	<-w.done
}

// Err returns why the writer ended; nil while it lives and after an orderly Close.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
