package snap

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cutUp returns the manifest of data that is written in pieces of the given sizes, again and again.
func cutUp(t testing.TB, data []byte, chunk int, pieces ...int) (*Manifest, []byte) {
	t.Helper()
	var out bytes.Buffer
	c := NewCutter(&out, chunk, []byte("engine"))
	for i := 0; len(data) > 0; i++ {
		n := min(pieces[i%len(pieces)], len(data))
		if k, err := c.Write(data[:n]); k != n || err != nil {
			t.Fatal(k, err)
		}
		data = data[n:]
	}
	m, err := c.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return m, out.Bytes()
}

func noise(n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// How a machine cuts its writes must not matter for the root.
func TestCutterIgnoresHowItIsWritten(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 99, 100, 101, 1000, 12345} {
		data := noise(size)
		whole, out := cutUp(t, data, 100, 1<<20)
		if !bytes.Equal(out, data) {
			t.Fatalf("%d bytes: something else came out", size)
		}
		if whole.Size != int64(size) || len(whole.Hashes) != (size+99)/100 {
			t.Fatalf("%d bytes: manifest of %d bytes in %d chunks", size, whole.Size, len(whole.Hashes))
		}
		for i, h := range whole.Hashes {
			if HashOf(data[i*100:][:whole.ChunkSize(i)]) != h {
				t.Fatalf("%d bytes: hash of chunk %d", size, i)
			}
		}
		for _, pieces := range [][]int{{1}, {7}, {99, 102}, {100}, {250, 3}} {
			if m, out := cutUp(t, data, 100, pieces...); RootOf(m.Encode()) != RootOf(whole.Encode()) || !bytes.Equal(out, data) {
				t.Fatalf("%d bytes in pieces of %v have another root", size, pieces)
			}
		}
	}
}

type brokenWriter struct{ left int }

var errBroken = errors.New("broken")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestCutterFails(t *testing.T) {
	t.Parallel()
	c := NewCutter(&brokenWriter{250}, 100, nil)
	if _, err := c.Write(noise(1000)); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if _, err := c.Write(noise(1)); !errors.Is(err, errBroken) {
		t.Fatal("goes on after a failure:", err)
	}
	if _, err := c.Manifest(); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	late := NewCutter(&brokenWriter{50}, 100, nil)
	late.Write(noise(60))
	if _, err := late.Manifest(); !errors.Is(err, errBroken) {
		t.Fatal("the last chunk was lost:", err)
	}
}

func TestManifestEncoding(t *testing.T) {
	t.Parallel()
	m, _ := cutUp(t, noise(1234), 100, 10)
	raw := m.Encode()
	got, err := DecodeManifest(raw)
	if err != nil || got.Chunk != 100 || got.Size != 1234 || string(got.Engine) != "engine" || !slices.Equal(got.Hashes, m.Hashes) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range raw {
		if _, err := DecodeManifest(raw[:i]); err == nil {
			t.Fatalf("the first %d bytes are a manifest", i)
		}
	}
	if _, err := DecodeManifest(append(raw, 0)); err == nil {
		t.Error("a byte too many")
	}
	for name, bad := range map[string]*Manifest{
		"no chunk size":   {Chunk: 0, Size: 1, Hashes: make([]Hash, 1)},
		"too large":       {Chunk: ChunkMost + 1, Size: 1, Hashes: make([]Hash, 1)},
		"too few chunks":  {Chunk: 10, Size: 21, Hashes: make([]Hash, 2)},
		"too many chunks": {Chunk: 10, Size: 20, Hashes: make([]Hash, 3)},
	} {
		if _, err := DecodeManifest(bad.Encode()); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	m, _ := cutUp(f, noise(1234), 100, 10)
	f.Add(m.Encode())
	f.Add([]byte{1, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			return
		}
		for i := range m.Hashes {
			if n := m.ChunkSize(i); n < 1 || n > m.Chunk {
				t.Fatalf("chunk %d of %d has %d bytes", i, len(m.Hashes), n)
			}
		}
		if again, err := DecodeManifest(m.Encode()); err != nil || RootOf(again.Encode()) != RootOf(m.Encode()) {
			t.Fatal("does not survive encoding", err)
		}
	})
}

func TestQuestionEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := Question{Group: id.Of("g"), Root: id.Of("r")}
		if q.Manifest = rapid.Bool().Draw(t, "manifest"); !q.Manifest {
			q.Chunk = rapid.IntRange(0, 1<<39).Draw(t, "chunk")
		}
		raw := AppendQuestion(nil, q)
		if got, err := DecodeQuestion(raw); err != nil || got != q {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := DecodeQuestion(raw[:len(raw)-1]); err == nil {
			t.Fatal("a byte too few")
		}
		if _, err := DecodeQuestion(append(raw, 0)); err == nil {
			t.Fatal("a byte too many")
		}
	})
}

func FuzzDecodeQuestion(f *testing.F) {
	f.Add(AppendQuestion(nil, Question{Request: Request{Chunk: 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := DecodeQuestion(b); err == nil && !q.Manifest && q.Chunk < 0 {
			t.Fatal(q)
		}
	})
}
