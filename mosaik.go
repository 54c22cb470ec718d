// Package mosaik is a runtime for self-organizing, leaderless distributed systems. Programs that open the same network
// name find each other, on one host with nothing else running, on a LAN, or across the internet, as far as the [Reach]
// they were opened with allows. On a [Network] stand the other packages: discovery (who is there), streams (typed publish
// and subscribe) and groups (Raft groups around your own state machines).
//
//	net, err := mosaik.New(ctx, "my-network")
//	if err != nil {
//		return err
//	}
//	defer net.Close()
//
// Members of a network trust each other once admitted; strangers are kept out by [WithSecret], and groups have keys of
// their own. Byzantine members are out of scope.
package mosaik

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/p2p"
)

// PeerID is the identity of a node, see [id.PeerID].
type PeerID = id.PeerID

// PeerAddr is a peer and where it can be reached, see [id.PeerAddr].
type PeerAddr = id.PeerAddr

// ParsePeerAddr reads the text form of a [PeerAddr].
func ParsePeerAddr(text string) (PeerAddr, error) { return id.ParsePeerAddr(text) }

// ErrClosed reports that the network was closed.
var ErrClosed = node.ErrClosed

// ErrIdentityInUse reports that this process or another on this host runs a node with the same identity on the same network.
// It is known from the same-host registry, of other processes on Linux only.
var ErrIdentityInUse = discovery.ErrIdentityInUse

// Reach says how far a node makes itself known.
type Reach uint8

const (
	// Host keeps a node to this machine: it listens on loopback addresses and finds others through a registry in the
	// user's runtime directory. It is the default.
	Host Reach = Reach(transport.ReachHost)
	// LAN makes a node listen on all interfaces.
	LAN Reach = Reach(transport.ReachLAN)
	// Internet is for nodes that must be reached from anywhere. It listens like [LAN].
	Internet Reach = Reach(transport.ReachInternet)
)

// String returns host, lan or internet, as [ReachEnv] takes it.
func (r Reach) String() string { return transport.Reach(r).String() }

// ReachEnv is the environment variable that overrides the default reach with host, lan or internet, so that one binary
// runs on a laptop and in production. [WithReach] takes precedence.
const ReachEnv = "MOSAIK_REACH"

// defaultShutdownGrace bounds how long Close waits for groups and streams to depart in order.
const defaultShutdownGrace = 10 * time.Second

// Network is one node on one network: an identity, its connections and what it knows of the others. All methods are safe
// for concurrent use.
type Network struct {
	node *node.Node
}

// New opens a node on the network of the given name: all nodes that use the same name are on one network. Text of
// exactly 64 hexadecimal digits is taken as the network id itself; see [id.Of].
//
// New returns once the node listens. It never waits for peers, relays or the internet; ctx bounds only the call. Without
// options the node has a fresh random identity, reach [Host], and lives until [Network.Close].
func New(ctx context.Context, network string, opts ...Option) (*Network, error) {
	if network == "" {
		return nil, fmt.Errorf("mosaik: open: the network name is empty")
	}
	cfg := node.Config{
		Network:       id.Of(network),
		Name:          network,
		Reach:         transport.ReachHost,
		Registry:      true,
		NewHost:       p2p.New,
		ShutdownGrace: defaultShutdownGrace,
	}
	if text := os.Getenv(ReachEnv); text != "" {
		reach, err := transport.ParseReach(text)
		if err != nil {
			return nil, fmt.Errorf("mosaik: open: environment variable %s: %w", ReachEnv, err)
		}
		cfg.Reach = reach
	}
	for i, o := range opts {
		if o == nil {
			return nil, fmt.Errorf("mosaik: open: option %d is nil", i)
		}
		if err := o(&cfg); err != nil {
			return nil, fmt.Errorf("mosaik: open: %w", err)
		}
	}
	if cfg.Key == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("mosaik: open: make an identity: %w", err)
		}
		cfg.Key = key
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("network", cfg.Network.Short(), "self", id.PeerIDOf(cfg.Key).Short())
	n, err := node.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Network{node: n}, nil
}

// ID returns the node's identity.
func (n *Network) ID() PeerID { return n.node.ID() }

// Addr returns the node's identity and the addresses at which others can reach it now. Hand it to another node's
// [WithBootstrap] or to its Discovery().Dial.
func (n *Network) Addr() PeerAddr { return n.node.Host.Addr() }

// NetworkID returns the id that the network name stands for.
func (n *Network) NetworkID() id.ID { return n.node.Network }

// Discovery returns the node's view of the network.
func (n *Network) Discovery() *discovery.Discovery { return n.node.Disc }

// Node returns the node's internals, for the packages of this module.
func (n *Network) Node() *node.Node { return n.node }

// Close leaves the network in order: groups hand over leadership and leave, streams end, a signed departure is spread,
// connections are closed with a goodbye, and all goroutines of the node are waited for. It takes at most about ten
// seconds, is idempotent, and every call returns after the node is gone. Later use of anything that belongs to the
// node fails.
func (n *Network) Close() error { return n.node.Close() }
