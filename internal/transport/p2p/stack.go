package p2p

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	tptu "github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/quic-go/quic-go"

	"github.com/mosaik-go/mosaik/internal/transport"
)

const (
	dialTimeout      = 10 * time.Second
	dialTimeoutLocal = 3 * time.Second // loopback and private addresses
	acceptTimeout    = 5 * time.Second // for TLS and the choice of a multiplexer on an incoming TCP connection
)

// stack is the part of libp2p that the host stands on: a swarm with two transports, and nothing above it. Identify,
// protocol negotiation, relays and address discovery are left out: the hello and the stream header do what is needed.
type stack struct {
	swarm   *swarm.Swarm
	closers []func() error // in order of closing
}

// newStack opens the transports and listens.
func newStack(cfg transport.Config, gater connmgr.ConnectionGater) (*stack, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	listen, err := listenAddrs(cfg)
	if err != nil {
		return nil, err
	}

	s := new(stack)
	ok := false
	defer func() {
		if !ok {
			s.close()
		}
	}()
	peers, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, peers.Close)
	if err := peers.AddPrivKey(self, key); err != nil {
		return nil, err
	}
	limits, err := newLimits()
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, limits.Close)

	s.swarm, err = swarm.NewSwarm(self, peers, eventbus.NewBus(),
		swarm.WithResourceManager(limits),
		swarm.WithConnectionGater(gater),
		swarm.WithDialRanker(rankDials),
		swarm.WithDialTimeout(dialTimeout),
		swarm.WithDialTimeoutLocal(dialTimeoutLocal),
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil),
	)
	if err != nil {
		return nil, err
	}
	s.closers = append([]func() error{s.swarm.Close}, s.closers...)
	handshakes := newHandshakes()
	if err := s.addTCP(key, limits, gater, handshakes); err != nil {
		return nil, fmt.Errorf("TCP: %w", err)
	}
	if err := s.addQUIC(cfg, key, limits, gater, handshakes); err != nil {
		return nil, fmt.Errorf("QUIC: %w", err)
	}
	for _, l := range listen {
		if err := s.swarm.Listen(l.addr); err != nil && !l.optional {
			return nil, fmt.Errorf("listen on %s: %w", l.addr, err)
		}
	}
	ok = true
	return s, nil
}

// addTCP adds TCP with TLS 1.3. Ports are not shared: two nodes that were told to listen on one port must not both
// believe that they do, and two that dial each other at the same time must not meet as two clients.
func (s *stack) addTCP(key crypto.PrivKey, limits network.ResourceManager, gater connmgr.ConnectionGater, hs *handshakes) error {
	muxers := []tptu.StreamMuxer{{ID: yamux.ID, Muxer: newMuxer()}}
	security, err := libp2ptls.New(libp2ptls.ID, key, muxers)
	if err != nil {
		return err
	}
	upgrader, err := tptu.New([]sec.SecureTransport{gathering{security}}, muxers, nil, limits, gater, tptu.WithAcceptTimeout(acceptTimeout))
	if err != nil {
		return err
	}
	t, err := tcp.NewTCPTransport(upgrader, limits, nil, tcp.DisableReuseport())
	if err != nil {
		return err
	}
	return s.swarm.AddTransport(&tcpDialer{t, hs})
}

// addQUIC adds QUIC. Its keys depend on the identity alone, so that a node that was killed and comes back on its old port
// tells those who still talk to its former life that it is over, in a stateless reset (RFC 9000, section 10.3).
func (s *stack) addQUIC(
	cfg transport.Config, key crypto.PrivKey, limits network.ResourceManager, gater connmgr.ConnectionGater, hs *handshakes,
) error {
	var reset quic.StatelessResetKey
	var token quic.TokenGeneratorKey
	for info, dst := range map[string][]byte{"mosaik quic reset v1": reset[:], "mosaik quic token v1": token[:]} {
		derived, err := hkdf.Key(sha256.New, cfg.Key.Seed(), nil, info, len(dst))
		if err != nil {
			return err
		}
		copy(dst, derived)
	}
	reuse, err := quicreuse.NewConnManager(reset, token, quicreuse.VerifySourceAddress(limits.VerifySourceAddress))
	if err != nil {
		return err
	}
	s.closers = append(s.closers, reuse.Close)
	t, err := libp2pquic.NewTransport(key, reuse, nil, gater, limits)
	if err != nil {
		return err
	}
	return s.swarm.AddTransport(&quicDialer{t, hs})
}

func (s *stack) close() error {
	var first error
	for _, c := range s.closers {
		if err := c(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
