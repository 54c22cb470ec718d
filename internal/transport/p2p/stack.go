package p2p

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
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
	yamuxlib "github.com/libp2p/go-yamux/v5"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Dial times. Own backoff is for the callers to keep.
const (
	dialTimeout      = 10 * time.Second
	dialTimeoutLocal = 3 * time.Second // loopback and private addresses
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

	sw, err := swarm.NewSwarm(self, peers, eventbus.NewBus(),
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
	s.swarm = sw
	s.closers = append([]func() error{sw.Close}, s.closers...)

	muxers := []tptu.StreamMuxer{{ID: yamux.ID, Muxer: newMuxer()}}
	security, err := libp2ptls.New(libp2ptls.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	upgrader, err := tptu.New([]sec.SecureTransport{security}, muxers, nil, limits, gater)
	if err != nil {
		return nil, err
	}
	overTCP, err := tcp.NewTCPTransport(upgrader, limits, nil)
	if err != nil {
		return nil, err
	}
	if err := sw.AddTransport(overTCP); err != nil {
		return nil, err
	}
	var reset quic.StatelessResetKey
	var token quic.TokenGeneratorKey
	rand.Read(reset[:])
	rand.Read(token[:])
	reuse, err := quicreuse.NewConnManager(reset, token)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, reuse.Close)
	overQUIC, err := libp2pquic.NewTransport(key, reuse, nil, gater, limits)
	if err != nil {
		return nil, err
	}
	if err := sw.AddTransport(overQUIC); err != nil {
		return nil, err
	}
	if err := sw.Listen(listen...); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if got := len(sw.ListenAddresses()); got < len(listen) && len(cfg.Listen) > 0 {
		return nil, fmt.Errorf("listen: only %v of %v could be opened", sw.ListenAddresses(), listen)
	}
	ok = true
	return s, nil
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

// newMuxer returns the stream multiplexer for TCP. Its own keep-alive is off, since the control stream has one.
func newMuxer() network.Multiplexer {
	c := *yamux.DefaultTransport.Config()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = 5 * time.Second
	t := yamux.Transport(yamuxlib.Config(c))
	return &t
}

// listenAddrs returns what to listen on: what the configuration says, or free ports on what the reach allows.
func listenAddrs(cfg transport.Config) ([]ma.Multiaddr, error) {
	texts := cfg.Listen
	if len(texts) == 0 {
		hosts := []string{"0.0.0.0"}
		if cfg.Reach == transport.ReachHost {
			hosts = []string{"127.0.0.1"}
		}
		for _, h := range hosts {
			texts = append(texts, net.JoinHostPort(h, "0"))
		}
	}
	var out []ma.Multiaddr
	for _, text := range texts {
		expanded, err := expandListen(text)
		if err != nil {
			return nil, err
		}
		for _, e := range expanded {
			a, err := ma.NewMultiaddr(e)
			if err != nil {
				return nil, fmt.Errorf("listen address %q: %w", text, err)
			}
			out = append(out, a)
		}
	}
	return out, nil
}

// expandListen turns host:port into a TCP and a QUIC multiaddr, and leaves multiaddrs alone.
func expandListen(text string) ([]string, error) {
	if strings.HasPrefix(text, "/") {
		return []string{text}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: neither a multiaddr nor host:port: %w", text, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, fmt.Errorf("listen address %q: %q is not an IP address", text, host)
	}
	family := "ip6"
	if ip.To4() != nil {
		family = "ip4"
	}
	return []string{
		fmt.Sprintf("/%s/%s/tcp/%s", family, ip, port),
		fmt.Sprintf("/%s/%s/udp/%s/quic-v1", family, ip, port),
	}, nil
}

// peerOf maps our identity to libp2p's, which is the same key in an envelope.
func peerOf(p id.PeerID) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(p[:])
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(key)
}

// idOf maps libp2p's identity to ours. It fails for keys other than Ed25519.
func idOf(p peer.ID) (id.PeerID, error) {
	key, err := p.ExtractPublicKey()
	if err != nil {
		return id.PeerID{}, err
	}
	raw, err := key.Raw()
	if err != nil {
		return id.PeerID{}, err
	}
	if key.Type() != crypto.Ed25519 || len(raw) != ed25519.PublicKeySize {
		return id.PeerID{}, fmt.Errorf("key type %v, want Ed25519", key.Type())
	}
	return id.PeerID(raw), nil
}
