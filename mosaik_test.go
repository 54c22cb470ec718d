package mosaik_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// open opens a node that is closed with the test. It stays out of the registry unless a directory is given.
func open(t testing.TB, network string, opts ...mosaik.Option) *mosaik.Network {
	t.Helper()
	net, err := mosaik.New(context.Background(), network, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { net.Close() })
	return net
}

// hermit opens a node that does not use the registry.
func hermit(t testing.TB, network string, opts ...mosaik.Option) *mosaik.Network {
	t.Helper()
	return open(t, network, append([]mosaik.Option{mosaik.WithoutRegistry()}, opts...)...)
}

func waitFor(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestNewMakesANode(t *testing.T) {
	t.Parallel()
	net := hermit(t, "a node", mosaik.WithTags("a", "b"), mosaik.WithTags("c"))
	if net.NetworkID() != id.Of("a node") || net.ID().IsZero() {
		t.Errorf("network %v, node %v", net.NetworkID(), net.ID())
	}
	addr := net.Addr()
	if addr.ID != net.ID() || len(addr.Addrs) == 0 {
		t.Errorf("address %v", addr)
	}
	for _, a := range addr.Addrs {
		if !strings.HasPrefix(a, "/ip4/127.0.0.1/") {
			t.Errorf("a node of reach host listens on %s", a)
		}
	}
	if again, err := mosaik.ParsePeerAddr(addr.String()); err != nil || again.String() != addr.String() {
		t.Errorf("the text form %q reads back as %v, %v", addr, again, err)
	}
	me := net.Discovery().Me()
	if me.ID() != net.ID() || !me.HasTag("a") || !me.HasTag("c") || me.HasTag("d") || !slices.Equal(me.Addr().Addrs, slices.Sorted(slices.Values(addr.Addrs))) {
		t.Errorf("the entry is %v", me)
	}
	hex := id.Of("a node").String()
	if other := hermit(t, hex); other.NetworkID() != net.NetworkID() {
		t.Error("the id of a network is not the same network as its name")
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	const network = "identity"
	if a, b := hermit(t, network), hermit(t, network); a.ID() == b.ID() {
		t.Error("two nodes got one identity")
	}
	seed := id.Of("seed")
	want := id.PeerIDOf(ed25519.NewKeyFromSeed(seed[:]))
	if a := hermit(t, network, mosaik.WithSeed("seed")); a.ID() != want {
		t.Errorf("the seed gives %v, want %v", a.ID(), want)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := hermit(t, network, mosaik.WithPrivateKey(key)); a.ID() != id.PeerIDOf(key) {
		t.Errorf("the key gives %v", a.ID())
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(key)
	wrong[40] ^= 1
	var tags []string
	for n := range discovery.MaxTags + 1 {
		tags = append(tags, fmt.Sprint(n))
	}
	ctx := context.Background()
	for want, opt := range map[string]mosaik.Option{
		"WithSeed":    mosaik.WithSeed(""),
		"is nil":      nil,
		"the store":   mosaik.WithStorage(nil),
		"a tag is":    mosaik.WithTags("a", ""),
		"peer 1 has":  mosaik.WithBootstrap(mosaik.PeerAddr{ID: mosaik.PeerID{1}}, mosaik.PeerAddr{}),
		"WithSecret":  mosaik.WithSecret(""),
		"has 3 bytes": mosaik.WithPrivateKey(ed25519.PrivateKey("abc")),
		"public half": mosaik.WithPrivateKey(wrong),
		"WithReach":   mosaik.WithReach(mosaik.Reach(9)),
		"nonsense":    mosaik.WithListen("nonsense"),
		"tags: 257":   mosaik.WithTags(tags...),
		"PurgeAfter":  mosaik.WithDiscovery(discovery.Config{PurgeAfter: time.Second}),
	} {
		if net, err := mosaik.New(ctx, "refused", mosaik.WithoutRegistry(), opt); err == nil || net != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	file := mosaik.WithKeyFile(filepath.Join(t.TempDir(), "key"))
	for _, two := range [][]mosaik.Option{
		{mosaik.WithSeed("a"), file}, {file, mosaik.WithSeed("a")}, {file, mosaik.WithPrivateKey(key)}, {mosaik.WithSeed("a"), mosaik.WithSeed("a")},
	} {
		if _, err := mosaik.New(ctx, "refused", append(two, mosaik.WithoutRegistry())...); err == nil || !strings.Contains(err.Error(), "identity") {
			t.Errorf("an identity that is given twice: %v", err)
		}
	}
	if _, err := mosaik.New(ctx, ""); err == nil {
		t.Error("an empty name was accepted")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := mosaik.New(ended, "refused"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	first := hermit(t, "listener")
	if _, err := mosaik.New(ctx, "listener", mosaik.WithoutRegistry(), mosaik.WithListen(first.Addr().Addrs[0])); err == nil {
		t.Error("an address in use was accepted")
	}
}

// The environment variable changes the default, and the option has the last word.
func TestReach(t *testing.T) {
	t.Setenv(mosaik.ReachEnv, "lan")
	if net := hermit(t, "reach", mosaik.WithListen("127.0.0.1:0")); net.Node().Reach != transport.ReachLAN {
		t.Errorf("with %s=lan the reach is %v", mosaik.ReachEnv, net.Node().Reach)
	}
	if net := hermit(t, "reach", mosaik.WithReach(mosaik.Host)); net.Node().Reach != transport.ReachHost {
		t.Errorf("with an option the reach is %v", net.Node().Reach)
	}
	t.Setenv(mosaik.ReachEnv, "galaxy")
	if _, err := mosaik.New(context.Background(), "reach"); err == nil || !strings.Contains(err.Error(), mosaik.ReachEnv) {
		t.Errorf("an unknown reach: %v", err)
	}
	t.Setenv(mosaik.ReachEnv, "")
	if net := hermit(t, "reach"); net.Node().Reach != transport.ReachHost {
		t.Errorf("the default reach is %v", net.Node().Reach)
	}
	for r, want := range map[mosaik.Reach]string{mosaik.Host: "host", mosaik.LAN: "lan", mosaik.Internet: "internet"} {
		if r.String() != want {
			t.Errorf("%d is called %v", r, r)
		}
	}
}

// New never waits for the outside world: not for peers that are away, nor for anything that Close would have to end.
func TestNewDoesNotWait(t *testing.T) {
	t.Parallel()
	gone := hermit(t, "not waiting")
	addr := gone.Addr()
	gone.Close()
	began := time.Now()
	net := hermit(t, "not waiting", mosaik.WithBootstrap(addr, mosaik.PeerAddr{ID: mosaik.PeerID{1}}))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("New took %v", took)
	}
	waitFor(t, time.Minute, "the failures are visible", func() bool {
		failed := 0
		for _, c := range net.Discovery().Status().Contacts {
			if c.Err != nil {
				failed++
			}
		}
		return failed == 2
	})
	began = time.Now()
	if err := net.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	const network = "secret"
	var log syncBuffer
	a := hermit(t, network, mosaik.WithSecret("one"), mosaik.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	same := hermit(t, network, mosaik.WithSecret("one"))
	other := hermit(t, network, mosaik.WithSecret("two"))
	none := hermit(t, network)
	ctx := context.Background()
	compare := func(n *mosaik.Network) (err error) {
		for range 20 { // a busy machine can be too slow for a dial
			if err = n.Discovery().SyncWith(ctx, a.Addr()); !errors.Is(err, transport.ErrUnreachable) && (err == nil || link.CodeOf(err) != link.CodeTimeout) {
				break
			}
		}
		return err
	}
	if err := compare(same); err != nil {
		t.Errorf("with the same secret: %v", err)
	}
	for name, n := range map[string]*mosaik.Network{"another secret": other, "no secret": none} {
		if err := compare(n); err == nil || !strings.Contains(err.Error(), "proof") {
			t.Errorf("with %s: %v", name, err)
		}
		for range 5 {
			if err := a.Discovery().SyncWith(ctx, n.Addr()); err == nil {
				t.Errorf("to a node with %s: no error", name)
			}
		}
	}
	told := func(part string) (n int) {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, part) {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(time.Minute); told("another network secret") < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := told("another network secret"); n != 2 {
		t.Errorf("warned %d times of two nodes:\n%s", n, log.String())
	}
	if n := told("bad network proof"); n != 2 {
		t.Errorf("%d lines of two refused nodes:\n%s", n, log.String())
	}
	if note := a.Discovery().Note(); !strings.Contains(note, "2 peers of this network are refused") {
		t.Errorf("note %q", note)
	}
	if n := a.Discovery().Catalog().Len(); n != 1 {
		t.Errorf("%d peers, want the one with the same secret", n)
	}
}

func TestDuplicateSeed(t *testing.T) {
	t.Parallel()
	const network = "duplicate seed"
	hub := hermit(t, network)
	first := hermit(t, network, mosaik.WithSeed("twin"), mosaik.WithBootstrap(hub.Addr()))
	events := first.Discovery().Events(t.Context())
	waitFor(t, time.Minute, "the first is in", func() bool { return hub.Discovery().Catalog().Len() == 1 })
	time.Sleep(5 * time.Millisecond) // the incarnation is in milliseconds
	second := hermit(t, network, mosaik.WithSeed("twin"), mosaik.WithBootstrap(hub.Addr()))
	if first.ID() != second.ID() {
		t.Fatal("not twins")
	}
	waitFor(t, 2*time.Minute, "the first is told", func() bool { return first.Discovery().Status().Duplicate != nil })
	for e := range events {
		if e.Kind == discovery.DuplicateIdentity {
			break
		}
	}
	waitFor(t, 2*time.Minute, "the others keep to the one opened last", func() bool {
		p, ok := hub.Discovery().Catalog().Get(second.ID())
		return ok && p.StartedAt().Equal(second.Discovery().Me().StartedAt())
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	a := hermit(t, "close")
	b := hermit(t, "close", mosaik.WithBootstrap(a.Addr()))
	waitFor(t, time.Minute, "they meet", func() bool {
		return a.Discovery().Catalog().Len() == 1 && b.Discovery().Catalog().Len() == 1
	})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, time.Minute, "the departure is known", func() bool { return a.Discovery().Catalog().Len() == 0 })
	if err := b.Discovery().AddTags("x"); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("AddTags after Close: %v", err)
	}
	if err := b.Discovery().SyncWith(context.Background(), a.Addr()); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("SyncWith after Close: %v", err)
	}
	// Its addresses are free again, and everything that can be asked without a network still answers.
	again := hermit(t, "close", mosaik.WithListen(b.Addr().Addrs...))
	if again.ID() == b.ID() || b.NetworkID() != again.NetworkID() {
		t.Errorf("%v and %v", again.ID(), b.ID())
	}
}

func TestLoggerAndMetrics(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var buf bytes.Buffer
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return buf.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg := prometheus.NewPedanticRegistry()
	a := hermit(t, "metrics one", mosaik.WithLogger(log), mosaik.WithMetrics(reg))
	hermit(t, "metrics two", mosaik.WithMetrics(reg), mosaik.WithLogger(nil))
	b := hermit(t, "metrics one", mosaik.WithBootstrap(a.Addr()))
	waitFor(t, time.Minute, "they meet", func() bool { return a.Discovery().Catalog().Len() == 1 })
	waitFor(t, time.Minute, "they are neighbours", func() bool { return len(a.Discovery().Status().Neighbours) == 1 })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]float64{}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
		if f.GetName() == "mosaik_discovery_catalog_size" {
			for _, m := range f.GetMetric() {
				sizes[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if sizes[id.Of("metrics one").Short()] != 1 || sizes[id.Of("metrics two").Short()] != 0 || len(sizes) != 2 {
		t.Errorf("catalog sizes by network: %v", sizes)
	}
	if !names["mosaik_network_connections_opened"] {
		t.Errorf("the transport's metrics are missing among %v", names)
	}
	b.Close()
	waitFor(t, time.Minute, "the log tells of the neighbour, the network and the node", func() bool {
		mu.Lock()
		defer mu.Unlock()
		text := buf.String()
		return strings.Contains(text, "neighbour up") && strings.Contains(text, "network="+a.NetworkID().Short()) && strings.Contains(text, "self="+a.ID().Short())
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Heartbeats that cannot work are refused when the node is opened, and those that can are taken over.
func TestHeartbeat(t *testing.T) {
	for _, bad := range [][2]time.Duration{{5 * time.Millisecond, 0}, {time.Second, time.Second}, {-time.Second, 0}} {
		net, err := mosaik.New(t.Context(), "heartbeat", mosaik.WithoutRegistry(), mosaik.WithHeartbeat(bad[0], bad[1]))
		if err == nil {
			net.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "WithHeartbeat") {
			t.Errorf("%v: error %v", bad, err)
		}
	}
	// Nodes need not agree.
	quick := hermit(t, "heartbeat", mosaik.WithHeartbeat(50*time.Millisecond, 500*time.Millisecond))
	slow := hermit(t, "heartbeat", mosaik.WithHeartbeat(time.Minute, 0))
	if err := quick.Discovery().Dial(t.Context(), slow.Addr()); err != nil {
		t.Log(err) // a busy machine can be too slow at first
	}
	waitFor(t, time.Minute, "they list each other", func() bool {
		return quick.Discovery().Catalog().Len() == 1 && slow.Discovery().Catalog().Len() == 1
	})
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
