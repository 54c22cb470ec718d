package p2p

import (
	"fmt"
	"net"
	"slices"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// listenAddr is an address to listen on. The host opens without the optional ones, such as those of IPv6 on a machine
// that does not have it.
type listenAddr struct {
	addr     ma.Multiaddr
	optional bool
}

// listenAddrs returns what to listen on: what the configuration says, or free ports on what the reach allows. What is said
// twice is there once: the library's QUIC panics when it is told twice to listen on a free port.
func listenAddrs(cfg transport.Config) ([]listenAddr, error) {
	texts := cfg.Listen
	if len(texts) == 0 {
		texts = []string{":0"}
		if cfg.Reach == transport.ReachHost {
			texts = []string{"127.0.0.1:0"}
		}
	}
	var out []listenAddr
	for _, text := range texts {
		addrs, err := expandListen(text)
		if err != nil {
			return nil, fmt.Errorf("listen address %q: %w", text, err)
		}
		for _, a := range addrs {
			if i := slices.IndexFunc(out, func(o listenAddr) bool { return o.addr.Equal(a.addr) }); i >= 0 {
				out[i].optional = out[i].optional && a.optional
				continue
			}
			out = append(out, a)
		}
	}
	return out, nil
}

// expandListen turns host:port into TCP and QUIC multiaddrs, and leaves multiaddrs alone. Without a host it means all
// interfaces.
func expandListen(text string) ([]listenAddr, error) {
	if strings.HasPrefix(text, "/") {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, err
		}
		return []listenAddr{{addr: a}}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, fmt.Errorf("neither a multiaddr nor host:port: %w", err)
	}
	switch host {
	case "":
		four, err := listenOn(net.IPv4zero, port, false)
		if err != nil {
			return nil, err
		}
		six, err := listenOn(net.IPv6unspecified, port, true)
		return append(four, six...), err
	case "localhost":
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, fmt.Errorf("%q is not an IP address", host)
	}
	return listenOn(ip, port, false)
}

// listenOn returns the TCP and the QUIC address of an IP address and a port.
func listenOn(ip net.IP, port string, optional bool) (out []listenAddr, err error) {
	family := "ip6"
	if ip.To4() != nil {
		family = "ip4"
	}
	for _, format := range []string{"/%s/%s/tcp/%s", "/%s/%s/udp/%s/quic-v1"} {
		a, err := ma.NewMultiaddr(fmt.Sprintf(format, family, ip, port))
		if err != nil {
			return nil, err
		}
		out = append(out, listenAddr{a, optional})
	}
	return out, nil
}

// Addr returns where this host can be dialled: what it listens on, with "all interfaces" spelled out. Link-local IPv6
// addresses are left out, since they mean nothing without the name of the caller's interface. They are sorted, TCP before
// QUIC, since the library returns them in any order.
func (h *host) Addr() id.PeerAddr {
	a := id.PeerAddr{ID: h.self}
	addrs, err := h.stack.swarm.InterfaceListenAddresses()
	if err != nil {
		addrs = h.stack.swarm.ListenAddresses()
	}
	for _, m := range addrs {
		if !manet.IsIP6LinkLocal(m) {
			a.Addrs = append(a.Addrs, m.String())
		}
	}
	slices.Sort(a.Addrs)
	return a
}
