package link_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/internal/link"
)

const maxFrame = 1 << 20

// inBubble gives fn a writer to a pipe, in virtual time. The writer has ended when fn returns.
func inBubble(t *testing.T, cfg link.WriterConfig, fn func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, peer := newPipe(t)
		if cfg.MaxFrame == 0 {
			cfg.MaxFrame = maxFrame
		}
		w := link.NewWriter(p, cfg)
		defer w.Abort(link.CodeCancelled)
		fn(t, w, p, peer)
	})
}

func write(t *testing.T, w *link.Writer, body []byte) {
	t.Helper()
	if err := w.Write(t.Context(), body); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// While one frame is on its way, the following ones gather, and travel together.
func TestWriterBatches(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, []byte("first"))
		synctest.Wait() // it is handed to the stream, where nobody reads it
		for i := range 1000 {
			write(t, w, binary.BigEndian.AppendUint64(nil, uint64(i)))
		}
		if want := 1000 * (8 + link.HeaderSize); w.Waiting() != want {
			t.Errorf("%d bytes wait, want %d", w.Waiting(), want)
		}
		r := link.NewReader(peer, maxFrame)
		if b, err := r.Next(); err != nil || string(b) != "first" {
			t.Fatalf("got %q and %v", b, err)
		}
		for i := range 1000 {
			if b, err := r.Next(); err != nil || binary.BigEndian.Uint64(b) != uint64(i) {
				t.Fatalf("frame %d: got %x and %v", i, b, err)
			}
		}
		synctest.Wait()
		writes, _, _ := p.state()
		if len(writes) != 2 {
			t.Errorf("1001 frames took writes of %v bytes, want two writes", writes)
		}
		if w.Waiting() != 0 {
			t.Errorf("%d bytes wait after all was read", w.Waiting())
		}
	})
}

// What may wait is bounded: then Append waits too, and TryAppend refuses.
func TestWriterFull(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{Buffer: 1000, Timeout: -1}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, []byte("on its way"))
		synctest.Wait()
		frames := 0
		for w.TryAppend(func(dst []byte) []byte { return append(dst, body(96)...) }) {
			frames++
		}
		if frames != 10 {
			t.Errorf("%d frames of 100 bytes were taken into 1000 bytes, want 10", frames)
		}

		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("no patience"))
		defer cancel()
		start := time.Now()
		if err := w.Write(ctx, body(1)); err == nil || err.Error() != "no patience" {
			t.Errorf("write into a full buffer: got %v, want the cause of the context's end", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("waited %v for room, want one second", took)
		}
		if w.Waiting() != 1000 {
			t.Errorf("%d bytes wait, want 1000: a refused frame must not be sent", w.Waiting())
		}

		done := make(chan error, 1)
		go func() { done <- w.Write(t.Context(), []byte("patient")) }()
		synctest.Wait()
		r := link.NewReader(peer, maxFrame)
		for range 1 + frames {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("write after room was made: %v", err)
		}
		if b, err := r.Next(); err != nil || string(b) != "patient" {
			t.Errorf("got %q and %v", b, err)
		}
	})
}

// A frame larger than the buffer can be sent when nothing else waits.
func TestWriterFrameBeyondBuffer(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{Buffer: 10}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		go func() {
			for range 3 {
				w.Write(t.Context(), body(500))
			}
		}()
		r := link.NewReader(peer, maxFrame)
		for range 3 {
			if b, err := r.Next(); err != nil || len(b) != 500 {
				t.Fatalf("got %d bytes and %v", len(b), err)
			}
		}
	})
}

func TestWriterFrameTooLarge(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{MaxFrame: 100}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		if err := w.Write(t.Context(), body(101)); link.CodeOf(err) != link.CodeFrameTooLarge {
			t.Errorf("got %v, want frame too large", err)
		}
		if w.TryAppend(func(dst []byte) []byte { return append(dst, body(101)...) }) {
			t.Error("TryAppend took a frame that is too large")
		}
		if w.Waiting() != 0 {
			t.Errorf("%d bytes of it wait", w.Waiting())
		}
		write(t, w, body(100))
		if b, err := link.NewReader(peer, 100).Next(); err != nil || len(b) != 100 {
			t.Errorf("the frame after it: got %d bytes and %v", len(b), err)
		}
	})
}

// A stream that takes nothing is given up with a reason, and so are all who wait for room.
func TestWriterStuck(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{Buffer: 10, Timeout: 3 * time.Second}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, body(100))
		synctest.Wait()
		write(t, w, body(100))
		start := time.Now()
		if err := w.Write(t.Context(), body(1)); link.CodeOf(err) != link.CodeTimeout {
			t.Errorf("write that waited for room: got %v, want a timeout", err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("gave up after %v, want 3s", took)
		}
		<-w.Done()
		if _, _, code := p.state(); code != link.CodeTimeout {
			t.Errorf("the stream was aborted with %v, want a timeout", code)
		}
		if err := w.Write(t.Context(), body(1)); link.CodeOf(err) != link.CodeTimeout || link.CodeOf(w.Err()) != link.CodeTimeout {
			t.Errorf("later: got %v and %v, want a timeout", err, w.Err())
		}
	})
}

// A stream that is slow but moves is not stuck, however much waits for it.
func TestWriterSlow(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{MaxFrame: 2 << 20, Timeout: 3 * time.Second}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, body(1<<20))
		got := 0
		for got < 1<<20 {
			time.Sleep(time.Second)
			n, err := io.ReadFull(peer, make([]byte, 64<<10))
			got += n
			if err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
		}
		if w.Err() != nil {
			t.Errorf("the writer ended: %v", w.Err())
		}
	})
}

func TestWriterClose(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, []byte("one"))
		write(t, w, []byte("two"))
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- w.Close(t.Context()) }()
		}
		synctest.Wait()
		if err := w.Write(t.Context(), []byte("late")); err != link.ErrClosed {
			t.Errorf("write after Close: got %v, want ErrClosed", err)
		}
		if w.TryAppend(func(dst []byte) []byte { return dst }) {
			t.Error("TryAppend after Close took a frame")
		}
		r := link.NewReader(peer, maxFrame)
		for _, want := range []string{"one", "two"} {
			if b, err := r.Next(); err != nil || string(b) != want {
				t.Fatalf("got %q and %v, want %q", b, err, want)
			}
		}
		for range 2 {
			if err := <-closed; err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if _, ended, _ := p.state(); !ended || w.Err() != nil {
			t.Errorf("after Close: writing ended %v, error %v", ended, w.Err())
		}
	})
}

// Close waits no longer than it is told to.
func TestWriterCloseImpatient(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, []byte("nobody reads this"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := w.Close(ctx); link.CodeOf(err) != link.CodeCancelled {
			t.Errorf("Close: got %v, want cancelled", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Close took %v, want a second", took)
		}
		if _, ended, code := p.state(); ended || code != link.CodeCancelled {
			t.Errorf("writing ended in order %v, aborted with %v", ended, code)
		}
	})
}

func TestWriterAbort(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{Buffer: 10}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, body(100))
		synctest.Wait()
		write(t, w, body(100))
		waiting := make(chan error, 1)
		go func() { waiting <- w.Write(t.Context(), body(100)) }()
		synctest.Wait()
		w.Abort(link.CodeStreamTooSlow)
		select {
		case <-w.Done():
		default:
			t.Error("Abort returned before the writer's goroutine ended")
		}
		if err := <-waiting; link.CodeOf(err) != link.CodeStreamTooSlow {
			t.Errorf("a write that waited: got %v", err)
		}
		if _, _, code := p.state(); code != link.CodeStreamTooSlow || link.CodeOf(w.Err()) != link.CodeStreamTooSlow {
			t.Errorf("aborted with %v, error %v", code, w.Err())
		}
		w.Abort(link.CodeSuccess) // does nothing
		if link.CodeOf(w.Err()) != link.CodeStreamTooSlow {
			t.Errorf("a second Abort changed the reason to %v", w.Err())
		}
	})
}

// The writer ends with the reason that the other side gave.
func TestWriterBroken(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		write(t, w, body(100))
		synctest.Wait()
		p.abort(&link.CloseError{Code: link.CodeOverloaded, Remote: true})
		<-w.Done()
		closed, ok := errors.AsType[*link.CloseError](w.Err())
		if !ok || !closed.Remote || closed.Code != link.CodeOverloaded {
			t.Errorf("got %v, want overloaded by the peer", w.Err())
		}
		if err := w.Close(t.Context()); link.CodeOf(err) != link.CodeOverloaded {
			t.Errorf("Close: got %v, want why the writer ended", err)
		}
	})
}

// A writer that sent much at one time and sends little now gives the memory back.
func TestWriterShrinks(t *testing.T) {
	t.Parallel()
	inBubble(t, link.WriterConfig{}, func(t *testing.T, w *link.Writer, p *pipe, peer net.Conn) {
		go io.Copy(io.Discard, peer)
		var most int
		for _, size := range []int{maxFrame, maxFrame, 100} {
			for range 20 {
				write(t, w, body(size))
				synctest.Wait()
				most = max(most, w.Held())
			}
		}
		if most < maxFrame {
			t.Errorf("a busy writer holds %d bytes: it should keep its buffers", most)
		}
		if w.Held() > 128<<10 {
			t.Errorf("a quiet writer holds %d bytes", w.Held())
		}
	})
}

// Frames of one caller arrive in its order, whole, whatever others do.
func TestWriterConcurrently(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 500
	p, peer := newPipe(t)
	w := link.NewWriter(p, link.WriterConfig{MaxFrame: maxFrame, Buffer: 2000})
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				text := fmt.Sprintf("%d %d", c, i)
				var err error
				if i%3 != 0 || !w.TryAppend(func(dst []byte) []byte { return append(dst, text...) }) {
					err = w.Write(t.Context(), []byte(text))
				}
				if err != nil {
					t.Errorf("caller %d: %v", c, err)
					return
				}
			}
		})
	}
	var next [callers]int
	r := link.NewReader(peer, maxFrame)
	for range callers * each {
		b, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		var c, i int
		if _, err := fmt.Sscanf(string(b), "%d %d", &c, &i); err != nil || c >= callers || i != next[c] {
			t.Fatalf("got frame %q, want %d of that caller (%v)", b, next[c], err)
		}
		next[c]++
	}
	wg.Wait()
	if err := w.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// A frame of 64 bytes into a stream that costs nothing: what the link itself costs.
func BenchmarkWriter(b *testing.B) {
	w := link.NewWriter(discard{}, link.WriterConfig{MaxFrame: maxFrame})
	frame := body(64)
	encode := func(dst []byte) []byte { return append(dst, frame...) }
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Append(ctx, encode); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(ctx); err != nil {
		b.Fatal(err)
	}
}

type discard struct{ io.Reader }

func (discard) Write(b []byte) (int, error)      { return len(b), nil }
func (discard) SetReadDeadline(time.Time) error  { return nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }
func (discard) CloseWrite() error                { return nil }
func (discard) Close() error                     { return nil }
func (discard) Abort(link.Code) error            { return nil }
