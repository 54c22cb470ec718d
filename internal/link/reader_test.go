package link_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/internal/link"
)

// readAll returns the bodies of all frames, and the error that ended it.
func readAll(r *link.Reader) (bodies [][]byte, err error) {
	for {
		b, err := r.Next()
		if err != nil {
			return bodies, err
		}
		bodies = append(bodies, bytes.Clone(b))
	}
}

// However the bytes of frames arrive, the frames come out.
func TestReaderFrames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 300_000)), 0, 8).Draw(t, "sizes")
		var wire []byte
		var want [][]byte
		for i, size := range sizes {
			b := body(size)
			if size > 0 {
				b[0] = byte(i)
			}
			want = append(want, b)
			wire = append(wire, frame(b)...)
		}
		step := rapid.SampledFrom([]int{1, 3, 4, 5, 4096, 65536, math.MaxInt}).Draw(t, "step")
		if len(wire) > 100_000 {
			step = max(step, 1000)
		}
		got, err := readAll(link.NewReader(&steps{bytes.NewReader(wire), step}, 300_000))
		if err != io.EOF {
			t.Fatalf("the end of the stream: got %v, want io.EOF", err)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("got %d frames, want %d, or other bytes", len(got), len(want))
		}
	})
}

// steps returns at most so many bytes from each read.
type steps struct {
	io.Reader
	most int
}

func (s *steps) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), s.most)]) }

func TestReaderEnds(t *testing.T) {
	t.Parallel()
	whole := frame([]byte("hello"))
	for _, c := range []struct {
		name   string
		wire   []byte
		frames int
		want   error
	}{
		{"nothing", nil, 0, io.EOF},
		{"between frames", whole, 1, io.EOF},
		{"inside a header", append(whole[:len(whole):len(whole)], 0, 0), 1, io.ErrUnexpectedEOF},
		{"after a header", claim(5), 0, io.ErrUnexpectedEOF},
		{"inside a body", whole[:len(whole)-1], 0, io.ErrUnexpectedEOF},
		{"empty body", claim(0), 1, io.EOF},
		{"limit", frame(body(100)), 1, io.EOF},
		{"beyond the limit", frame(body(101)), 0, &link.CloseError{Code: link.CodeFrameTooLarge}},
		{"largest claim", claim(math.MaxUint32), 0, &link.CloseError{Code: link.CodeFrameTooLarge}},
		{"as a signed number", claim(1 << 31), 0, &link.CloseError{Code: link.CodeFrameTooLarge}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := link.NewReader(bytes.NewReader(c.wire), 100)
			got, err := readAll(r)
			if len(got) != c.frames || !errors.Is(err, c.want) {
				t.Fatalf("got %d frames and %v, want %d and %v", len(got), err, c.frames, c.want)
			}
			if _, again := r.Next(); !errors.Is(again, c.want) {
				t.Errorf("once more: got %v, want %v", again, c.want)
			}
		})
	}
}

// A length is a claim, and what it claims is not allocated before it has come.
func TestReaderAllocatesWhatArrives(t *testing.T) {
	t.Parallel()
	const limit = 256 << 20
	for _, arrived := range []int{0, 10, 100_000, 5 << 20} {
		r := link.NewReader(bytes.NewReader(append(claim(limit), make([]byte, arrived)...)), limit)
		if _, err := r.Next(); err != io.ErrUnexpectedEOF {
			t.Fatalf("got %v, want io.ErrUnexpectedEOF", err)
		}
		if most := 2*arrived + 128<<10; r.Held() > most {
			t.Errorf("of %d bytes %d arrived: the reader holds %d, want at most %d", limit, arrived, r.Held(), most)
		}
	}
	r := link.NewReader(bytes.NewReader(claim(limit+1)), limit)
	before := r.Held()
	if _, err := r.Next(); link.CodeOf(err) != link.CodeFrameTooLarge {
		t.Fatalf("got %v, want frame too large", err)
	}
	if r.Held() != before {
		t.Errorf("a frame that is too long made the reader hold %d bytes, %d before", r.Held(), before)
	}
}

// A long frame is not paid for for ever.
func TestReaderShrinks(t *testing.T) {
	t.Parallel()
	src, feed := io.Pipe()
	r := link.NewReader(src, 8<<20)
	go func() {
		feed.Write(frame(body(8 << 20)))
		feed.Write(frame(body(3)))
		feed.Close()
	}()
	if b, err := r.Next(); err != nil || len(b) != 8<<20 {
		t.Fatalf("long frame: got %d bytes and %v", len(b), err)
	}
	if b, err := r.Next(); err != nil || len(b) != 3 {
		t.Fatalf("short frame: got %d bytes and %v", len(b), err)
	}
	if r.Held() > 64<<10 {
		t.Errorf("after a long frame the reader holds %d bytes", r.Held())
	}
}

func TestReaderReady(t *testing.T) {
	t.Parallel()
	wire := slices.Concat(frame([]byte("one")), frame([]byte("two")), claim(10), []byte("half"))
	r := link.NewReader(bytes.NewReader(wire), 100)
	if r.Ready() {
		t.Error("ready before the first read")
	}
	for _, ready := range []bool{true, false} {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if r.Ready() != ready {
			t.Errorf("ready is %v with half a frame behind it", !ready)
		}
	}
}

func TestReaderWithoutProgress(t *testing.T) {
	t.Parallel()
	if _, err := link.NewReader(nothing{}, 100).Next(); err != io.ErrNoProgress {
		t.Errorf("got %v, want io.ErrNoProgress", err)
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// An error that comes with the last bytes does not lose them.
func TestReaderDataWithError(t *testing.T) {
	t.Parallel()
	got, err := readAll(link.NewReader(iotest.DataErrReader(bytes.NewReader(frame([]byte("last")))), 100))
	if len(got) != 1 || string(got[0]) != "last" || err != io.EOF {
		t.Errorf("got %q and %v", got, err)
	}
}

func TestReaderIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const idle = 8 * time.Second
		s, peer := newPipe(t)
		r := link.NewReader(s, 1<<20)
		r.LimitIdle(s, idle)
		go func() {
			for range 5 {
				time.Sleep(idle / 2)
				peer.Write([]byte{0, 0})
			}
		}()
		start := time.Now()
		// The ten bytes are an empty frame, another, and half the header of a third. None of them came late.
		for range 2 {
			if b, err := r.Next(); err != nil || len(b) != 0 {
				t.Fatalf("a slow but steady peer: got %q and %v", b, err)
			}
		}
		_, err := r.Next()
		if !errors.Is(err, os.ErrDeadlineExceeded) || link.CodeOf(err) != link.CodeTimeout {
			t.Fatalf("a silent peer: got %v, want os.ErrDeadlineExceeded", err)
		}
		if silent := time.Since(start) - 5*idle/2; silent < idle*3/4 || silent > idle {
			t.Errorf("gave up after %v of silence, want three quarters to all of %v", silent, idle)
		}
		// Nothing is lost: the frame goes on where it was.
		go peer.Write([]byte{0, 3, 'e', 'n', 'd'})
		if b, err := r.Next(); err != nil || string(b) != "end" {
			t.Errorf("after the deadline: got %q and %v, want \"end\"", b, err)
		}
	})
}

// FuzzReader feeds arbitrary bytes. Whatever they are, the reader returns frames that were there and then an error, and
// holds no more than it must.
func FuzzReader(f *testing.F) {
	f.Add(frame([]byte("hello")), uint16(100), uint8(3))
	f.Add(append(frame(body(100)), frame(body(101))...), uint16(100), uint8(0))
	f.Add(claim(math.MaxUint32), uint16(math.MaxUint16), uint8(1))
	f.Add(append(claim(60_000), body(5_000)...), uint16(60_000), uint8(200))
	f.Add([]byte{0, 0, 0}, uint16(0), uint8(1))
	f.Fuzz(func(t *testing.T, wire []byte, limit uint16, step uint8) {
		r := link.NewReader(&steps{bytes.NewReader(wire), int(step) + 1}, int(limit))
		rest := wire
		for {
			b, err := r.Next()
			if r.Held() > 2*len(wire)+128<<10 {
				t.Fatalf("%d bytes of input made the reader hold %d", len(wire), r.Held())
			}
			if err == nil {
				if len(b) > int(limit) || !bytes.HasPrefix(rest, frame(b)) {
					t.Fatalf("a frame of %d bytes that was not there", len(b))
				}
				rest = rest[len(b)+link.HeaderSize:]
				continue
			}
			switch {
			case err == io.EOF && len(rest) == 0:
			case err == io.ErrUnexpectedEOF && len(rest) > 0:
			case link.CodeOf(err) == link.CodeFrameTooLarge && len(rest) >= link.HeaderSize:
			default:
				t.Fatalf("%v with %d bytes left", err, len(rest))
			}
			return
		}
	})
}
