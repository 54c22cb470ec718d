package mosaik_test

import (
	"context"
	"crypto/ed25519"
	"iter"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// The names that programs are written against, with their types. What is here does not change; it is checked by compiling.
var (
	_ func(ctx context.Context, network string, opts ...mosaik.Option) (*mosaik.Network, error) = mosaik.New
	_ func(text string) (mosaik.PeerAddr, error)                                                = mosaik.ParsePeerAddr

	_ func(string) mosaik.Option                = mosaik.WithSeed
	_ func(ed25519.PrivateKey) mosaik.Option    = mosaik.WithPrivateKey
	_ func(mosaik.Reach) mosaik.Option          = mosaik.WithReach
	_ func(...string) mosaik.Option             = mosaik.WithListen
	_ func(...mosaik.PeerAddr) mosaik.Option    = mosaik.WithBootstrap
	_ func(...string) mosaik.Option             = mosaik.WithTags
	_ func(string) mosaik.Option                = mosaik.WithSecret
	_ func(logstore.Store) mosaik.Option        = mosaik.WithStorage
	_ func(*slog.Logger) mosaik.Option          = mosaik.WithLogger
	_ func(prometheus.Registerer) mosaik.Option = mosaik.WithMetrics
	_ func(discovery.Config) mosaik.Option      = mosaik.WithDiscovery
	_                                           = []mosaik.Reach{mosaik.Host, mosaik.LAN, mosaik.Internet}

	_ interface {
		ID() mosaik.PeerID
		Addr() mosaik.PeerAddr
		NetworkID() id.ID
		Discovery() *discovery.Discovery
		Close() error
	} = (*mosaik.Network)(nil)

	_ interface {
		Dial(context.Context, ...mosaik.PeerAddr) error
		SyncWith(context.Context, mosaik.PeerAddr) error
		Catalog() discovery.Catalog
		Me() discovery.PeerEntry
		Events(context.Context) iter.Seq[discovery.Event]
		AddTags(...string) error
		RemoveTags(...string) error
		AddTicket(tickets.Ticket) error
		RemoveTicket(id.ID) error
		RemoveTicketsOf(class id.ID) error
	} = (*discovery.Discovery)(nil)

	_ interface {
		Peers() iter.Seq[discovery.PeerInfo]
		Get(mosaik.PeerID) (discovery.PeerInfo, bool)
		Len() int
	} = discovery.Catalog{}

	_ interface {
		ID() mosaik.PeerID
		Addr() mosaik.PeerAddr
		Tags() []id.ID
		HasTag(string) bool
		Streams() []id.ID
		Groups() []id.ID
		Tickets() []tickets.Ticket
		StartedAt() time.Time
		Version() discovery.Version
		RTT() (time.Duration, bool)
		RTTBelow(time.Duration) bool
	} = discovery.PeerInfo{}

	_ = discovery.Config{AnnounceInterval: 0, PurgeAfter: 0, MaxClockDrift: 0, MaxRTT: 0}
	_ = mosaik.PeerAddr{ID: mosaik.PeerID{}, Addrs: []string{}}
)
