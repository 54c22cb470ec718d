// Package wire is the protocol between a consumer's node and a producer's: its frames and their limits.
//
// A node that consumes from a peer keeps one stream to it, the trunk, for all its subscriptions there. Each has a number
// on it, the channel, which the consumer's side chooses and never uses twice.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// Protocol is the protocol of trunks. Its version is in the first frame.
const Protocol = "streams/1"

// Version is the version of the frames below. A trunk between different versions is closed.
const Version = 1

// Limits on the wire.
const (
	MaxItem   = 1 << 20  // bytes of one item
	MaxBatch  = 32 << 10 // bytes of items in one data frame, unless a single item is longer; half of what a link reads at once
	MaxFrame  = MaxItem + MaxBatch + 64
	MaxCodec  = 128 // bytes of a codec's name
	MaxDetail = 256 // bytes of a reason in words
	MaxKeys   = 256
	MaxKey    = 256 // bytes of one key
	MaxWindow = 1 << 30
)

// MaxControl bounds the frames that consumers send.
const MaxControl = 1 + 2*binary.MaxVarintLen64 + MaxCodec + 64 + MaxKeys*(MaxKey+2) + 128

// Kind is the first byte of a frame.
//
//	from the consumer's side:
//	preface   version:uvarint network:32            the first frame
//	ping                                            nothing else was sent for a while
//	subscribe channel stream:32 fingerprint:32 codec:string window:uvarint bytes:uvarint
//	          resume:bool [epoch:8 position:uvarint] keys:uvarint key:string…
//	credit    channel items:uvarint bytes:uvarint   consumed since the subscription was accepted; the first, of zero,
//	                                                confirms the acceptance, and items come only then
//	cancel    channel code:uvarint                  no more of it
//
//	from the producer's side:
//	ping
//	accept    channel epoch:8 position:uvarint lost:uvarint exact:bool window:uvarint bytes:uvarint
//	refuse    channel code:uvarint detail:string
//	data      channel last:uvarint lost:uvarint items
//	end       channel code:uvarint last:uvarint lost:uvarint detail:string
//	retry     stream:32                             what stood against a subscription may be gone
//
// A channel is a uvarint, a string a uvarint length and that many bytes. Items are to the end of the frame, each a uvarint
// length and that many bytes. Numbers of items count from 1 in one epoch, which is one life of a producer.
type Kind byte

// The kinds of frames.
const (
	KindPreface Kind = iota + 1
	KindPing
	KindSubscribe
	KindCredit
	KindCancel
	KindAccept
	KindRefuse
	KindData
	KindEnd
	KindRetry
)

// Subscribe asks for a stream.
type Subscribe struct {
	Channel     uint32
	Stream      id.ID
	Fingerprint id.ID
	Codec       string
	Window      Window
	Resume      bool // Epoch and Position say what was received last
	Epoch       uint64
	Position    uint64
	Keys        []string
}

// Window bounds what is sent and not consumed.
type Window struct{ Items, Bytes uint32 }

// Credit says what was consumed of a subscription in all.
type Credit struct {
	Channel      uint32
	Items, Bytes uint64
}

// Cancel ends a subscription from the consumer's side.
type Cancel struct {
	Channel uint32
	Code    link.Code
}

// Accept begins a subscription: items after Position follow. Lost is how many the consumer has missed since the position
// it gave, exactly or at most.
type Accept struct {
	Channel  uint32
	Epoch    uint64
	Position uint64
	Lost     uint64
	Exact    bool
	Window   Window // the consumer's, or less
}

// Refuse is the other answer.
type Refuse struct {
	Channel uint32
	Code    link.Code
	Detail  string
}

// Data carries items. Last is the number of the last of them, or of the last that was dropped if there are none; Lost is how
// many were dropped before them.
type Data struct {
	Channel uint32
	Last    uint64
	Lost    uint64
	Items   []byte
}

// End ends a subscription from the producer's side. Last and Lost are as in Data.
type End struct {
	Channel uint32
	Code    link.Code
	Last    uint64
	Lost    uint64
	Detail  string
}

// ErrMalformed is the error of a frame that cannot be read.
var ErrMalformed = errors.New("malformed frame")

// AppendPreface appends the first frame.
func AppendPreface(dst []byte, network id.ID) []byte {
	dst = binary.AppendUvarint(append(dst, byte(KindPreface)), Version)
	return append(dst, network[:]...)
}

// DecodePreface checks the first frame; body includes the kind. The error carries the code to close with.
func DecodePreface(body []byte, network id.ID) error {
	if len(body) == 0 || Kind(body[0]) != KindPreface {
		return fmt.Errorf("the first frame is not a preface: %w", &link.CloseError{Code: link.CodeProtocolViolation})
	}
	r := reader{b: body[1:]}
	if v := r.uint(); !r.bad && v != Version {
		return fmt.Errorf("version %d, want %d: %w", v, Version, &link.CloseError{Code: link.CodeIncompatibleVersion})
	}
	if n := r.id(); !r.bad && n != network {
		return fmt.Errorf("network %s: %w", n.Short(), &link.CloseError{Code: link.CodeDifferentNetwork})
	}
	if r.bad {
		return fmt.Errorf("%w: %w", ErrMalformed, &link.CloseError{Code: link.CodeProtocolViolation})
	}
	return nil
}

// AppendPing appends a ping.
func AppendPing(dst []byte) []byte { return append(dst, byte(KindPing)) }

// Append appends the frame's body.
func (f *Subscribe) Append(dst []byte) []byte {
	dst = start(dst, KindSubscribe, f.Channel)
	dst = append(dst, f.Stream[:]...)
	dst = append(dst, f.Fingerprint[:]...)
	dst = appendString(dst, f.Codec)
	dst = f.Window.append(dst)
	dst = appendBool(dst, f.Resume)
	if f.Resume {
		dst = binary.BigEndian.AppendUint64(dst, f.Epoch)
		dst = binary.AppendUvarint(dst, f.Position)
	}
	dst = binary.AppendUvarint(dst, uint64(len(f.Keys)))
	for _, k := range f.Keys {
		dst = appendString(dst, k)
	}
	return dst
}

// Decode reads what follows the kind.
func (f *Subscribe) Decode(body []byte) error {
	r := reader{b: body}
	*f = Subscribe{Channel: r.uint32(), Stream: r.id(), Fingerprint: r.id(), Codec: r.string(MaxCodec), Window: r.window()}
	if f.Resume = r.bool(); f.Resume {
		f.Epoch, f.Position = r.fixed(), r.uint()
	}
	if n := r.uint(); n <= MaxKeys {
		for range n {
			f.Keys = append(f.Keys, r.string(MaxKey))
		}
	} else {
		r.bad = true
	}
	return r.end()
}

// Append appends the frame's body.
func (f Credit) Append(dst []byte) []byte {
	dst = start(dst, KindCredit, f.Channel)
	return binary.AppendUvarint(binary.AppendUvarint(dst, f.Items), f.Bytes)
}

// Decode reads what follows the kind.
func (f *Credit) Decode(body []byte) error {
	r := reader{b: body}
	*f = Credit{Channel: r.uint32(), Items: r.uint(), Bytes: r.uint()}
	return r.end()
}

// Append appends the frame's body.
func (f Cancel) Append(dst []byte) []byte {
	return binary.AppendUvarint(start(dst, KindCancel, f.Channel), uint64(f.Code))
}

// Decode reads what follows the kind.
func (f *Cancel) Decode(body []byte) error {
	r := reader{b: body}
	*f = Cancel{Channel: r.uint32(), Code: link.Code(r.uint32())}
	return r.end()
}

// Append appends the frame's body.
func (f Accept) Append(dst []byte) []byte {
	dst = start(dst, KindAccept, f.Channel)
	dst = binary.BigEndian.AppendUint64(dst, f.Epoch)
	dst = binary.AppendUvarint(dst, f.Position)
	dst = binary.AppendUvarint(dst, f.Lost)
	return f.Window.append(appendBool(dst, f.Exact))
}

// Decode reads what follows the kind.
func (f *Accept) Decode(body []byte) error {
	r := reader{b: body}
	*f = Accept{
		Channel: r.uint32(), Epoch: r.fixed(), Position: r.uint(), Lost: r.uint(), Exact: r.bool(), Window: r.window(),
	}
	return r.end()
}

// Append appends the frame's body.
func (f Refuse) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(start(dst, KindRefuse, f.Channel), uint64(f.Code))
	return appendString(dst, short(f.Detail))
}

// Decode reads what follows the kind.
func (f *Refuse) Decode(body []byte) error {
	r := reader{b: body}
	*f = Refuse{Channel: r.uint32(), Code: link.Code(r.uint32()), Detail: r.string(MaxDetail)}
	return r.end()
}

// AppendHeader appends the frame's body without the items.
func (f Data) AppendHeader(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(start(dst, KindData, f.Channel), f.Last), f.Lost)
}

// Decode reads what follows the kind. Items point into body and are not checked.
func (f *Data) Decode(body []byte) error {
	r := reader{b: body}
	*f = Data{Channel: r.uint32(), Last: r.uint(), Lost: r.uint()}
	f.Items, r.b = r.b, nil
	return r.end()
}

// Append appends the frame's body.
func (f End) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(start(dst, KindEnd, f.Channel), uint64(f.Code))
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, f.Last), f.Lost)
	return appendString(dst, short(f.Detail))
}

// Decode reads what follows the kind.
func (f *End) Decode(body []byte) error {
	r := reader{b: body}
	*f = End{Channel: r.uint32(), Code: link.Code(r.uint32()), Last: r.uint(), Lost: r.uint(), Detail: r.string(MaxDetail)}
	return r.end()
}

// AppendRetry appends a retry frame.
func AppendRetry(dst []byte, stream id.ID) []byte {
	return append(append(dst, byte(KindRetry)), stream[:]...)
}

// DecodeRetry reads what follows the kind.
func DecodeRetry(body []byte) (id.ID, error) {
	r := reader{b: body}
	stream := r.id()
	return stream, r.end()
}

func start(dst []byte, k Kind, channel uint32) []byte {
	return binary.AppendUvarint(append(dst, byte(k)), uint64(channel))
}

func (w Window) append(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(w.Items)), uint64(w.Bytes))
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func short(s string) string {
	if len(s) > MaxDetail {
		return s[:MaxDetail]
	}
	return s
}

// reader takes fields off the front of b. After the first that does not fit it is bad and returns zero values.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uint()
	if v > math.MaxUint32 {
		r.bad = true
		return 0
	}
	return uint32(v)
}

func (r *reader) fixed() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) bool() bool {
	v := r.take(1)
	if v == nil {
		return false
	}
	if v[0] > 1 {
		r.bad = true
	}
	return v[0] == 1
}

func (r *reader) id() (v id.ID) {
	copy(v[:], r.take(len(v)))
	return v
}

func (r *reader) string(most uint64) string {
	n := r.uint()
	if n > most {
		r.bad = true
		return ""
	}
	return string(r.take(int(n)))
}

// window reads a window, which has room for something.
func (r *reader) window() Window {
	w := Window{r.uint32(), r.uint32()}
	if w.Items == 0 || w.Bytes == 0 || w.Items > MaxWindow || w.Bytes > MaxWindow {
		r.bad = true
	}
	return w
}

// end reports whether all was read and nothing was wrong.
func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return ErrMalformed
	}
	return nil
}
