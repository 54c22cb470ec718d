package pebble

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"path"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/mosaik-go/mosaik/groups/logstore"
)

// The database's latest write-ahead log may end anywhere, where a crash cut it off. What is damaged before that end looks the
// same at first: something that cannot be read. The difference is what comes after it. The store's writer begins a record
// only when the one before is safe on disk, so the beginning of a record behind the damage proves that the damaged place
// was once whole. The database has a check of its own, by the sync offsets in its chunks, but it looks only from the
// next block of 32 KiB on, and not in the first log of a new database. This one looks at each byte. It trusts nothing but
// whole chunks of the same log, so it never takes a cut-off end for damage. Damage of the very last record cannot be told from one.

// The format of a chunk, as in the database's package record: checksum of what follows the length (4 bytes), length of
// the payload (2), kind (1), number of the log (4), for kinds from walSynced on bytes that were safe (8), payload. No
// chunk crosses the end of a block; what is left of a block and too small for a chunk is zero.
const (
	walBlock  = 32 << 10
	walHeader = 4 + 2 + 1 + 4

	// In each format there are four kinds: a whole record, its first, middle and last part.
	walNumbered = 5
	walSynced   = 9
	walKinds    = 4
)

// checkWAL fails with [logstore.ErrCorrupt] if the latest log of a database is proven to be damaged before its end.
func checkWAL(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	var latest wal.NumWAL
	name := ""
	for _, n := range names {
		if num, _, ok := wal.ParseLogFilename(n); ok && num >= latest {
			latest, name = num, n
		}
	}
	if name == "" {
		return nil
	}
	f, err := fs.Open(path.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if at, proof := walDamage(data, uint32(latest)); proof > 0 {
		return fmt.Errorf("%w: %s cannot be read at %d, and a write that came later is whole at %d", logstore.ErrCorrupt, name, at, proof)
	}
	return nil
}

// walDamage returns where a log cannot be read, and where behind that a record begins, zero if none does.
func walDamage(log []byte, number uint32) (at, proof int) {
	for at < len(log) {
		size, _ := walChunk(log, at, number)
		if size == 0 {
			break
		}
		at += size
		if left := walBlock - at%walBlock; left < walHeader || left < walHeader+8 && isZero(log[at:min(at+left, len(log))]) {
			at += left
		}
	}
	for p := at + 1; p < len(log); p++ {
		if _, begins := walChunk(log, p, number); begins {
			return at, p
		}
	}
	return at, 0
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// walChunk returns the size of the chunk at a place, with its header, and whether a record begins there. The size is zero
// if there is no whole chunk of this log.
func walChunk(log []byte, at int, number uint32) (size int, begins bool) {
	block := log[at:min(len(log), at-at%walBlock+walBlock)]
	if len(block) < walHeader || binary.LittleEndian.Uint32(block[7:]) != number {
		return 0, false
	}
	kind := block[6]
	if kind < walNumbered || kind >= walSynced+walKinds {
		return 0, false
	}
	size = walHeader + int(binary.LittleEndian.Uint16(block[4:]))
	if kind >= walSynced {
		size += 8
	}
	if size > len(block) {
		return 0, false
	}
	sum := bits.RotateLeft32(crc32.Checksum(block[6:size], castagnoli), 17) + 0xa282ead8
	if sum != binary.LittleEndian.Uint32(block) {
		return 0, false
	}
	return size, (kind-walNumbered)%walKinds < 2
}
