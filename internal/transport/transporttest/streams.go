package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

func testEcho(_ *testing.T, b *bench) {
	from, to := b.pair()
	handleEcho(to, "echo")
	handleEcho(from, "echo")
	for _, size := range []int{0, 1, 4 << 10, 1 << 20} {
		text := strings.Repeat("x", size)
		b.echo(from, to, "echo", text)
		b.echo(to, from, "echo", text) // the accepting side can open too
	}
}

func testLazyOpen(t *testing.T, b *bench) {
	from, to := b.host(), b.host()
	taken := make(chan transport.Stream, 1)
	to.Handle("p", func(s transport.Stream) {
		taken <- s
		s.Close()
	})
	from.Learn(to.Addr())
	s := b.stream(from, to, "p") // connects by itself
	if s.Peer() != to.ID() || s.Protocol() != "p" || s.Transport() == "" {
		t.Errorf("stream says peer %v, protocol %q, transport %q", s.Peer(), s.Protocol(), s.Transport())
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatalf("write: %v", err)
	}
	r := receive(b, "the handler gets the stream", taken)
	if r.Peer() != from.ID() || r.Protocol() != "p" || r.Transport() != s.Transport() {
		t.Errorf("accepted stream says peer %v, protocol %q, transport %q", r.Peer(), r.Protocol(), r.Transport())
	}
}

func testHalfClose(t *testing.T, b *bench) {
	from, to := b.pair()
	to.Handle("count", func(s transport.Stream) {
		defer s.Close()
		data, err := io.ReadAll(s) // returns only at the end
		fmt.Fprintf(s, "%d %v", len(data), err)
	})
	s := b.stream(from, to, "count")
	if _, err := s.Write(make([]byte, 5000)); err != nil {
		t.Fatalf("write: %v", err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatalf("close write: %v", err)
	}
	if _, err := s.Write([]byte("more")); err == nil {
		t.Error("a write after CloseWrite succeeded")
	}
	s.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(s)
	if err != nil || string(got) != "5000 <nil>" {
		t.Errorf("answer after half close: got %q and %v, want \"5000 <nil>\"", got, err)
	}
}

func testCloseInOrder(t *testing.T, b *bench) {
	from, to := b.pair()
	got := make(chan []byte, 1)
	to.Handle("sink", func(s transport.Stream) {
		defer s.Close()
		data, err := io.ReadAll(s)
		if err != nil {
			t.Errorf("reading what was written before Close: %v", err)
		}
		got <- data
	})
	want := bytes.Repeat([]byte("mosaik"), 10000)
	s := b.stream(from, to, "sink")
	if _, err := s.Write(want); err != nil {
		t.Fatalf("write: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if data := receive(b, "all that was written before Close", got); !bytes.Equal(data, want) {
		t.Errorf("got %d bytes, want the %d that were written", len(data), len(want))
	}
	if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read after Close: got %v, want an error that is not the end", err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a write after Close succeeded")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func testReadDeadline(t *testing.T, b *bench) {
	from, to := b.pair()
	handleEcho(to, "echo")
	s := b.stream(from, to, "echo")
	s.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	buf := make([]byte, 16)
	if n, err := s.Read(buf); !isTimeout(err) {
		t.Fatalf("read of nothing: got %d bytes and %v, want os.ErrDeadlineExceeded", n, err)
	}
	// The stream is as good as before.
	s.SetReadDeadline(time.Time{})
	if _, err := s.Write([]byte("late")); err != nil {
		t.Fatalf("write: %v", err)
	}
	s.SetReadDeadline(time.Now().Add(patience))
	if n, err := s.Read(buf); err != nil || string(buf[:n]) != "late" {
		t.Fatalf("read after a deadline: got %q and %v", buf[:n], err)
	}
	// A deadline also ends a read that waits already.
	s.SetReadDeadline(time.Time{})
	failed := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		failed <- err
	}()
	time.Sleep(20 * time.Millisecond) // most times the read waits by now; if not, the test is only weaker
	s.SetReadDeadline(time.Now())
	if err := receive(b, "the pending read ends", failed); !isTimeout(err) {
		t.Errorf("pending read: got %v, want os.ErrDeadlineExceeded", err)
	}
}

func testWriteDeadline(t *testing.T, b *bench) {
	from, to := b.pair()
	b.handleSilent(to, "silent")
	s := b.stream(from, to, "silent")
	s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := io.Copy(s, io.LimitReader(zeros{}, 1<<30))
	if !isTimeout(err) {
		t.Fatalf("write to a reader that does not read: got %v after %d bytes, want os.ErrDeadlineExceeded", err, n)
	}
	if n > 64<<20 {
		t.Errorf("%d bytes were accepted for a reader that does not read", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func testAbort(t *testing.T, b *bench) {
	from, to := b.pair()
	for _, aborter := range []string{"opener", "handler"} {
		protocol := "abort by " + aborter
		taken := b.handleSilent(to, protocol)
		here := b.stream(from, to, protocol)
		if _, err := here.Write([]byte("x")); err != nil {
			t.Fatalf("write: %v", err)
		}
		there := receive(b, "the handler gets the stream", taken)
		local, remote := here, there
		if aborter == "handler" {
			local, remote = there, here
		}
		if err := local.Abort(link.CodeStreamTooSlow); err != nil {
			t.Errorf("abort: %v", err)
		}
		check := func(side string, s transport.Stream, wantRemote bool) {
			s.SetReadDeadline(time.Now().Add(patience))
			var readErr error
			for readErr == nil {
				_, readErr = s.Read(make([]byte, 64))
			}
			b.wantCode(side+" read", readErr, link.CodeStreamTooSlow)
			var c *link.CloseError
			if errors.As(readErr, &c) && c.Remote != wantRemote {
				t.Errorf("%s: the error says remote %v, want %v", side, c.Remote, wantRemote)
			}
			// Writing learns of it too, if not with the first write.
			var writeErr error
			s.SetWriteDeadline(time.Now().Add(patience))
			for writeErr == nil {
				_, writeErr = s.Write([]byte("x"))
			}
			b.wantCode(side+" write", writeErr, link.CodeStreamTooSlow)
		}
		check("side that aborted", local, false)
		check("other side", remote, true)
	}
	handleEcho(to, "echo")
	b.echo(from, to, "echo", "the connection lives")
}

func testAbortPending(t *testing.T, b *bench) {
	from, to := b.pair()
	taken := b.handleSilent(to, "silent")
	s := b.stream(from, to, "silent")
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	there := receive(b, "the handler gets the stream", taken)
	errs := make(chan error, 4)
	go func() {
		_, err := s.Read(make([]byte, 1))
		errs <- err
	}()
	go func() {
		_, err := io.Copy(s, zeros{})
		errs <- err
	}()
	time.Sleep(50 * time.Millisecond) // most times both wait by now; if not, the test is only weaker
	there.Abort(link.CodeOverloaded)
	for range 2 {
		b.wantCode("pending call", receive(b, "the pending calls end", errs), link.CodeOverloaded)
	}
}

// A stream that its opener closes before it says anything never comes to be.
func testUnusedStream(t *testing.T, b *bench) {
	from, to := b.pair()
	taken := b.handleSilent(to, "silent")
	for range 20 {
		s := b.stream(from, to, "silent")
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
	}
	s := b.stream(from, to, "silent")
	if err := s.CloseWrite(); err != nil { // this one says that it says nothing
		t.Fatalf("close write: %v", err)
	}
	there := receive(b, "the handler gets the stream", taken)
	there.SetReadDeadline(time.Now().Add(patience))
	if n, err := there.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read: got %d bytes and %v, want io.EOF", n, err)
	}
	select {
	case <-taken:
		t.Error("a stream that was never used came to the handler")
	default:
	}
}

func testUnknownProtocol(t *testing.T, b *bench) {
	from, to := b.pair()
	handleEcho(to, "echo")
	s, err := from.Open(b.ctx(), to.ID(), "nobody speaks this")
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer s.Close()
	s.Write([]byte("hello"))
	s.SetReadDeadline(time.Now().Add(patience))
	_, err = s.Read(make([]byte, 16))
	b.wantCode("read from an unknown protocol", err, link.CodeUnknownProtocol)
	b.echo(from, to, "echo", "the connection lives")
}

func testHandlerReplaced(t *testing.T, b *bench) {
	from, to := b.pair()
	answer := func(text string) func(transport.Stream) {
		return func(s transport.Stream) {
			defer s.Close()
			io.Copy(io.Discard, s)
			io.WriteString(s, text)
		}
	}
	ask := func() string {
		s, err := from.Open(b.ctx(), to.ID(), "p")
		if err != nil {
			return "refused"
		}
		defer s.Close()
		s.Write([]byte("?"))
		s.CloseWrite()
		s.SetReadDeadline(time.Now().Add(patience))
		got, err := io.ReadAll(s)
		if err != nil {
			return "refused"
		}
		return string(got)
	}
	for _, step := range []struct {
		handler func(transport.Stream)
		want    string
	}{{answer("one"), "one"}, {answer("two"), "two"}, {nil, "refused"}, {answer("three"), "three"}} {
		to.Handle("p", step.handler)
		if got := ask(); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

func testThousandStreams(t *testing.T, b *bench) {
	from, to := b.pair()
	handleEcho(to, "echo")
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	for worker := range 50 {
		wg.Go(func() {
			for i := range 20 {
				text := fmt.Sprintf("stream %d of worker %d", i, worker)
				if err := echo(ctx, from, to, "echo", text); err != nil {
					t.Errorf("%s: %v", text, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if n := done.Load(); n != 1000 {
		t.Errorf("%d streams of 1000 worked", n)
	}
}

func testStalledReader(t *testing.T, b *bench) {
	from, to := b.pair()
	b.handleSilent(to, "silent")
	handleEcho(to, "echo")
	stalled := b.stream(from, to, "silent")
	stalled.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := io.Copy(stalled, zeros{}); !isTimeout(err) {
		t.Fatalf("filling the window: %v", err)
	}
	for range 20 {
		b.echo(from, to, "echo", "not in the way")
	}
	b.echo(from, to, "echo", strings.Repeat("x", 1<<20))
}
