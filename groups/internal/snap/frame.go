package snap

import (
	"encoding/binary"
	"errors"

	"github.com/mosaik-go/mosaik/id"
)

// Protocol is the protocol of the streams on which state travels. A stream belongs to one fetch: the side that opened it
// asks, the other answers, one question at a time, each in one frame.
//
//	question   group:32 root:32 what:uvarint      what: 0 the manifest, n+1 chunk n
//	answer     reply:byte bytes                   the bytes of what was asked for, if reply is Here
const Protocol = "groups-state/1"

// FrameMost bounds the body of a frame.
const FrameMost = max(ManifestMost, ChunkMost) + 64

// Reply says what a member answers to a question.
type Reply byte

const (
	Here    Reply = iota // the bytes follow
	NotYet               // it is being written: ask again soon
	Unknown              // there is no image with that root here
	Refused              // the asker is not known as a member here, or asks too much at once
)

// Request is what is asked for: the manifest, or a chunk.
type Request struct {
	Manifest bool
	Chunk    int
}

// Question is a request with whose state it is about.
type Question struct {
	Group id.ID
	Root  id.ID
	Request
}

var errFrame = errors.New("snap: malformed frame")

const questionMost = 2*id.Size + binary.MaxVarintLen64

// AppendQuestion appends the encoded question.
func AppendQuestion(b []byte, q Question) []byte {
	b = append(b, q.Group[:]...)
	b = append(b, q.Root[:]...)
	what := uint64(0)
	if !q.Manifest {
		what = uint64(q.Chunk) + 1
	}
	return binary.AppendUvarint(b, what)
}

// DecodeQuestion reads what AppendQuestion wrote.
func DecodeQuestion(b []byte) (q Question, err error) {
	if len(b) < 2*id.Size || len(b) > questionMost {
		return q, errFrame
	}
	b = b[copy(q.Group[:], b):]
	b = b[copy(q.Root[:], b):]
	what, n := binary.Uvarint(b)
	if n <= 0 || n < len(b) || what > 1<<40 {
		return q, errFrame
	}
	if q.Manifest = what == 0; !q.Manifest {
		q.Chunk = int(what - 1)
	}
	return q, nil
}
