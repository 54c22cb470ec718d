package p2p

import (
	"errors"
	"io"
	"net"
	"os"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/internal/link"
)

// translate gives an error of the library our form. The reason of the stream comes first, then that of the connection.
func (s *stream) translate(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if isTimeout(err) {
		return os.ErrDeadlineExceeded
	}
	typed := closeError(err)
	if e, ok := errors.AsType[*network.StreamError](err); ok && e.ErrorCode != 0 {
		return typed
	}
	if why := s.conn.why(); why != nil {
		return why
	}
	return typed
}

// closeError finds the typed reason in an error of the library, or returns the error.
func closeError(err error) error {
	if c, ok := errors.AsType[*network.ConnError](err); ok && c.ErrorCode != 0 {
		return &link.CloseError{Code: connCode(c.ErrorCode), Remote: c.Remote}
	}
	if s, ok := errors.AsType[*network.StreamError](err); ok {
		return &link.CloseError{Code: streamCode(s.ErrorCode), Remote: s.Remote}
	}
	return err
}

// connCode maps the code of a connection. The library uses some of its own, from 0x1000 on.
func connCode(code network.ConnErrorCode) link.Code {
	switch code {
	case network.ConnResourceLimitExceeded, network.ConnRateLimited:
		return link.CodeOverloaded
	case network.ConnProtocolViolation, network.ConnProtocolNegotiationFailed:
		return link.CodeProtocolViolation
	case network.ConnSupplanted:
		return link.CodeSupplanted
	case network.ConnGarbageCollected:
		return link.CodeUnneeded
	case network.ConnShutdown:
		return link.CodeShutdown
	case network.ConnGated:
		return link.CodeBanned
	default:
		return link.Code(code)
	}
}

// streamCode maps the code of a stream likewise. Zero is what the library gives without a reason.
func streamCode(code network.StreamErrorCode) link.Code {
	switch code {
	case network.StreamNoError:
		return link.CodeUnexpectedClose
	case network.StreamResourceLimitExceeded, network.StreamRateLimited:
		return link.CodeOverloaded
	case network.StreamProtocolViolation, network.StreamProtocolNegotiationFailed:
		return link.CodeProtocolViolation
	case network.StreamSupplanted:
		return link.CodeSupplanted
	case network.StreamGarbageCollected:
		return link.CodeUnneeded
	case network.StreamShutdown:
		return link.CodeShutdown
	case network.StreamGated:
		return link.CodeBanned
	default:
		return link.Code(code)
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
