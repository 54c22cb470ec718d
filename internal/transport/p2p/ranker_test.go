package p2p

import (
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/mosaik-go/mosaik/id"
)

func TestRankDials(t *testing.T) {
	t.Parallel()
	const (
		localTCP   = "/ip4/127.0.0.1/tcp/1"
		localQUIC  = "/ip4/127.0.0.1/udp/1/quic-v1"
		lanTCP     = "/ip4/192.168.1.2/tcp/1"
		lanQUIC    = "/ip4/192.168.1.2/udp/1/quic-v1"
		lan6TCP    = "/ip6/fd00::2/tcp/1"
		publicTCP  = "/ip4/8.8.8.8/tcp/1"
		publicQUIC = "/ip4/8.8.8.8/udp/1/quic-v1"
	)
	for _, c := range []struct {
		name   string
		addrs  []string
		before [][2]string // the first is dialled earlier than the second
		atOnce []string
	}{
		{"loopback: TCP first", []string{localQUIC, localTCP}, [][2]string{{localTCP, localQUIC}}, []string{localTCP}},
		{"LAN: TCP first", []string{lanQUIC, lanTCP}, [][2]string{{lanTCP, lanQUIC}}, []string{lanTCP}},
		{"no TCP: QUIC does not wait", []string{localQUIC}, nil, []string{localQUIC}},
		{"public: QUIC first", []string{publicTCP, publicQUIC}, [][2]string{{publicQUIC, publicTCP}}, []string{publicQUIC}},
		{"all TCP that is near at once", []string{localTCP, lanTCP, lan6TCP}, nil, []string{localTCP, lanTCP, lan6TCP}},
		{"near before public", []string{publicQUIC, publicTCP, lanQUIC, lanTCP},
			[][2]string{{lanTCP, lanQUIC}, {lanQUIC, publicQUIC}, {publicQUIC, publicTCP}}, []string{lanTCP}},
	} {
		var addrs []ma.Multiaddr
		for _, a := range c.addrs {
			addrs = append(addrs, ma.StringCast(a))
		}
		delays := make(map[string]time.Duration)
		for _, d := range rankDials(addrs) {
			delays[d.Addr.String()] = d.Delay
		}
		if len(delays) != len(c.addrs) {
			t.Errorf("%s: %d of %d addresses are dialled", c.name, len(delays), len(c.addrs))
		}
		for _, b := range c.before {
			if delays[b[0]] >= delays[b[1]] {
				t.Errorf("%s: %s after %v, %s after %v", c.name, b[0], delays[b[0]], b[1], delays[b[1]])
			}
		}
		for _, a := range c.atOnce {
			if delays[a] != 0 {
				t.Errorf("%s: %s waits %v", c.name, a, delays[a])
			}
		}
	}
	if len(rankDials(nil)) != 0 {
		t.Error("no addresses, but dials")
	}
}

// Where both transports are offered on loopback the connection is over TCP, and over QUIC where only that is.
func TestTransportChoice(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{"": "tcp", overTCP: "tcp", overQUIC: "quic"} {
		network := id.Random()
		h := openHost(t, network, listen)
		// On a busy machine TCP can need longer than its head start, so not every attempt counts.
		eventually(t, "a stream over "+want+" to one that listens on "+listen, func() bool {
			from := openHost(t, network, "")
			defer from.Close()
			connect(t, from, h)
			s, err := from.Open(t.Context(), h.ID(), "echo")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			return s.Transport() == want
		})
	}
}
