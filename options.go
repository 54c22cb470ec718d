package mosaik

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Option changes how [New] opens a node. New refuses nil.
type Option func(*node.Config) error

// WithSeed derives the node's identity from a text: the same text gives the same [PeerID] on every machine. Whoever
// knows the text can pose as the node, so it is for well-known nodes on trusted networks; elsewhere use [WithPrivateKey].
// Two nodes must never run with one identity at the same time. On one host [New] fails with [ErrIdentityInUse] if this
// process or another has the node open. Elsewhere peers keep to the one that was opened last, and the other is told, by an
// event of kind discovery.DuplicateIdentity, in its log and in discovery.Status.
func WithSeed(seed string) Option {
	return func(c *node.Config) error {
		if seed == "" {
			return fmt.Errorf("WithSeed: the seed is empty")
		}
		digest := id.Of(seed)
		return setIdentity(c, "WithSeed", ed25519.NewKeyFromSeed(digest[:]))
	}
}

// WithPrivateKey sets the node's identity. The default is a fresh random key.
func WithPrivateKey(key ed25519.PrivateKey) Option {
	return func(c *node.Config) error {
		if len(key) != ed25519.PrivateKeySize {
			return fmt.Errorf("WithPrivateKey: the key has %d bytes, want %d", len(key), ed25519.PrivateKeySize)
		}
		if !key.Equal(ed25519.NewKeyFromSeed(key.Seed())) {
			return fmt.Errorf("WithPrivateKey: the public half of the key does not belong to the private one")
		}
		return setIdentity(c, "WithPrivateKey", slices.Clone(key))
	}
}

// setIdentity takes the node's key from one option only: which of two would count is a guess.
func setIdentity(c *node.Config, option string, key ed25519.PrivateKey) error {
	if c.Key != nil {
		return fmt.Errorf("%s: another option has set the identity already", option)
	}
	c.Key = key
	return nil
}

// WithReach says how far the node makes itself known: [Host], [LAN] or [Internet]. The default is Host, or what the
// environment variable MOSAIK_REACH says.
func WithReach(r Reach) Option {
	return func(c *node.Config) error {
		if r < Host || r > Internet {
			return fmt.Errorf("WithReach: unknown reach %d", uint8(r))
		}
		c.Reach = transport.Reach(r)
		return nil
	}
}

// WithListen replaces the addresses that the node listens on. Each is a multiaddr (/ip4/0.0.0.0/tcp/4001,
// /ip4/0.0.0.0/udp/4001/quic-v1) or host:port, which stands for both TCP and QUIC on that port. The default is free
// ports on the interfaces that the reach allows. Repeated use adds up; an address that is given twice counts once.
func WithListen(addrs ...string) Option {
	return func(c *node.Config) error {
		c.Listen = append(c.Listen, addrs...)
		return nil
	}
}

// WithBootstrap names peers to contact first. One that can be reached is enough to learn of all others, and none is
// needed where the reach finds peers by itself. Those that cannot be reached are tried on and on, also when there are other
// peers, so that a network that was split finds together. Repeated use adds up.
func WithBootstrap(peers ...PeerAddr) Option {
	return func(c *node.Config) error {
		for i, p := range peers {
			if p.ID.IsZero() {
				return fmt.Errorf("WithBootstrap: peer %d has no id", i)
			}
		}
		c.Bootstrap = append(c.Bootstrap, peers...)
		return nil
	}
}

// WithTags puts tags on the node's entry, by which others can choose it. Repeated use adds up. The empty tag is refused.
func WithTags(tags ...string) Option {
	return func(c *node.Config) error {
		if slices.Contains(tags, "") {
			return fmt.Errorf("WithTags: a tag is empty")
		}
		c.Tags = append(c.Tags, tags...)
		return nil
	}
}

// WithSecret makes the network private: connections are refused unless both sides prove, without showing it, that they
// know the same secret. Since a peer that is let in to try could guess offline, use a long one.
func WithSecret(secret string) Option {
	return func(c *node.Config) error {
		if secret == "" {
			return fmt.Errorf("WithSecret: the secret is empty")
		}
		c.Secret = secret
		return nil
	}
}

// WithStorage sets where groups on this node keep their logs. The default is memory: a node that restarts comes back as
// a new member. The store is used until the network is closed and not closed by it. It must not be nil.
func WithStorage(store logstore.Store) Option {
	return func(c *node.Config) error {
		if store == nil {
			return fmt.Errorf("WithStorage: the store is nil")
		}
		c.Storage = store
		return nil
	}
}

// WithLogger sets where the node logs. The default is nowhere.
func WithLogger(l *slog.Logger) Option {
	return func(c *node.Config) error {
		c.Logger = l
		return nil
	}
}

// WithMetrics registers the node's metrics. Several networks in one process may share a registerer: every series
// carries the label network.
func WithMetrics(r prometheus.Registerer) Option {
	return func(c *node.Config) error {
		c.Metrics = r
		return nil
	}
}

// WithDiscovery changes intervals and limits of discovery; zero fields keep their defaults.
func WithDiscovery(cfg discovery.Config) Option {
	return func(c *node.Config) error {
		c.Discovery = cfg
		return nil
	}
}

// WithHeartbeat says how often a connection pings, every 2 s by default, and after how long without a sign of life it is
// closed, 6 s by default. Peers that crash over TCP are noticed at once in any case; this is for those that hang, lose power or
// are cut off. Shorter times notice sooner and cost more; below a second a busy machine may take peers for dead. The
// nodes of a network need not agree. Zero keeps a default, which for deadAfter is never less than three pings; every must be at
// least 10 ms, and deadAfter at least twice every.
func WithHeartbeat(every, deadAfter time.Duration) Option {
	return func(c *node.Config) error {
		check := transport.Config{Heartbeat: every, DeadAfter: deadAfter}
		if _, _, err := check.Beats(); err != nil {
			return fmt.Errorf("WithHeartbeat: %w", err)
		}
		c.Heartbeat, c.DeadAfter = every, deadAfter
		return nil
	}
}

// WithoutRegistry keeps the node out of the same-host registry: it neither announces itself there nor looks there for
// other processes of this machine. Where the registry is kept, discovery.Config.RegistryDir and the environment variable
// MOSAIK_REGISTRY can change.
func WithoutRegistry() Option {
	return func(c *node.Config) error {
		c.Registry = false
		return nil
	}
}
