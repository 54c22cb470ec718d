package bond

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
)

// Protocol is the protocol of trunks. Its version is in the first frame.
const Protocol = "groups/1"

// version is the version of the frames below. A trunk between different versions is closed.
const version = 2

// Sizes on the wire.
const (
	maxFrame     = 8 << 20 // bytes of one frame
	maxCodecName = 64
	maxReason    = 256
)

// kind is the first byte of a frame.
//
//	preface  version:uvarint                                      first frame of each side
//	ping                                                          nothing else was sent for a while
//	hello    group:32 channel:uvarint nonce:32                    I am in the group; call me channel
//	proof    channel:uvarint answers:32 mac:32 fingerprint:32 codec:string
//	                                                              I know the key; answers is the receiver's nonce
//	close    group:32 code:uvarint reason:string                  no bond for the group, or no longer
//	data     channel:uvarint message                              on the receiver's channel
//	pulses   (channel:uvarint member:uvarint term:uvarint)*       heartbeats of leaders that have nothing to tell
//	pulsed   (channel:uvarint term:uvarint)*                      answers to them
//
// A string is a uvarint length and that many bytes.
type kind byte

const (
	kindPreface kind = iota
	kindPing
	kindHello
	kindProof
	kindClose
	kindData
	kindPulses
	kindPulsed
)

var errMalformed = errors.New("malformed frame")

type helloFrame struct {
	group   id.ID
	channel uint32
	nonce   handshake.Nonce
}

type proofFrame struct {
	channel     uint32
	answers     handshake.Nonce
	mac         handshake.Proof
	fingerprint id.ID
	codec       string
}

type closeFrame struct {
	group  id.ID
	code   link.Code
	reason string
}

type prefaceFrame struct{}

func (prefaceFrame) append(dst []byte) []byte {
	return binary.AppendUvarint(append(dst, byte(kindPreface)), version)
}

type pingFrame struct{}

func (pingFrame) append(dst []byte) []byte { return append(dst, byte(kindPing)) }

func (f *helloFrame) append(dst []byte) []byte {
	dst = append(dst, byte(kindHello))
	dst = append(dst, f.group[:]...)
	dst = binary.AppendUvarint(dst, uint64(f.channel))
	return append(dst, f.nonce[:]...)
}

func (f *proofFrame) append(dst []byte) []byte {
	dst = append(dst, byte(kindProof))
	dst = binary.AppendUvarint(dst, uint64(f.channel))
	dst = append(dst, f.answers[:]...)
	dst = append(dst, f.mac[:]...)
	dst = append(dst, f.fingerprint[:]...)
	return appendString(dst, f.codec)
}

func (f *closeFrame) append(dst []byte) []byte {
	dst = append(dst, byte(kindClose))
	dst = append(dst, f.group[:]...)
	dst = binary.AppendUvarint(dst, uint64(f.code))
	return appendString(dst, f.reason)
}

// appendDataHeader begins a data frame; the message follows.
func appendDataHeader(dst []byte, channel uint32) []byte {
	return binary.AppendUvarint(append(dst, byte(kindData)), uint64(channel))
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decoder reads fields off the front of a frame. After a failure all further fields are zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) bytes(dst []byte) {
	if d.err == nil && len(d.rest) < len(dst) {
		d.err = errMalformed
	}
	if d.err != nil {
		return
	}
	copy(dst, d.rest)
	d.rest = d.rest[len(dst):]
}

func (d *decoder) uint32() uint32 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > 1<<32-1 {
		d.err = errMalformed
		return 0
	}
	d.rest = d.rest[n:]
	return uint32(v)
}

func (d *decoder) string(limit int) string {
	n := int64(d.uint32())
	if d.err == nil && (n > int64(limit) || n > int64(len(d.rest))) {
		d.err = errMalformed
	}
	if d.err != nil {
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

// end fails when something is left.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.err = errMalformed
	}
	return d.err
}

func decodePreface(body []byte) error {
	d := decoder{rest: body}
	v := d.uint32()
	if err := d.end(); err != nil {
		return fmt.Errorf("preface: %w", err)
	}
	if v != version {
		return &link.CloseError{Code: link.CodeIncompatibleVersion}
	}
	return nil
}

func decodeHello(body []byte) (f helloFrame, err error) {
	d := decoder{rest: body}
	d.bytes(f.group[:])
	f.channel = d.uint32()
	d.bytes(f.nonce[:])
	return f, d.end()
}

func decodeProof(body []byte) (f proofFrame, err error) {
	d := decoder{rest: body}
	f.channel = d.uint32()
	d.bytes(f.answers[:])
	d.bytes(f.mac[:])
	d.bytes(f.fingerprint[:])
	f.codec = d.string(maxCodecName)
	return f, d.end()
}

func decodeClose(body []byte) (f closeFrame, err error) {
	d := decoder{rest: body}
	d.bytes(f.group[:])
	f.code = link.Code(d.uint32())
	f.reason = d.string(maxReason)
	return f, d.end()
}

// decodeData returns the channel and the bytes of the message, which alias body.
func decodeData(body []byte) (channel uint32, message []byte, err error) {
	d := decoder{rest: body}
	channel = d.uint32()
	return channel, d.rest, d.err
}
