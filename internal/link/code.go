package link

import (
	"errors"
	"fmt"
	"os"
)

// Code says why a link or a connection was closed. The numbers are part of the wire protocol: 0 to 999 belong to the
// system, 10000 to 19999 to streams, 30000 to 39999 to groups.
type Code uint32

// The codes of the system.
const (
	CodeDifferentNetwork    Code = 101 // the two sides belong to different networks
	CodeCancelled           Code = 102 // the local operation was cancelled
	CodeUnexpectedClose     Code = 103 // the stream ended or failed without a reason
	CodeIncompatibleVersion Code = 104 // the two sides speak no common protocol version
	CodeSuccess             Code = 200 // the exchange ran to completion
	CodeShutdown            Code = 204 // the node is closing in order
	CodeUnneeded            Code = 205 // the connection was idle, or a second one to the same peer
	CodeProtocolViolation   Code = 400 // a message could not be decoded or was out of place
	CodeUnknownPeer         Code = 401 // the remote peer is not in the catalog yet
	CodeBadProof            Code = 403 // the proof of the network secret was wrong or missing
	CodeUnknownProtocol     Code = 404 // nobody here handles the protocol of the stream
	CodeTimeout             Code = 408 // no frame arrived within the allowed time
	CodeSupplanted          Code = 409 // a newer incarnation of the same identity took over
	CodeFrameTooLarge       Code = 413 // a frame exceeded the limit of its protocol
	CodeClockDrift          Code = 425 // the clocks of the two sides differ too much
	CodeOverloaded          Code = 429 // too many streams, requests or frames
	CodeBanned              Code = 430 // the peer misbehaved earlier and is kept out for a while
)

// The codes of streams and groups. Their packages document when each is used.
const (
	CodeStreamNotAllowed     Code = 10403
	CodeStreamNotFound       Code = 10404
	CodeStreamSchemaMismatch Code = 10409
	CodeStreamTooSlow        Code = 10413
	CodeStreamNoCapacity     Code = 10509

	CodeGroupInvalidHandshake Code = 30400
	CodeGroupNotAllowed       Code = 30403
	CodeGroupNotFound         Code = 30404
	CodeGroupInvalidProof     Code = 30405
	CodeGroupTimeout          Code = 30408
	CodeGroupAlreadyBonded    Code = 30429
	CodeGroupSchemaMismatch   Code = 30409
	CodeGroupFailed           Code = 30410
)

var codeNames = map[Code]string{
	CodeDifferentNetwork:      "different network",
	CodeCancelled:             "cancelled",
	CodeUnexpectedClose:       "unexpected close",
	CodeIncompatibleVersion:   "incompatible version",
	CodeSuccess:               "success",
	CodeShutdown:              "shutdown",
	CodeUnneeded:              "no longer needed",
	CodeProtocolViolation:     "protocol violation",
	CodeUnknownPeer:           "unknown peer",
	CodeBadProof:              "bad network proof",
	CodeUnknownProtocol:       "unknown protocol",
	CodeTimeout:               "timeout",
	CodeSupplanted:            "supplanted by a newer incarnation",
	CodeFrameTooLarge:         "frame too large",
	CodeClockDrift:            "clock drift",
	CodeOverloaded:            "overloaded",
	CodeBanned:                "banned",
	CodeStreamNotAllowed:      "stream: not allowed",
	CodeStreamNotFound:        "stream: not found",
	CodeStreamSchemaMismatch:  "stream: schema mismatch",
	CodeStreamTooSlow:         "stream: too slow",
	CodeStreamNoCapacity:      "stream: no capacity",
	CodeGroupInvalidHandshake: "group: invalid handshake",
	CodeGroupNotAllowed:       "group: not allowed",
	CodeGroupNotFound:         "group: not found",
	CodeGroupInvalidProof:     "group: invalid proof",
	CodeGroupTimeout:          "group: timeout",
	CodeGroupAlreadyBonded:    "group: already bonded",
	CodeGroupSchemaMismatch:   "group: schema mismatch",
	CodeGroupFailed:           "group: failed",
}

// String returns the code's name, or its number when it has none.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// Label returns the code's name for the label of a metric or the key of a count: "other" when it has none, since peers can
// send any number, and there must not be a series for each.
func (c Code) Label() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return "other"
}

// CloseError is the error of every operation on a link or connection that was closed with a typed reason.
type CloseError struct {
	Code   Code
	Remote bool // the other side closed
}

func (e *CloseError) Error() string {
	if e.Remote {
		return "closed by peer: " + e.Code.String()
	}
	return "closed: " + e.Code.String()
}

// Is makes errors.Is(err, &CloseError{Code: c}) match by code alone.
func (e *CloseError) Is(target error) bool {
	t, ok := target.(*CloseError)
	return ok && t.Code == e.Code
}

// CodeOf returns the close code that err carries, [CodeTimeout] for a deadline that has passed, and otherwise
// [CodeUnexpectedClose].
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*CloseError](err); ok {
		return e.Code
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return CodeTimeout
	}
	return CodeUnexpectedClose
}
