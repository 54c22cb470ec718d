package streams_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// quote is a struct that takes about 100 bytes in memory.
type quote struct {
	Symbol                [8]byte
	Bid, Ask, Last        float64
	BidSize, AskSize, Vol uint32
	Time                  int64
	Seq                   uint64
	Venue                 [16]byte
	Flags                 uint32
	Note                  [16]byte
}

// listenOnly replaces the addresses that a node listens on.
func listenOnly(addr string) mosaik.Option {
	return func(c *node.Config) error {
		c.Listen = []string{addr}
		return nil
	}
}

// over makes a network of n nodes on the transport.
func over(b testing.TB, transport string, n int) *testnet.Net {
	var opts []testnet.Option
	switch transport {
	case "tcp":
		opts = append(opts, testnet.Nodes(listenOnly("/ip4/127.0.0.1/tcp/0")))
	case "quic":
		opts = append(opts, testnet.Nodes(listenOnly("/ip4/127.0.0.1/udp/0/quic-v1")))
	}
	net := testnet.Loopback(b, n, opts...)
	for i := range n {
		// What cannot be reached at once is tried again.
		if err := net.Node(i).Discovery().Dial(b.Context(), net.Node(0).Addr()); err != nil {
			b.Log(err)
		}
	}
	net.WaitFor("all know all", func() bool {
		for _, node := range net.Nodes() {
			if node.Discovery().Catalog().Len() != n-1 {
				return false
			}
		}
		return true
	})
	return net
}

// fanout measures deliveries from one producer to consumers, each on its own node unless here is set.
func fanout[T any](b *testing.B, transport string, consumers int, v T, size int) {
	ctx := b.Context()
	nodes := consumers + 1
	if transport == "local" {
		nodes = 1
	}
	net := over(b, transport, nodes)
	p, err := streams.Produce[T](net.Node(0), streams.OnLag(streams.Block))
	if err != nil {
		b.Fatal(err)
	}
	var cs []*streams.Consumer[T]
	for i := range consumers {
		c, err := streams.Consume[T](net.Node((i + 1) % nodes))
		if err != nil {
			b.Fatal(err)
		}
		cs = append(cs, c)
	}
	if err := p.When().Subscribed(ctx, streams.AtLeast(consumers)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size * consumers))
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(func() {
			for range b.N {
				if _, err := c.Recv(ctx); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for range b.N {
		if err := p.Send(ctx, v); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)*float64(consumers)/b.Elapsed().Seconds()/1e6, "Mdeliveries/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N*consumers), "cpu-ns/delivery")
	b.ReportMetric(0, "ns/op")
}

// cpuTime returns what the process has used, which tells more than the clock when the machine is shared.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkStruct100(b *testing.B) {
	for _, tr := range []string{"local", "tcp", "quic"} {
		for _, n := range []int{1, 4, 16} {
			b.Run(fmt.Sprintf("%s/1:%d", tr, n), func(b *testing.B) { fanout(b, tr, n, quote{Seq: 1 << 40, Time: 1 << 60}, 100) })
		}
	}
}
