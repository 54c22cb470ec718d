package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/id"
)

// ErrMalformed is wrapped by every error that says that bytes are not the canonical encoding of anything.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// maxTime bounds times on the wire: milliseconds until the year 37648.
const maxTime = 1 << 50

// reader takes values off a byte slice. The first failure sticks and later reads return zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(format, args...)
		r.b = nil
	}
}

// uvarint reads an integer of at most limit.
func (r *reader) uvarint(what string, limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n <= 0:
		r.fail("%s: cut short or overlong", what)
	case n > 1 && r.b[n-1] == 0:
		r.fail("%s: not in its shortest form", what)
	case v > limit:
		r.fail("%s: %d, at most %d allowed", what, v, limit)
	default:
		r.b = r.b[n:]
		return v
	}
	return 0
}

func (r *reader) time(what string) int64 { return int64(r.uvarint(what, maxTime)) }

// count reads the length of a list whose elements have at least size bytes each.
func (r *reader) count(what string, limit, size int) int {
	n := int(r.uvarint(what, uint64(limit)))
	if n*size > len(r.b) {
		r.fail("%s: %d announced, only %d bytes left", what, n, len(r.b))
		return 0
	}
	return n
}

// take returns the next n bytes, which alias the input.
func (r *reader) take(what string, n int) []byte {
	if n > len(r.b) {
		r.fail("%s: %d bytes wanted, %d left", what, n, len(r.b))
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) fill(what string, dst []byte) { copy(dst, r.take(what, len(dst))) }

func (r *reader) byte(what string) byte {
	var b [1]byte
	r.fill(what, b[:])
	return b[0]
}

func (r *reader) peer(what string) (p id.PeerID) {
	r.fill(what, p[:])
	return p
}

// ids reads a strictly ascending list.
func (r *reader) ids(what string, limit int) []id.ID {
	n := r.count(what, limit, id.Size)
	if n == 0 {
		return nil
	}
	out := make([]id.ID, n)
	for i := range out {
		r.fill(what, out[i][:])
		if i > 0 && out[i-1].Compare(out[i]) >= 0 {
			r.fail("%s: not strictly ascending", what)
			return nil
		}
	}
	return out
}

// end says whether everything was read and understood.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

func appendIDs(dst []byte, ids []id.ID) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ids)))
	for i := range ids {
		dst = append(dst, ids[i][:]...)
	}
	return dst
}

func appendTime(dst []byte, t int64) []byte { return binary.AppendUvarint(dst, uint64(t)) }
