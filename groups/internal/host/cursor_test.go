package host

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// pieces is a view that is written in pieces of random size.
type pieces struct {
	data []byte
	seed uint64
	err  error // at the end
}

func (p *pieces) WriteTo(w io.Writer) (int64, error) {
	rng := rand.New(rand.NewPCG(p.seed, 1))
	for rest := p.data; len(rest) > 0; {
		n := min(1+rng.IntN(40), len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return int64(len(p.data)), p.err
}

func (*pieces) Release() {}

// A cursor gives any ascending chunks, whatever is skipped, and however the view cuts its writes.
func TestCursorProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := &pieces{seed: rapid.Uint64().Draw(t, "seed")}
		v.data = make([]byte, rapid.IntRange(1, 500).Draw(t, "size"))
		for i := range v.data {
			v.data[i] = byte(i * 7)
		}
		size := rapid.IntRange(1, 60).Draw(t, "chunk")
		chunks := (len(v.data) + size - 1) / size
		c := newCursor(v, size)
		defer c.close()
		for n := 0; n < chunks; n++ {
			if rapid.Bool().Draw(t, "skip") {
				continue
			}
			got, err := c.read(n, []byte("head"))
			want := "head" + string(v.data[n*size:min((n+1)*size, len(v.data))])
			if err != nil || string(got) != want {
				t.Fatalf("chunk %d of %d: %q, %v, want %q", n, chunks, got, err, want)
			}
		}
		if got, err := c.read(chunks, nil); err == nil {
			t.Fatalf("read %q beyond the end", got)
		}
	})
}

type panics struct{}

func (panics) WriteTo(w io.Writer) (int64, error) {
	w.Write([]byte("abc"))
	panic("boo")
}
func (panics) Release() {}

func TestCursorOfBrokenView(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	c := newCursor(&pieces{data: []byte("abc"), err: broken}, 10)
	if _, err := c.read(0, nil); !errors.Is(err, broken) {
		t.Errorf("a view that fails: %v", err)
	}
	c.close()
	c = newCursor(panics{}, 2)
	if b, err := c.read(0, nil); string(b) != "ab" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := c.read(1, nil); err == nil || !strings.Contains(err.Error(), "boo") {
		t.Errorf("a view that panics: %v", err)
	}
	c.close()
	newCursor(panics{}, 2).close() // before anything was read
}

// Views may be read by several at once.
func TestCursorsAreIndependent(t *testing.T) {
	t.Parallel()
	v := &pieces{data: bytes.Repeat([]byte("0123456789"), 100)}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			c := newCursor(v, 10)
			defer c.close()
			for n := i; n < 100; n += 4 {
				if b, err := c.read(n, nil); string(b) != "0123456789" || err != nil {
					t.Errorf("chunk %d: %q, %v", n, b, err)
				}
			}
		})
	}
	wg.Wait()
}
