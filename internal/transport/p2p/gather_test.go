package p2p

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// socket is a connection that remembers what is written to it, call by call.
type socket struct {
	net.Conn // nil, or what calls are passed on to

	mu    sync.Mutex
	calls [][]byte
	takes int // bytes, after which a call fails; negative: no limit
	err   error
}

func (s *socket) Write(b []byte) (int, error) {
	if n, err := s.note(b); err != nil || s.Conn == nil {
		return n, err
	}
	return s.Conn.Write(b)
}

func (s *socket) note(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := len(b), error(nil)
	if s.takes >= 0 && n > s.takes {
		n, err = s.takes, s.err
	}
	if s.takes > 0 {
		s.takes -= n
	}
	s.calls = append(s.calls, bytes.Clone(b[:n]))
	return n, err
}

func (s *socket) Close() error {
	if s.Conn != nil {
		return s.Conn.Close()
	}
	return nil
}

// written returns the calls since the last time.
func (s *socket) written() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// records stands in for TLS: each record has a byte in front.
type records struct {
	sec.SecureConn // nil
	raw            net.Conn
	between        func() // called after each record
	closed         bool
}

func (r *records) Write(b []byte) (int, error) {
	n := 0
	for len(b) > 0 {
		part := b[:min(len(b), maxRecord)]
		if _, err := r.raw.Write(append([]byte{'r'}, part...)); err != nil {
			return n, err
		}
		n, b = n+len(part), b[len(part):]
		if r.between != nil {
			r.between()
		}
	}
	return n, nil
}

func (r *records) Close() error {
	r.closed = true
	r.raw.Write([]byte("bye"))
	return r.raw.Close()
}

func gatherFake(s net.Conn) (*gatheredConn, *records) {
	fake := new(records)
	c, _ := gatherUnder(s, func(raw net.Conn) (sec.SecureConn, error) {
		fake.raw = raw
		return fake, nil
	})
	return c.(*gatheredConn), fake
}

func asRecords(b []byte) []byte {
	var s socket
	s.takes = -1
	(&records{raw: &s}).Write(b)
	return bytes.Join(s.written(), nil)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestGatherWritesOnce(t *testing.T) {
	for _, c := range []struct{ size, calls int }{
		{0, 0}, {1, 1}, {maxRecord, 1}, {maxRecord + 1, 1}, {3 * maxRecord, 1}, {64 << 10, 1},
		{gatherSize - 5, 1}, {gatherSize, 2}, // five records
		{1 << 20, 16}, // four records at a time
	} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			s := &socket{takes: -1}
			conn, _ := gatherFake(s)
			for range 2 {
				b := randomBytes(c.size)
				if n, err := conn.Write(b); n != len(b) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
				calls := s.written()
				if len(calls) != c.calls {
					t.Errorf("%d calls, want %d", len(calls), c.calls)
				}
				if !bytes.Equal(bytes.Join(calls, nil), asRecords(b)) {
					t.Error("the socket got something else")
				}
				if conn.raw.buf != nil {
					t.Error("an idle connection holds a buffer")
				}
			}
		})
	}
}

func TestGatherPassesOn(t *testing.T) {
	s := &socket{takes: -1}
	conn, fake := gatherFake(s)
	at := func(want string) {
		t.Helper()
		if got := string(bytes.Join(s.written(), nil)); got != want {
			t.Fatalf("the socket got %q, want %q", got, want)
		}
	}
	alert := func(text string) {
		t.Helper()
		if n, err := conn.raw.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	alert("hello")
	at("hello")

	// What TLS has to say on its own during a Write keeps its place and goes with it.
	first := true
	fake.between = func() {
		if first {
			alert("alert")
			at("")
		}
		first = false
	}
	b := randomBytes(maxRecord + 10)
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	at(string(asRecords(b[:maxRecord])) + "alert" + string(asRecords(b[maxRecord:])))

	alert("alert")
	at("alert")
	long := randomBytes(gatherSize + 1)
	alert(string(long))
	at(string(long))

	conn.raw.gather() // and what is longer than the buffer
	alert("first")
	alert(string(long))
	alert("last")
	at("first" + string(long))
	if err := conn.raw.release(); err != nil {
		t.Fatal(err)
	}
	at("last")
	if err := conn.Close(); err != nil || !fake.closed {
		t.Fatalf("Close = %v, orderly: %v", err, fake.closed)
	}
	at("bye")
}

func TestGatherFails(t *testing.T) {
	broken := errors.New("broken")
	for _, takes := range []int{0, 1, 40_000, 64<<10 + 3, 64<<10 + 4 + 10} { // of what is written in one call, or in a second
		t.Run(fmt.Sprint(takes), func(t *testing.T) {
			s := &socket{takes: takes, err: broken}
			conn, _ := gatherFake(s)
			b := randomBytes(100_000)
			if n, err := conn.Write(b); n != 0 || err != broken {
				t.Fatalf("Write = %d, %v", n, err)
			}
			if got := bytes.Join(s.written(), nil); !bytes.Equal(got, asRecords(b)[:takes]) {
				t.Errorf("the socket got something else, %d bytes", len(got))
			}
			s.takes = -1 // what comes behind a hole is not to be sent, whatever the socket would do
			for _, size := range []int{1, maxRecord, maxRecord + 1, 100_000} {
				if _, err := conn.Write(b[:size]); err != broken {
					t.Errorf("a later Write of %d: %v", size, err)
				}
			}
			if _, err := conn.raw.Write([]byte("alert")); err != broken {
				t.Errorf("a later alert: %v", err)
			}
			if calls := s.written(); len(calls) > 0 {
				t.Errorf("%d calls behind the failed one", len(calls))
			}
		})
	}
}

// securePair returns both ends of a TLS connection over TCP, as hosts have them, and the dialler's socket.
func securePair(t *testing.T) (dialler, acceptor sec.SecureConn, s *socket) {
	t.Helper()
	type end struct {
		transport sec.SecureTransport
		id        peer.ID
	}
	newEnd := func() end {
		key, err := crypto.UnmarshalEd25519PrivateKey(keyOf(rand.Text()))
		if err != nil {
			t.Fatal(err)
		}
		tr, err := libp2ptls.New(libp2ptls.ID, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		self, _ := peer.IDFromPrivateKey(key)
		return end{gathering{tr}, self}
	}
	a, b := newEnd(), newEnd()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		if acceptor, err = b.transport.SecureInbound(ctx, c, a.id); err != nil {
			t.Error(err)
		}
	})
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s = &socket{Conn: c, takes: -1}
	dialler, err = a.transport.SecureOutbound(ctx, s, b.id)
	wg.Wait()
	if err != nil || t.Failed() {
		t.Fatal("secure:", err)
	}
	t.Cleanup(func() {
		dialler.Close()
		acceptor.Close()
	})
	return dialler, acceptor, s
}

// Whatever crypto/tls makes of it, a frame of the multiplexer is one call: at the beginning of a connection, when records are
// short, and later.
func TestGatherTLS(t *testing.T) {
	a, b, s := securePair(t)
	s.written()
	for i := range 10 {
		sent, got := randomBytes(64<<10), make([]byte, 64<<10)
		if n, err := a.Write(sent); n != len(sent) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		if calls := len(s.written()); calls != 1 {
			t.Errorf("%d calls for write %d", calls, i)
		}
		b.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("write %d arrived damaged, or %v", i, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read at the end = %d, %v", n, err) // not io.ErrUnexpectedEOF: TLS has said goodbye
	}
	if _, err := a.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

// Both ends read and write at a time, several writers each; what a Write sends stays together.
func TestGatherConcurrent(t *testing.T) {
	const writers, writes = 3, 60
	a, b, _ := securePair(t)
	var wg sync.WaitGroup
	for _, c := range []sec.SecureConn{a, b} {
		c.SetDeadline(time.Now().Add(patience))
		for w := range writers {
			wg.Go(func() {
				for range writes {
					size := 1 + mathrand.IntN(40<<(2*mathrand.IntN(7))) // up to 160 KiB
					out := append([]byte{byte(w), byte(size >> 16), byte(size >> 8), byte(size)}, bytes.Repeat([]byte{byte(w)}, size)...)
					if n, err := c.Write(out); n != len(out) || err != nil {
						t.Errorf("Write of %d = %d, %v", len(out), n, err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			for range writers * writes {
				var head [4]byte
				if _, err := io.ReadFull(c, head[:]); err != nil {
					t.Error(err)
					return
				}
				body := make([]byte, int(head[1])<<16|int(head[2])<<8|int(head[3]))
				if _, err := io.ReadFull(c, body); err != nil {
					t.Error(err)
					return
				}
				if len(bytes.Trim(body, string(head[:1]))) > 0 {
					t.Error("writes are mixed up")
					return
				}
			}
		})
	}
	wg.Wait()
}

// fill writes until the other end, which does not read, takes no more and writes fail.
func fill(c net.Conn, size int) error {
	b := make([]byte, size)
	for {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

func TestGatherDeadline(t *testing.T) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, _, _ := securePair(t)
			a.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			if err := fill(a, size); !os.IsTimeout(err) {
				t.Fatalf("Write = %v", err)
			}
			a.SetWriteDeadline(time.Time{})
			if _, err := a.Write(make([]byte, size)); !os.IsTimeout(err) {
				t.Errorf("a later Write: %v", err)
			}
		})
	}
	t.Run("past", func(t *testing.T) {
		a, _, s := securePair(t)
		s.written()
		a.SetWriteDeadline(time.Now().Add(-time.Second))
		if _, err := a.Write(make([]byte, 64<<10)); !os.IsTimeout(err) {
			t.Errorf("Write = %v", err)
		}
	})
}

// Close does not wait for a Write that is stuck, nor has TLS say goodbye behind it.
func TestGatherCloseDuringWrite(t *testing.T) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			here, there := net.Pipe() // which nobody reads
			defer there.Close()
			s := &socket{Conn: here, takes: -1}
			conn, fake := gatherFake(s)
			failed := make(chan error, 1)
			go func() { failed <- fill(conn, size) }()
			eventually(t, "the Write is under way", func() bool { return len(s.written()) > 0 })
			if err := conn.Close(); err != nil || fake.closed {
				t.Errorf("Close = %v, with a goodbye: %v", err, fake.closed)
			}
			if err := <-failed; !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("Write = %v", err)
			}
			if _, err := conn.Write(make([]byte, size)); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("a later Write: %v", err)
			}
		})
	}
	t.Run("TLS", func(t *testing.T) {
		a, _, s := securePair(t)
		s.written()
		failed := make(chan error, 1)
		go func() { failed <- fill(a, 64<<10) }()
		eventually(t, "Writes are under way", func() bool { return len(s.written()) > 0 })
		a.Close()
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write = %v", err)
		}
		if _, err := a.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a later Write: %v", err)
		}
	})
}
