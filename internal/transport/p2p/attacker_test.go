package p2p

import (
	"context"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	libcontrol "github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// victim is a host under attack, and an honest peer that uses it all the while.
type victim struct {
	*host
	t       *testing.T
	network id.ID
	listen  string
	honest  *host
	refused chan transport.Event
	metrics *prometheus.Registry
}

func newVictim(t *testing.T, listen, secret string) *victim {
	t.Helper()
	v := &victim{t: t, network: id.Random(), listen: listen, refused: make(chan transport.Event, 1024), metrics: prometheus.NewRegistry()}
	v.host = openHost(t, v.network, listen, withSecret(secret), func(c *transport.Config) { c.Metrics = v.metrics })
	v.honest = openHost(t, v.network, listen, withSecret(secret))
	t.Cleanup(v.Watch(func(e transport.Event) {
		if e.Kind == transport.Refused {
			select {
			case v.refused <- e:
			default:
			}
		}
	}))
	v.checkHonest("before the attack")
	return v
}

// checkHonest checks that the honest peer is served, on an old and on a new connection.
func (v *victim) checkHonest(when string) {
	v.t.Helper()
	newcomer := openHost(v.t, v.network, v.listen, withSecret(v.cfg.Secret))
	defer newcomer.Close()
	for who, h := range map[string]*host{"the honest peer": v.honest, "a newcomer": newcomer} {
		connect(v.t, h, v)
		if err := ask(v.t.Context(), h, v.ID(), "hello"); err != nil {
			v.t.Errorf("%s %s: %v", who, when, err)
		}
	}
}

// attacker speaks to hosts through bare libp2p connections, and says what it likes.
type attacker struct {
	t     *testing.T
	id    id.PeerID
	stack *stack
}

func newAttacker(t *testing.T, listen string) *attacker {
	t.Helper()
	key := keyOf(id.Random().String())
	s, err := newStack(transport.Config{Key: key, Listen: []string{listen}}, openGate{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return &attacker{t, id.PeerIDOf(key), s}
}

// openGate lets everything pass.
type openGate struct{}

var _ connmgr.ConnectionGater = openGate{}

func (openGate) InterceptPeerDial(peer.ID) bool               { return true }
func (openGate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (openGate) InterceptAccept(network.ConnMultiaddrs) bool  { return true }
func (openGate) InterceptUpgraded(network.Conn) (bool, libcontrol.DisconnectReason) {
	return true, 0
}
func (openGate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}

func (a *attacker) dial(to *host) network.Conn { return a.dialAddr(to.Addr()) }

func (a *attacker) dialAddr(to id.PeerAddr) network.Conn {
	a.t.Helper()
	p, err := peerOf(to.ID)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, text := range to.Addrs {
		a.stack.swarm.Peerstore().AddAddr(p, ma.StringCast(text), time.Hour)
	}
	var c network.Conn
	eventually(a.t, "the attacker dials", func() bool { // a busy machine can be too slow for a dial
		a.stack.swarm.Backoff().Clear(p)
		c, err = a.stack.swarm.DialPeer(a.t.Context(), p)
		return err == nil
	})
	return c
}

// open opens a stream and writes raw bytes on it.
func (a *attacker) open(c network.Conn, raw ...byte) network.Stream {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	s, err := c.NewStream(ctx)
	if err != nil {
		a.t.Fatalf("the attacker cannot open a stream: %v", err)
	}
	s.SetDeadline(time.Now().Add(2 * patience))
	if len(raw) > 0 {
		s.Write(raw)
	}
	return s
}

// header is the start of a stream of the protocol.
func header(protocol string) []byte { return append([]byte{byte(len(protocol))}, protocol...) }

func framed(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// helloOf is a hello that the network would accept.
func helloOf(network id.ID) hello {
	return hello{
		network: network, min: versionMin, max: versionMax,
		incarnation: transport.Incarnation(time.Now().UnixMilli()), order: 1, nonce: handshake.NewNonce(),
	}
}

// join does a hello as it should be, on a network without a secret, and returns the control stream.
func (a *attacker) join(c network.Conn, net id.ID) network.Stream {
	a.t.Helper()
	m := helloOf(net)
	s := a.open(c, append(header(controlProtocol), framed(m.encode())...)...)
	r := link.NewReader(s, controlFrameMax)
	proof := append([]byte{frameProof}, make([]byte, handshake.ProofSize)...)
	if _, err := r.Next(); err != nil {
		a.t.Fatalf("the attacker gets no hello: %v", err)
	}
	if _, err := s.Write(framed(proof)); err != nil {
		a.t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		a.t.Fatalf("the attacker gets no proof: %v", err)
	}
	return s
}

// stayIn does the hello and keeps the heartbeat of an attacker that wants to stay.
func (a *attacker) stayIn(c network.Conn, net id.ID) {
	a.t.Helper()
	ctl := a.join(c, net)
	ctl.SetDeadline(time.Time{})
	stop, done := make(chan struct{}), make(chan struct{})
	a.t.Cleanup(func() {
		close(stop)
		<-done
	})
	go func() {
		defer close(done)
		ping := framed(append([]byte{framePing}, make([]byte, pingSize-1)...))
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				ctl.SetWriteDeadline(time.Now().Add(time.Second))
				ctl.Write(ping)
			case <-stop:
				return
			}
		}
	}()
}

// told returns what the other side gives as its reason to close: in a goodbye, if it says one on this stream, or with the
// connection.
func told(s network.Stream) link.Code {
	s.SetReadDeadline(time.Now().Add(patience))
	for r := link.NewReader(s, controlFrameMax); ; {
		b, err := r.Next()
		switch {
		case err == nil && len(b) == 5 && b[0] == frameGoodbye:
			return link.Code(binary.BigEndian.Uint32(b[1:]))
		case err == nil:
		case err == io.EOF:
			return link.CodeSuccess
		case isTimeout(err):
			return 0
		default:
			return link.CodeOf(closeError(err))
		}
	}
}

func (v *victim) wantRefused(a *attacker, code link.Code) {
	v.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e := <-v.refused:
			if e.Peer != a.id {
				continue
			}
			if e.Code != code {
				v.t.Errorf("the refusal says %v, want %v", e.Code, code)
			}
			return
		case <-timer.C:
			v.t.Errorf("no refusal was reported, want %v", code)
			return
		}
	}
}

// wantClosed waits until the victim has counted a connection that was closed with the code. The other side can know a moment
// earlier.
func (v *victim) wantClosed(code link.Code) {
	v.t.Helper()
	eventually(v.t, "a connection is closed with "+code.String(), func() bool {
		return v.counted("mosaik_network_connections_closed", code.String()) >= 1
	})
}

// counted returns the value of a counter with the label reason.
func (v *victim) counted(name, reason string) float64 {
	v.t.Helper()
	families, err := v.metrics.Gather()
	if err != nil {
		v.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == reason {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
