package p2p

import (
	"flag"
	"os"
	"testing"

	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/internal/transport/transporttest"
)

func TestMain(m *testing.M) {
	runChild()
	// Most tests here wait for somebody's patience to end, so more of them can run at a time than there are processors.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "6")
	}
	os.Exit(leak.Check(m.Run()))
}

// only opens hosts that listen on one transport, so that peers have no choice.
func only(listen string) transporttest.Opener {
	return func(cfg transport.Config) (transport.Host, error) {
		cfg.Listen = []string{listen}
		return New(cfg)
	}
}

const (
	overTCP  = "/ip4/127.0.0.1/tcp/0"
	overQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
)

// onBoth runs a test over TCP and over QUIC.
func onBoth(t *testing.T, test func(t *testing.T, listen string)) {
	t.Parallel()
	for name, listen := range map[string]string{"TCP": overTCP, "QUIC": overQUIC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, listen)
		})
	}
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		open transporttest.Opener
	}{
		{"both", New},
		{"TCP", only(overTCP)},
		{"QUIC", only(overQUIC)},
	} {
		t.Run(c.name, func(t *testing.T) { transporttest.Run(t, c.open) })
	}
}
