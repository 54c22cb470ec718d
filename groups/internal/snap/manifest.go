package snap

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/zeebo/blake3"

	"github.com/mosaik-go/mosaik/id"
)

// Manifest describes an image: the state cut into chunks of equal size, the last of which may be shorter, and the hash of
// each. Members with equal state have equal manifests, provided that the state is written canonically.
type Manifest struct {
	Chunk  int    // bytes
	Size   int64  // of all chunks
	Engine []byte // the engine's own state, which is not part of the chunks
	Hashes []Hash
}

// Hash is the BLAKE3 hash of a chunk.
type Hash [32]byte

// HashOf returns the hash of a chunk.
func HashOf(chunk []byte) Hash { return blake3.Sum256(chunk) }

// Bounds of a manifest.
const (
	ManifestMost = 16 << 20 // encoded bytes: state of about half a million chunks
	ChunkMost    = 4 << 20
)

// ErrManifest reports bytes that are no manifest.
var ErrManifest = errors.New("snap: malformed manifest")

const manifestVersion = 1

// Encode returns the manifest as bytes: a version, and each field, with its length in front where that varies.
func (m *Manifest) Encode() []byte {
	b := append(make([]byte, 0, len(m.Engine)+len(m.Hashes)*len(Hash{})+32), manifestVersion)
	b = binary.AppendUvarint(b, uint64(m.Chunk))
	b = binary.AppendUvarint(b, uint64(m.Size))
	b = binary.AppendUvarint(b, uint64(len(m.Engine)))
	b = append(b, m.Engine...)
	for i := range m.Hashes {
		b = append(b, m.Hashes[i][:]...)
	}
	return b
}

// DecodeManifest reads what Encode wrote.
func DecodeManifest(b []byte) (*Manifest, error) {
	if len(b) == 0 || len(b) > ManifestMost || b[0] != manifestVersion {
		return nil, ErrManifest
	}
	b = b[1:]
	bad := false
	uvarint := func(most uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > most {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	m := &Manifest{Chunk: int(uvarint(ChunkMost)), Size: int64(uvarint(1 << 62))}
	n := uvarint(uint64(len(b)))
	if bad || n > uint64(len(b)) {
		return nil, ErrManifest
	}
	m.Engine = append([]byte(nil), b[:n]...)
	b = b[n:]
	if m.Chunk < 1 || len(b)%len(Hash{}) != 0 || int64(len(b)/len(Hash{})) != (m.Size+int64(m.Chunk)-1)/int64(m.Chunk) {
		return nil, ErrManifest
	}
	m.Hashes = make([]Hash, len(b)/len(Hash{}))
	for i := range m.Hashes {
		b = b[copy(m.Hashes[i][:], b):]
	}
	return m, nil
}

// RootOf returns the root of an encoded manifest, by which the group names the state.
func RootOf(manifest []byte) id.ID { return id.ID(blake3.Sum256(manifest)) }

// ChunkSize returns the length of a chunk.
func (m *Manifest) ChunkSize(chunk int) int {
	return int(min(int64(m.Chunk), m.Size-int64(chunk)*int64(m.Chunk)))
}

// Cutter cuts a stream into chunks and writes each of them on in one piece.
type Cutter struct {
	to  io.Writer
	m   Manifest
	buf []byte // the present chunk
	err error
}

// NewCutter returns a Cutter that writes to w.
func NewCutter(w io.Writer, chunk int, engine []byte) *Cutter {
	return &Cutter{to: w, m: Manifest{Chunk: chunk, Engine: engine}}
}

// Write takes a part of the stream. It fails once writing a chunk has failed.
func (c *Cutter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) && c.err == nil {
		if len(c.buf) == 0 && len(p)-n >= c.m.Chunk {
			c.seal(p[n : n+c.m.Chunk])
			n += c.m.Chunk
			continue
		}
		if c.buf == nil {
			c.buf = make([]byte, 0, min(c.m.Chunk, max(len(p), 4096)))
		}
		part := p[n:min(len(p), n+c.m.Chunk-len(c.buf))]
		c.buf = append(c.buf, part...)
		n += len(part)
		if len(c.buf) == c.m.Chunk {
			c.seal(c.buf)
			c.buf = c.buf[:0]
		}
	}
	return n, c.err
}

func (c *Cutter) seal(chunk []byte) {
	c.m.Hashes = append(c.m.Hashes, HashOf(chunk))
	c.m.Size += int64(len(chunk))
	_, c.err = c.to.Write(chunk)
}

// Manifest ends the last chunk and returns the manifest of everything that was written.
func (c *Cutter) Manifest() (*Manifest, error) {
	if len(c.buf) > 0 && c.err == nil {
		c.seal(c.buf)
		c.buf = c.buf[:0]
	}
	return &c.m, c.err
}
