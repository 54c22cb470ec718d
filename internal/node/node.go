// Package node is what a running node is made of: its transport, its discovery and the services attached to it. The
// public package mosaik wraps it; streams and groups reach the node through it. Programs outside this module cannot
// name it.
package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// ErrClosed reports that the node is closed.
var ErrClosed = errors.New("mosaik: network closed")

// Config is everything a node is opened with. The functional options of package mosaik fill it in.
type Config struct {
	Network   id.ID
	Name      string // the text the network id came from, for people
	Key       ed25519.PrivateKey
	Reach     transport.Reach
	Listen    []string
	Bootstrap []id.PeerAddr
	Tags      []string
	Secret    string
	Storage   logstore.Store // nil: groups live in memory
	Logger    *slog.Logger   // never nil after defaults
	Metrics   prometheus.Registerer
	Discovery discovery.Config

	Heartbeat, DeadAfter time.Duration // of connections; zero: the transport's defaults

	// NewHost opens the transport. Package mosaik sets it to the libp2p host; test networks replace it.
	NewHost func(transport.Config) (transport.Host, error)
	// Registry says whether the same-host registry is used.
	Registry bool
	// ShutdownGrace bounds how long Close waits for services and discovery to depart in order; three quarters of it are
	// for the services.
	ShutdownGrace time.Duration
}

// Node is a running node.
type Node struct {
	Config
	Host transport.Host
	Disc *discovery.Discovery

	mu       sync.Mutex
	services []attached // in order of attachment
	closing  bool

	ended    chan struct{} // closed when Close or Kill is done
	closeErr error         // of later calls; written before ended is closed
}

// Service is a subsystem that lives on a node. Close departs in order, within ctx, and waits; Kill stops at once without
// a word to anyone, as if the process had died, and waits too. Each is called at most once.
type Service interface {
	Close(ctx context.Context) error
	Kill()
}

type attached struct {
	name    string
	service Service
}

// Open starts the transport and discovery. It does not wait for the outside world.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := &Node{Config: cfg, ended: make(chan struct{})}
	host, err := cfg.NewHost(transport.Config{
		Network: cfg.Network,
		Key:     cfg.Key,
		Reach:   cfg.Reach,
		Listen:  cfg.Listen,
		Secret:  cfg.Secret,
		Logger:  cfg.Logger,
		Metrics: cfg.Metrics,

		Heartbeat: cfg.Heartbeat,
		DeadAfter: cfg.DeadAfter,
	})
	if err != nil {
		return nil, fmt.Errorf("mosaik: open transport: %w", err)
	}
	n.Host = host
	n.Disc, err = discovery.Start(discovery.Env{
		Host:      host,
		Key:       cfg.Key,
		Network:   cfg.Network,
		Bootstrap: cfg.Bootstrap,
		Tags:      cfg.Tags,
		Registry:  cfg.Registry,
		Logger:    cfg.Logger,
		Metrics:   cfg.Metrics,
	}, cfg.Discovery)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mosaik: start discovery: %w", err), host.Close())
	}
	return n, nil
}

// ID returns the node's identity.
func (n *Node) ID() id.PeerID { return n.Host.ID() }

// Attach returns the service of the given name, starting it with start if it is not there yet. start runs under a lock:
// it must not block and must not attach. After Close it fails with [ErrClosed].
func Attach[S Service](n *Node, name string, start func(*Node) (S, error)) (S, error) {
	var none S
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return none, ErrClosed
	}
	for _, a := range n.services {
		if a.name == name {
			return a.service.(S), nil
		}
	}
	s, err := start(n)
	if err != nil {
		return none, err
	}
	n.services = append(n.services, attached{name, s})
	return s, nil
}

// Close departs in order: services in reverse order of attachment, then discovery, then the transport. It waits for all
// goroutines of the node and is idempotent; every caller waits for the one close.
func (n *Node) Close() error {
	services, first := n.stopAttaching()
	if !first {
		<-n.ended
		return n.closeErr
	}
	defer close(n.ended)
	ctx, cancel := context.WithTimeout(context.Background(), n.ShutdownGrace)
	defer cancel()
	// A service that hangs must not keep the departure from being spread.
	forServices, cancel := context.WithTimeout(ctx, n.ShutdownGrace*3/4)
	defer cancel()
	var errs []error
	for _, a := range services {
		if err := a.service.Close(forServices); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", a.name, err))
		}
	}
	if err := n.Disc.Close(ctx); err != nil {
		errs = append(errs, fmt.Errorf("close discovery: %w", err))
	}
	if err := n.Host.Close(); err != nil {
		errs = append(errs, fmt.Errorf("close transport: %w", err))
	}
	n.closeErr = errors.Join(errs...)
	return n.closeErr
}

// Kill ends the node without a goodbye, as if its process had died: connections break, nothing departs. It waits for all
// goroutines of the node.
func (n *Node) Kill() {
	services, first := n.stopAttaching()
	if !first {
		<-n.ended
		return
	}
	defer close(n.ended)
	n.Host.Kill()
	for _, a := range services {
		a.service.Kill()
	}
	n.Disc.Kill()
	n.closeErr = ErrClosed
}

// stopAttaching refuses further services and returns those there are, last attached first. Only the first call ends the
// node; the others wait for it, on a channel, so that they do not hold up virtual time in tests.
func (n *Node) stopAttaching() (services []attached, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return nil, false
	}
	n.closing = true
	services = slices.Clone(n.services)
	slices.Reverse(services)
	return services, true
}
