package link

import (
	"encoding/binary"
	"io"
	"time"
)

// HeaderSize is the length of a frame's header: the length of its body, big-endian.
const HeaderSize = 4

const (
	readBufferMin = 4 << 10  // what a quiet link holds
	readBufferMax = 64 << 10 // what a busy link reads at once; longer frames grow the buffer as their bytes arrive

	maxEmptyReads = 100 // in a row, from a source that returns nothing and no error
)

// Reader reads the frames of one stream. It is not safe for concurrent use.
type Reader struct {
	src      io.Reader
	max      int
	deadline func(time.Time) error // nil: no idle limit
	idle     time.Duration
	armed    time.Time // the deadline that is set

	box  *[]byte // what buf is, as the pool has it; nil at first
	buf  []byte
	r, w int  // unread bytes are buf[r:w]
	full bool // a read filled the buffer: a larger one would save reads
}

// NewReader returns a reader of frames whose bodies have at most maxFrame bytes. It sets no deadlines: the caller does,
// or calls [Reader.LimitIdle].
func NewReader(src io.Reader, maxFrame int) *Reader {
	return &Reader{src: src, max: maxFrame, buf: make([]byte, readBufferMin)}
}

// LimitIdle makes reads fail when nothing at all arrives for the duration. The limit is exact to a quarter of it, so that
// a busy link need not set a deadline for each frame.
func (r *Reader) LimitIdle(s Stream, d time.Duration) {
	r.deadline, r.idle = s.SetReadDeadline, d
}

// Next returns the body of the next frame. It is valid until the following call. The error is io.EOF at the end of the
// stream, io.ErrUnexpectedEOF when the stream ends inside a frame, and a *[CloseError] with [CodeFrameTooLarge] when a
// frame claims to be longer than allowed, which is found before anything is allocated for it. After a deadline that has
// passed, Next can be called again: nothing that had arrived is lost.
func (r *Reader) Next() ([]byte, error) {
	if err := r.fill(HeaderSize); err != nil {
		if err == io.EOF && r.w > r.r {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	size := binary.BigEndian.Uint32(r.buf[r.r:])
	if int64(size) > int64(r.max) {
		return nil, &CloseError{Code: CodeFrameTooLarge}
	}
	n := HeaderSize + int(size)
	if err := r.fill(n); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	body := r.buf[r.r+HeaderSize : r.r+n : r.r+n]
	r.r += n
	return body, nil
}

// Ready reports whether another whole frame has already arrived, so that Next will not wait. A receiver that collects
// frames hands them on when Ready says no.
func (r *Reader) Ready() bool {
	if r.w-r.r < HeaderSize {
		return false
	}
	return int64(r.w-r.r-HeaderSize) >= int64(binary.BigEndian.Uint32(r.buf[r.r:]))
}

// fill reads until at least n unread bytes are in the buffer.
func (r *Reader) fill(n int) error {
	for empty := 0; r.w-r.r < n; {
		r.makeRoom(n)
		if err := r.arm(); err != nil {
			return err
		}
		m, err := r.src.Read(r.buf[r.w:])
		r.w += m
		r.full = r.full || r.w == len(r.buf)
		if err != nil && r.w-r.r < n {
			return err
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return nil
}

// makeRoom makes sure that there is space behind the unread bytes. It never holds more than twice what has arrived plus
// the ordinary buffer, whatever length a frame claims.
func (r *Reader) makeRoom(n int) {
	unread := r.w - r.r
	if unread == 0 {
		r.r, r.w = 0, 0
		if len(r.buf) > readBufferMax && n <= readBufferMax { // a long frame is over
			r.replace(readBufferMax)
		}
		if r.full && len(r.buf) < readBufferMax {
			r.replace(2 * len(r.buf))
		}
		r.full = false
	}
	if r.w < len(r.buf) && r.r+n <= len(r.buf) {
		return
	}
	if r.r > 0 {
		copy(r.buf, r.buf[r.r:r.w])
		r.r, r.w = 0, unread
	}
	if r.w < len(r.buf) && (n <= len(r.buf) || len(r.buf) >= readBufferMax) {
		return // room for now; a longer frame grows the buffer when this part is full
	}
	r.replace(min(2*len(r.buf), max(n, readBufferMax)))
}

// replace goes over to a buffer of at least the size, with what the old one holds.
func (r *Reader) replace(size int) {
	old, held := r.box, r.buf[:r.w]
	r.box = long.get(size)
	r.buf = *r.box
	copy(r.buf, held)
	if old != nil {
		long.put(old)
	}
}

// arm moves the idle deadline, unless it was moved a moment ago.
func (r *Reader) arm() error {
	if r.deadline == nil {
		return nil
	}
	now := time.Now()
	if until := r.armed.Sub(now); until > r.idle-r.idle/4 {
		return nil
	}
	r.armed = now.Add(r.idle)
	return r.deadline(r.armed)
}
