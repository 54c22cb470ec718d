package link

import (
	"io"
	"time"
)

// Stream is what a link needs of the transport below it: a reliable, ordered, bidirectional byte stream that can be
// ended in order or torn down with a typed reason. Read and Write may run concurrently with each other; neither may run
// concurrently with itself. The other methods are safe from any goroutine.
type Stream interface {
	io.Reader
	io.Writer

	// Calls that a deadline ends, pending ones included, fail with os.ErrDeadlineExceeded, and the stream goes on. The
	// zero time means no deadline.
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error

	// CloseWrite ends this side's writing in order; the other side reads what was written and then io.EOF.
	CloseWrite() error

	// Close ends both directions in order: what was written is still delivered, further reads fail.
	Close() error

	// Abort tears the stream down at once, losing what is under way. Both sides' pending and later calls fail with a
	// *[CloseError] that carries code.
	Abort(code Code) error
}
