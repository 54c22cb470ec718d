package groups

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/id"
)

// schema is what the commands of a group are: what members compare when they meet, and what a log on disk says of itself,
// so that it is not read as something else by a later version of the program.
type schema struct {
	codec       string // its name
	fingerprint id.ID
	description string // that the fingerprint is of; empty if there is none
}

func schemaOf[C any](c codec.Codec[C]) schema {
	return schema{codec: c.Name(), fingerprint: c.Fingerprint(), description: codec.Description(c)}
}

// schemaVersion is of the form in which a log has it: that byte, fingerprint, length of the name as a uvarint, name, and
// the rest is the description.
const schemaVersion = 1

func (s schema) encode() []byte {
	b := append([]byte{schemaVersion}, s.fingerprint[:]...)
	b = binary.AppendUvarint(b, uint64(len(s.codec)))
	return append(append(b, s.codec...), s.description...)
}

func decodeSchema(b []byte) (s schema, err error) {
	if len(b) == 0 || b[0] != schemaVersion {
		return s, errors.New("it is in a form that this version does not know")
	}
	b = b[1:]
	if len(b) < id.Size {
		return s, errors.New("it is cut off")
	}
	copy(s.fingerprint[:], b)
	size, n := binary.Uvarint(b[id.Size:])
	b = b[id.Size:]
	if n <= 0 || size > uint64(len(b)-n) {
		return s, errors.New("it is cut off")
	}
	s.codec, s.description = string(b[n:n+int(size)]), string(b[n+int(size):])
	return s, nil
}

// String returns what fmt.Print shows of the codec, or the beginning of the fingerprint where that is all there is.
func (s schema) String() string {
	switch {
	case s.description != "":
		return s.codec + " " + s.description
	case s.fingerprint.IsZero():
		return s.codec
	default:
		return s.codec + " with schema " + s.fingerprint.Short()
	}
}

// reads reports whether commands that were written with the other schema are read as what they were.
func (s schema) reads(other schema) bool {
	switch {
	case s.codec != other.codec:
		return false
	case s.fingerprint == other.fingerprint:
		return true
	default:
		return s.description != "" && other.description != "" && codec.Extends(s.description, other.description)
	}
}

// check compares with what a log says, and returns what it is to say from now on. A log that says nothing is one with
// nothing in it, or of a version that did not write it down.
func (s schema) check(stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return s.encode(), nil
	}
	was, err := decodeSchema(stored)
	if err != nil {
		return nil, fmt.Errorf("%w: what the store says of its commands cannot be read: %w", ErrSchemaMismatch, err)
	}
	if !s.reads(was) {
		return nil, fmt.Errorf("%w: they are %v, and this program's are %v; give the machine another Signature", ErrSchemaMismatch, was, s)
	}
	return s.encode(), nil
}
