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

// The control stream is the first on every connection. The dialler opens it; both sides say hello on it, then each sends
// a ping every two seconds and answers the other's.
//
//	dialler  -> hello{network, versions, incarnation, nonce}
//	acceptor -> hello{network, versions, incarnation, nonce}
//	dialler  -> proof{mac}      all zero without a network secret
//	acceptor -> proof{mac}      likewise
//
// A side that objects closes the connection with the reason.
const (
	controlProtocol = "hello/1"
	controlFrameMax = 4 << 10

	versionMin, versionMax = 1, 1 // of the protocols of this module, spoken here
)

// Heartbeat of a connection.
const (
	pingEvery = 2 * time.Second
	deadAfter = 6 * time.Second // without any frame
)

// Kinds of control frames, their first byte.
const (
	frameHello byte = iota + 1
	frameProof
	framePing
	framePong
	frameGoodbye
)

const helloSize = 1 + id.Size + 1 + 1 + 8 + handshake.NonceSize

type hello struct {
	network     id.ID
	min, max    uint8
	incarnation transport.Incarnation
	nonce       handshake.Nonce
}

func (m *hello) encode() []byte {
	b := append([]byte{frameHello}, m.network[:]...)
	b = append(b, m.min, m.max)
	b = binary.BigEndian.AppendUint64(b, uint64(m.incarnation))
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
	copy(m.nonce[:], b[10:])
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

// controlStream is a control stream in use by one side.
type controlStream struct {
	conn *conn
	raw  network.Stream
	in   *link.Reader
}

// dial opens the control stream and says hello first.
func (c *conn) dial() {
	defer close(c.controlled)
	begin := time.Now()
	raw, err := c.raw.NewStream(network.WithNoDial(c.host.ctx, "hello"))
	if err != nil {
		c.fail(c.reason(err))
		return
	}
	raw.SetDeadline(begin.Add(helloTimeout))
	ctl := &controlStream{c, raw, link.NewReader(raw, controlFrameMax)}
	theirs, rtt, err := ctl.initiate()
	if err == nil {
		if why := c.up(theirs.incarnation, rtt); why != nil {
			err = why
		}
	}
	if err != nil {
		c.fail(c.reason(ctl.explain(err)))
		return
	}
	ctl.run()
}

// explain finds out why writing failed: what the other side gave as its reason comes with reading.
func (ctl *controlStream) explain(err error) error {
	if _, typed := errors.AsType[*link.CloseError](closeError(err)); typed || isTimeout(err) {
		return err
	}
	if _, e := ctl.in.Next(); e != nil {
		return e
	}
	return err
}

// accept serves a control stream that the other side opened.
func (c *conn) accept(raw network.Stream) {
	if !c.accepted.CompareAndSwap(false, true) {
		c.fail(errFrame)
		return
	}
	defer close(c.controlled)
	raw.SetDeadline(time.Now().Add(helloTimeout))
	ctl := &controlStream{c, raw, link.NewReader(raw, controlFrameMax)}
	theirs, rtt, err := ctl.respond()
	if err != nil {
		c.fail(c.reason(ctl.explain(err)))
		return
	}
	if why := c.up(theirs.incarnation, rtt); why != nil {
		c.fail(why)
		return
	}
	ctl.run()
}

// reason finds the typed reason for a failure on the control stream.
func (c *conn) reason(err error) *link.CloseError {
	if typed, ok := errors.AsType[*link.CloseError](closeError(err)); ok {
		if typed.Remote {
			c.told(typed)
		}
		return typed
	}
	if why := c.why(); why != nil {
		return why
	}
	if isTimeout(err) {
		return &link.CloseError{Code: link.CodeTimeout}
	}
	return &link.CloseError{Code: link.CodeUnexpectedClose, Remote: true}
}

func (ctl *controlStream) hello() hello {
	h := ctl.conn.host
	return hello{h.cfg.Network, versionMin, versionMax, h.incarnation, handshake.NewNonce()}
}

// check judges the other side's hello.
func (ctl *controlStream) check(m hello) error {
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

const proofPurpose = "mosaik network secret v1"

func (ctl *controlStream) initiate() (theirs hello, rtt time.Duration, err error) {
	mine, begin := ctl.hello(), time.Now()
	first := append([]byte{byte(len(controlProtocol))}, controlProtocol...)
	if err := ctl.sendAfter(first, mine.encode()); err != nil {
		return theirs, 0, err
	}
	b, err := ctl.in.Next()
	if err != nil {
		return theirs, 0, err
	}
	rtt = time.Since(begin)
	if theirs, err = decodeHello(b); err != nil {
		return theirs, 0, err
	}
	if err := ctl.check(theirs); err != nil {
		return theirs, 0, err
	}
	h := ctl.conn.host
	hs := handshake.Context{
		Purpose: proofPurpose, Network: h.cfg.Network,
		Initiator: h.self, Acceptor: ctl.conn.peer, NonceI: mine.nonce, NonceA: theirs.nonce,
	}
	if err := ctl.send(ctl.proof(&hs, handshake.Initiator)); err != nil {
		return theirs, 0, err
	}
	return theirs, rtt, ctl.verify(&hs, handshake.Acceptor)
}

func (ctl *controlStream) respond() (theirs hello, rtt time.Duration, err error) {
	b, err := ctl.in.Next()
	if err != nil {
		return theirs, 0, err
	}
	if theirs, err = decodeHello(b); err != nil {
		return theirs, 0, err
	}
	if err := ctl.check(theirs); err != nil {
		return theirs, 0, err
	}
	mine, begin := ctl.hello(), time.Now()
	if err := ctl.send(mine.encode()); err != nil {
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
	return theirs, rtt, ctl.send(ctl.proof(&hs, handshake.Acceptor))
}

// proof returns the frame of this side's proof.
func (ctl *controlStream) proof(hs *handshake.Context, r handshake.Role) []byte {
	var p handshake.Proof
	if h := ctl.conn.host; h.private {
		p = hs.Prove(h.key, r)
	}
	return append([]byte{frameProof}, p[:]...)
}

// verify reads and judges the other side's proof. A node without a secret takes only peers that have none either: their
// proof is all zero.
func (ctl *controlStream) verify(hs *handshake.Context, r handshake.Role) error {
	b, err := ctl.in.Next()
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

func (ctl *controlStream) send(body []byte) error { return ctl.sendAfter(nil, body) }

func (ctl *controlStream) sendAfter(prefix, body []byte) error {
	b := binary.BigEndian.AppendUint32(prefix, uint32(len(body)))
	_, err := ctl.raw.Write(append(b, body...))
	return err
}

// run keeps the heartbeat until the connection ends.
func (ctl *controlStream) run() {
	c := ctl.conn
	ctl.raw.SetDeadline(time.Time{})
	c.mu.Lock()
	c.control = ctl.raw
	c.mu.Unlock()
	pongs := make(chan []byte, 4) // more unanswered pings than that are not answered
	c.host.wg.Go(func() { ctl.write(pongs) })

	for {
		ctl.raw.SetReadDeadline(time.Now().Add(deadAfter))
		b, err := ctl.in.Next()
		if err != nil {
			c.close(c.reason(err).Code)
			return
		}
		switch {
		case len(b) == 9 && b[0] == framePing:
			select {
			case pongs <- append([]byte{framePong}, b[1:]...):
			default:
			}
		case len(b) == 9 && b[0] == framePong:
			sent := time.Unix(0, int64(binary.BigEndian.Uint64(b[1:])))
			if rtt := time.Since(sent); rtt > 0 && rtt < deadAfter {
				c.host.mu.Lock()
				c.host.peerLocked(c.peer).rtt = rtt
				c.host.mu.Unlock()
			}
		case len(b) == 1 && b[0] == frameGoodbye:
			c.end(&link.CloseError{Code: link.CodeShutdown, Remote: true})
			c.raw.CloseWithError(network.ConnErrorCode(link.CodeShutdown))
			return
		default:
			c.close(link.CodeProtocolViolation)
			return
		}
	}
}

// write sends pings and answers.
func (ctl *controlStream) write(pongs <-chan []byte) {
	c := ctl.conn
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		var b []byte
		select {
		case b = <-pongs:
		case now := <-tick.C:
			b = binary.BigEndian.AppendUint64([]byte{framePing}, uint64(now.UnixNano()))
		case <-c.gone:
			return
		}
		ctl.raw.SetWriteDeadline(time.Now().Add(deadAfter))
		if err := ctl.send(b); err != nil {
			if err != io.ErrClosedPipe {
				c.close(c.reason(err).Code)
			}
			return
		}
	}
}

// goodbye tells the other side that this one is closing, and gives it a moment to take what is under way and close the
// connection; then it closes it from here.
func (c *conn) goodbye(wait time.Duration) {
	c.mu.Lock()
	raw := c.control
	c.mu.Unlock()
	if raw != nil {
		raw.SetWriteDeadline(time.Now().Add(wait))
		if _, err := raw.Write([]byte{0, 0, 0, 1, frameGoodbye}); err == nil {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-c.gone:
			case <-timer.C:
			}
		}
	}
	c.close(link.CodeShutdown)
}
