package p2p

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

func TestListenAddrs(t *testing.T) {
	t.Parallel()
	both := func(host string) []string { return []string{host + "/tcp/4001", host + "/udp/4001/quic-v1"} }
	for _, c := range []struct {
		name   string
		reach  transport.Reach
		listen []string
		want   []string // ? before the optional ones
	}{
		{"host", transport.ReachHost, nil, []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}},
		{"lan", transport.ReachLAN, nil, []string{
			"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1", "?/ip6/::/tcp/0", "?/ip6/::/udp/0/quic-v1"}},
		{"port", transport.ReachHost, []string{":4001"}, append(both("/ip4/0.0.0.0"), "?/ip6/::/tcp/4001", "?/ip6/::/udp/4001/quic-v1")},
		{"address and port", transport.ReachLAN, []string{"10.0.0.1:4001"}, both("/ip4/10.0.0.1")},
		{"IPv6", transport.ReachLAN, []string{"[fd00::1]:4001"}, both("/ip6/fd00::1")},
		{"localhost", transport.ReachLAN, []string{"localhost:4001"}, both("/ip4/127.0.0.1")},
		{"multiaddr", transport.ReachLAN, []string{"/ip4/10.0.0.1/tcp/4001"}, []string{"/ip4/10.0.0.1/tcp/4001"}},
		{"two", transport.ReachLAN, []string{"/ip4/10.0.0.1/tcp/1", "10.0.0.2:4001"}, append([]string{"/ip4/10.0.0.1/tcp/1"}, both("/ip4/10.0.0.2")...)},
		{"one twice", transport.ReachLAN, []string{"127.0.0.1:4001", "localhost:4001", "/ip4/127.0.0.1/udp/4001/quic-v1"}, both("/ip4/127.0.0.1")},
		{"free ports twice", transport.ReachLAN, []string{"127.0.0.1:0", "127.0.0.1:0"},
			[]string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}},
		{"optional and not", transport.ReachLAN, []string{":4001", "[::]:4001"}, append(both("/ip4/0.0.0.0"), both("/ip6/::")...)},
	} {
		got, err := listenAddrs(transport.Config{Reach: c.reach, Listen: c.listen})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var texts []string
		for _, a := range got {
			text := a.addr.String()
			if a.optional {
				text = "?" + text
			}
			texts = append(texts, text)
		}
		if !slices.Equal(texts, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, texts, c.want)
		}
	}
	for _, bad := range []string{"", "4001", "example.com:4001", "10.0.0.1:port", ":99999", "/ip4/10.0.0.1/tcp", "/nonsense"} {
		if got, err := listenAddrs(transport.Config{Listen: []string{bad}}); err == nil {
			t.Errorf("%q is taken for %v", bad, got)
		} else if !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: the error does not name it: %v", bad, err)
		}
	}
}

// A host opens whatever addresses are given more than once.
func TestListenTwice(t *testing.T) {
	t.Parallel()
	h := openHost(t, id.Random(), "", func(c *transport.Config) {
		c.Listen = []string{"127.0.0.1:0", "127.0.0.1:0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	})
	if addrs := h.Addr().Addrs; len(addrs) != 2 {
		t.Errorf("listens on %v, want one for each transport", addrs)
	}
}

func ipOf(t *testing.T, addr string) netip.Addr {
	t.Helper()
	parts := strings.Split(addr, "/")
	ip, err := netip.ParseAddr(parts[2])
	if err != nil {
		t.Fatalf("address %q: %v", addr, err)
	}
	return ip
}

// A node that keeps to its host has no address that others could reach.
func TestReachHost(t *testing.T) {
	t.Parallel()
	h := openHost(t, id.Random(), "")
	addrs := h.Addr().Addrs
	if len(addrs) != 2 {
		t.Errorf("addresses are %v, want one for each transport", addrs)
	}
	for _, a := range addrs {
		if !ipOf(t, a).IsLoopback() {
			t.Errorf("%s is not a loopback address", a)
		}
	}
}

// A node on the LAN listens everywhere and says so in addresses that can be dialled, each of which works.
func TestReachLAN(t *testing.T) {
	t.Parallel()
	network := id.Random()
	start := time.Now()
	h := openHost(t, network, "", func(c *transport.Config) { c.Reach = transport.ReachLAN })
	if took := time.Since(start); took > slack {
		t.Errorf("opening took %v", took)
	}
	addrs := h.Addr().Addrs
	if len(addrs) < 2 {
		t.Fatalf("addresses are %v", addrs)
	}
	for _, a := range addrs {
		ip := ipOf(t, a)
		if ip.IsUnspecified() || ip.Is6() && ip.IsLinkLocalUnicast() {
			t.Errorf("%s cannot be dialled from elsewhere", a)
		}
		// The machine's own addresses are reached without leaving it.
		from := openHost(t, network, "", func(c *transport.Config) { c.Reach = transport.ReachLAN })
		eventually(t, "a connection to "+a, func() bool {
			return from.Connect(t.Context(), id.PeerAddr{ID: h.ID(), Addrs: []string{a}}) == nil
		})
		from.Close()
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		prefix, err := netip.ParsePrefix(i.String())
		if err != nil || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		if !slices.ContainsFunc(addrs, func(a string) bool { return ipOf(t, a) == prefix.Addr() }) {
			t.Errorf("interface address %v is not among %v", prefix.Addr(), addrs)
		}
	}
}

// Two nodes cannot both believe to listen on one port.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	first := openHost(t, id.Random(), "")
	for _, addr := range first.Addr().Addrs {
		h, err := New(transport.Config{Network: id.Random(), Key: keyOf("second"), Reach: transport.ReachHost, Listen: []string{addr}})
		if err == nil {
			h.Close()
			t.Errorf("a second host listens on %s", addr)
		} else if !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("the error does not say that %s is in use: %v", addr, err)
		}
	}
}

// A host's addresses come in one order, TCP first, however often they are asked for.
func TestAddrOrder(t *testing.T) {
	t.Parallel()
	h := openHost(t, id.Random(), "")
	want := h.Addr().Addrs
	if len(want) != 2 || !strings.Contains(want[0], "/tcp/") {
		t.Fatalf("%v: want TCP, then QUIC", want)
	}
	for range 20 {
		if got := h.Addr().Addrs; !slices.Equal(got, want) {
			t.Fatalf("%v, then %v", want, got)
		}
	}
}

func TestDNSAddress(t *testing.T) {
	t.Parallel()
	network := id.Random()
	h, from := openHost(t, network, overTCP), openHost(t, network, "")
	named := strings.Replace(h.Addr().Addrs[0], "/ip4/127.0.0.1/", "/dns4/localhost/", 1)
	eventually(t, "a connection to "+named, func() bool {
		return from.Connect(t.Context(), id.PeerAddr{ID: h.ID(), Addrs: []string{named}}) == nil
	})
}

// Addresses that make no sense do not spoil those that do.
func TestBadAddresses(t *testing.T) {
	t.Parallel()
	network := id.Random()
	h, from := openHost(t, network, overTCP), openHost(t, network, "")
	bad := []string{"", "nonsense", "/ip4/1.2.3", "/ip4/127.0.0.1/tcp/1/ws", "/memory/1", "/ip4/127.0.0.1/tcp/1"}
	eventually(t, "a connection", func() bool {
		return from.Connect(t.Context(), id.PeerAddr{ID: h.ID(), Addrs: append(bad, h.Addr().Addrs...)}) == nil
	})
}
