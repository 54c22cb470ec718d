package p2p

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// The control stream is the first on every connection. The dialler opens it, and both sides say hello on it:
//
//	dialler  -> hello{network, versions, incarnation, order, nonce}
//	acceptor -> hello{network, versions, incarnation, 0, nonce}
//	dialler  -> proof{mac}      all zero without a network secret
//	acceptor -> proof{mac}      likewise
//
// A side that objects sends a goodbye with the reason instead, and closes the connection with it. Heartbeats follow, and a
// goodbye ends them.
const (
	controlProtocol = "hello/1"
	controlFrameMax = 4 << 10
	helloTimeout    = 5 * time.Second // for all of it, from when the connection is there
	causePoll       = 5 * time.Millisecond

	versionMin, versionMax = 1, 1 // of the protocols of this module, spoken here

	proofPurpose = "mosaik network secret v1"
)

// Kinds of control frames, their first byte.
const (
	frameHello byte = iota + 1
	frameProof
	framePing
	framePong
	frameGoodbye
)

const helloSize = 1 + id.Size + 1 + 1 + 8 + 8 + handshake.NonceSize

type hello struct {
	network     id.ID
	min, max    uint8 // versions
	incarnation transport.Incarnation
	order       uint64 // rises with each connection that this side dials; zero from the acceptor
	nonce       handshake.Nonce
}

func (m *hello) encode() []byte {
	b := append([]byte{frameHello}, m.network[:]...)
	b = append(b, m.min, m.max)
	b = binary.BigEndian.AppendUint64(b, uint64(m.incarnation))
	b = binary.BigEndian.AppendUint64(b, m.order)
	return append(b, m.nonce[:]...)
}

// errFrame reports a control frame that is out of place or malformed.
var errFrame = &link.CloseError{Code: link.CodeProtocolViolation}

func decodeHello(b []byte) (m hello, err error) {
	if len(b) != helloSize || b[0] != frameHello {
		return m, errFrame
	}
	b = b[1+copy(m.network[:], b[1:]):]
	m.min, m.max = b[0], b[1]
	m.incarnation = transport.Incarnation(binary.BigEndian.Uint64(b[2:]))
	m.order = binary.BigEndian.Uint64(b[10:])
	copy(m.nonce[:], b[18:])
	if m.incarnation <= 0 {
		return m, errFrame
	}
	return m, nil
}

func decodeProof(b []byte) (p handshake.Proof, err error) {
	if len(b) != 1+handshake.ProofSize || b[0] != frameProof {
		return p, errFrame
	}
	copy(p[:], b[1:])
	return p, nil
}

// dial opens the control stream and says hello first.
func (c *conn) dial() {
	if !c.begin() {
		return
	}
	defer close(c.controlled)
	raw, err := c.raw.NewStream(network.WithNoDial(c.host.ctx, "hello"))
	if err != nil {
		c.fail(err)
		return
	}
	c.greetOn(raw, (*control).initiate)
}

// accept serves a control stream that the other side opened.
func (c *conn) accept(raw network.Stream) {
	if c.dialed || !c.begin() {
		c.close(link.CodeProtocolViolation) // a second one, unless the connection is over
		raw.ResetWithError(network.StreamErrorCode(link.CodeOf(c.ended())))
		return
	}
	defer close(c.controlled)
	c.greetOn(raw, (*control).respond)
}

// begin claims the connection for the one control stream that it has. It reports false if there is one, or the connection
// is over.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun || c.closed != nil {
		return false
	}
	c.begun = true
	return true
}

func (c *conn) hasBegun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun
}

// greetOn says hello in the given role, and then keeps the heartbeat until the connection ends.
func (c *conn) greetOn(raw network.Stream, say func(*control) (hello, time.Duration, error)) {
	if err := raw.SetProtocol(scopeProtocol); err != nil {
		raw.ResetWithError(network.StreamErrorCode(link.CodeOverloaded))
		c.close(link.CodeOverloaded)
		return
	}
	c.mu.Lock()
	c.control = raw
	c.mu.Unlock()
	raw.SetDeadline(c.born.Add(helloTimeout))
	ctl := newControl(c, raw)
	theirs, rtt, err := say(ctl)
	if err == nil {
		if why := c.up(theirs, rtt); why != nil {
			err = why
		}
	}
	if err != nil {
		why := c.reason(ctl.explain(err))
		c.end(why)
		if !why.Remote {
			ctl.excuse(why.Code)
		}
		c.hangUp()
		return
	}
	ctl.run()
}

// excuse tells the other side why it is refused, and gives it a moment to close the connection.
func (ctl *control) excuse(code link.Code) {
	ctl.raw.SetDeadline(time.Now().Add(farewellWait))
	if ctl.send(nil, goodbye(code)) != nil {
		return
	}
	io.Copy(io.Discard, ctl.raw)
}

// goodbye returns the frame that says why this side closes the connection.
func goodbye(code link.Code) []byte {
	return binary.BigEndian.AppendUint32([]byte{frameGoodbye}, uint32(code))
}

// read returns the next frame. A goodbye is an error, the other side's reason to close.
func (ctl *control) read() ([]byte, error) {
	b, err := ctl.in.Next()
	if err == nil && len(b) == 5 && b[0] == frameGoodbye {
		return nil, &link.CloseError{Code: link.Code(binary.BigEndian.Uint32(b[1:])), Remote: true}
	}
	return b, err
}

// fail ends the connection because of an error on its control stream.
func (c *conn) fail(err error) { c.endAndHangUp(c.reason(err)) }

// reason finds the typed reason for a failure of the control stream.
func (c *conn) reason(err error) *link.CloseError {
	typed, ok := errors.AsType[*link.CloseError](closeError(err))
	switch why := c.why(); {
	case ok && typed.Code != link.CodeUnexpectedClose:
		return typed
	case why != nil:
		return why
	case isTimeout(err):
		return &link.CloseError{Code: link.CodeTimeout}
	case err == io.ErrUnexpectedEOF:
		return errFrame // a frame that is not finished
	default:
		return c.cause()
	}
}

// cause finds out why the connection broke. A stream may be cut off without a reason a moment before the connection is
// closed with one.
func (c *conn) cause() *link.CloseError {
	for range farewellWait / causePoll {
		if c.raw.IsClosed() {
			break
		}
		time.Sleep(causePoll)
	}
	if c.raw.IsClosed() {
		// The library says why with what is tried next.
		s, err := c.raw.NewStream(c.host.ctx)
		if err == nil {
			s.Reset()
		} else if typed, ok := errors.AsType[*link.CloseError](closeError(err)); ok {
			return typed
		}
	}
	return &link.CloseError{Code: link.CodeUnexpectedClose, Remote: true}
}

// explain finds out why writing failed: what the other side gave as its reason comes with reading.
func (ctl *control) explain(err error) error {
	if _, typed := errors.AsType[*link.CloseError](closeError(err)); typed || isTimeout(err) {
		return err
	}
	if _, e := ctl.read(); e != nil {
		return e
	}
	return err
}

// hello returns what this side says.
func (ctl *control) hello() hello {
	c := ctl.conn
	m := hello{network: c.host.cfg.Network, min: versionMin, max: versionMax, incarnation: c.host.incarnation, nonce: handshake.NewNonce()}
	if c.dialed {
		m.order = c.order
	}
	return m
}

// check judges the other side's hello.
func (ctl *control) check(m hello) error {
	h := ctl.conn.host
	switch {
	case m.network != h.cfg.Network:
		return &link.CloseError{Code: link.CodeDifferentNetwork}
	case m.min > versionMax || m.max < versionMin || m.min > m.max:
		return &link.CloseError{Code: link.CodeIncompatibleVersion}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bannedLocked(ctl.conn.peer) {
		return &link.CloseError{Code: link.CodeBanned}
	}
	if st := h.peers[ctl.conn.peer]; st != nil && m.incarnation < st.newest {
		return &link.CloseError{Code: link.CodeSupplanted}
	}
	return nil
}

func (ctl *control) initiate() (theirs hello, rtt time.Duration, err error) {
	mine, begin := ctl.hello(), time.Now()
	if err := ctl.send(append([]byte{byte(len(controlProtocol))}, controlProtocol...), mine.encode()); err != nil {
		return theirs, 0, err
	}
	if theirs, err = ctl.readHello(); err != nil {
		return theirs, 0, err
	}
	rtt = time.Since(begin)
	h := ctl.conn.host
	hs := handshake.Context{
		Purpose: proofPurpose, Network: h.cfg.Network,
		Initiator: h.self, Acceptor: ctl.conn.peer, NonceI: mine.nonce, NonceA: theirs.nonce,
	}
	if err := ctl.send(nil, ctl.proof(&hs, handshake.Initiator)); err != nil {
		return theirs, 0, err
	}
	return theirs, rtt, ctl.verify(&hs, handshake.Acceptor)
}

func (ctl *control) respond() (theirs hello, rtt time.Duration, err error) {
	if theirs, err = ctl.readHello(); err != nil {
		return theirs, 0, err
	}
	mine, begin := ctl.hello(), time.Now()
	if err := ctl.send(nil, mine.encode()); err != nil {
		return theirs, 0, err
	}
	h := ctl.conn.host
	hs := handshake.Context{
		Purpose: proofPurpose, Network: h.cfg.Network,
		Initiator: ctl.conn.peer, Acceptor: h.self, NonceI: theirs.nonce, NonceA: mine.nonce,
	}
	if err := ctl.verify(&hs, handshake.Initiator); err != nil {
		return theirs, 0, err
	}
	rtt = time.Since(begin)
	return theirs, rtt, ctl.send(nil, ctl.proof(&hs, handshake.Acceptor))
}

// readHello reads and judges the other side's hello.
func (ctl *control) readHello() (hello, error) {
	b, err := ctl.read()
	if err != nil {
		return hello{}, err
	}
	m, err := decodeHello(b)
	if err != nil {
		return hello{}, err
	}
	return m, ctl.check(m)
}

// proof returns the frame of this side's proof.
func (ctl *control) proof(hs *handshake.Context, r handshake.Role) []byte {
	var p handshake.Proof
	if h := ctl.conn.host; h.private {
		p = hs.Prove(h.key, r)
	}
	return append([]byte{frameProof}, p[:]...)
}

// verify reads and judges the other side's proof. A node without a secret takes only peers that have none either: their
// proof is all zero.
func (ctl *control) verify(hs *handshake.Context, r handshake.Role) error {
	b, err := ctl.read()
	if err != nil {
		return err
	}
	p, err := decodeProof(b)
	if err != nil {
		return err
	}
	h := ctl.conn.host
	if h.private && !hs.Verify(h.key, r, p) || !h.private && p != (handshake.Proof{}) {
		return &link.CloseError{Code: link.CodeBadProof}
	}
	return nil
}
