package logstore

import (
	"errors"
	"io"
)

// ErrNoImage reports that there is no image of the position.
var ErrNoImage = errors.New("logstore: no such image")

// Images keeps snapshot images of one group: what the group's state was at some positions of its log, as bytes that mean
// nothing to the store. It is safe for concurrent use, also with the use of its [Log].
type Images interface {
	// Create begins the image of the state at a raft index. It is invisible until it is committed, and then replaces an
	// older one of the same index. What is not committed when the process ends is gone.
	Create(index uint64) (ImageWriter, error)

	// Open returns the image of the index. It fails with [ErrNoImage] if there is none. An image that is dropped while
	// it is open can be read until it is closed.
	Open(index uint64) (Image, error)

	// List returns the indices of all committed images, lowest first.
	List() ([]uint64, error)

	// Drop removes the image of the index, if there is one.
	Drop(index uint64) error

	// Lasting reports whether committed images survive the process. If they do, state that was fetched from another
	// member is stored as an image before it replaces what the log holds, and the log is cut only behind images.
	Lasting() bool
}

// ImageWriter writes one image. It must be ended by Commit or Abort; calls after the end fail or do nothing.
type ImageWriter interface {
	// Write appends to the image. It keeps nothing of p.
	io.Writer

	// Commit makes the image visible, with a description that [Image.Meta] returns. It returns once the image is as safe
	// as the store can make it.
	Commit(meta []byte) error

	// Abort gives the image up.
	Abort()
}

// Image is a committed image, open for reading. ReadAt may be called concurrently.
type Image interface {
	io.ReaderAt
	Size() int64
	Meta() []byte // must not be changed
	Close() error
}
