package streams

import (
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/streams/internal/engine"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
)

// Errors of producers and consumers. An item whose Send or TrySend failed was not sent to anybody.
var (
	// ErrClosed reports that the producer, the consumer or the network is closed.
	ErrClosed = errors.New("streams: closed")
	// ErrOffline reports that the producer's online condition is not met: by default, that there is no consumer.
	ErrOffline = errors.New("streams: offline")
	// ErrFull reports that the producer's input queue is full.
	ErrFull = errors.New("streams: queue full")
	// ErrTooLarge reports an item that is longer than [MaxItemBytes] when encoded.
	ErrTooLarge = fmt.Errorf("streams: the encoded item is longer than %d bytes", MaxItemBytes)
	// ErrEncode reports an item that has no encoding. The codec's error is wrapped beside it.
	ErrEncode = errors.New("streams: the item cannot be encoded")
	// ErrTypeMismatch reports that this node produces the stream with another item type or codec.
	ErrTypeMismatch = errors.New("streams: the stream exists on this node with another type or codec")
	// ErrExists reports that this node produces the stream already. See [ExistsError].
	ErrExists = errors.New("streams: this node produces the stream already")
)

// MaxItemBytes is the longest item, encoded.
const MaxItemBytes = wire.MaxItem

// ExistsError is the error of [Produce] with settings, when this node produces the stream already.
type ExistsError[T any] struct {
	// Producer is the one that exists. It is borrowed: closing it does nothing, and it ends with its owners. To have one
	// of your own call [Produce] without settings.
	Producer *Producer[T]
}

func (e *ExistsError[T]) Error() string {
	return fmt.Sprintf("%v: %s", ErrExists, e.Producer.Name())
}

// Is makes errors.Is match [ErrExists].
func (e *ExistsError[T]) Is(target error) bool { return target == ErrExists }

// public translates errors of the engine.
func public(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, engine.ErrClosed), errors.Is(err, node.ErrClosed):
		return ErrClosed
	case errors.Is(err, engine.ErrOffline):
		return ErrOffline
	case errors.Is(err, engine.ErrFull):
		return ErrFull
	case errors.Is(err, engine.ErrTooLarge):
		return ErrTooLarge
	default:
		return err
	}
}

// Reason says why there is no subscription between a producer and a consumer, or why one ended. The numbers travel between
// the nodes.
type Reason uint32

// The reasons. Others come from the connection below; all have names.
const (
	Closed           = Reason(link.CodeSuccess)              // the consumer was closed
	Shutdown         = Reason(link.CodeShutdown)             // the producer or its node was closed
	Disconnected     = Reason(link.CodeUnexpectedClose)      // the connection broke
	TimedOut         = Reason(link.CodeTimeout)              // nothing was heard for too long
	DifferentNetwork = Reason(link.CodeDifferentNetwork)     // the nodes belong to different networks
	UnknownPeer      = Reason(link.CodeUnknownPeer)          // the producer's node does not know the consumer's yet
	NotAllowed       = Reason(link.CodeStreamNotAllowed)     // a requirement or ticket check failed
	NotFound         = Reason(link.CodeStreamNotFound)       // the node does not produce the stream
	SchemaMismatch   = Reason(link.CodeStreamSchemaMismatch) // the ends have different item types or codecs
	TooSlow          = Reason(link.CodeStreamTooSlow)        // the consumer lagged, under Disconnect
	NoKeys           = Reason(engine.CodeNoKeys)             // keys were asked for and the stream has none
	NoCapacity       = Reason(link.CodeStreamNoCapacity)     // MaxConsumers is reached
)

// String returns the reason in words.
func (r Reason) String() string {
	if r == NoKeys {
		return "stream: no keys"
	}
	return link.Code(r).String()
}
