package streams_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

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

// over makes a network of n nodes on tcp, quic, or both.
func over(b testing.TB, transport string, n int) *testnet.Net {
	opts := []testnet.Option{testnet.Patience(2 * time.Minute)}
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

var transports = []string{"local", "tcp", "quic"}

// A struct of 100 bytes, from one producer to several consumers.
func BenchmarkStruct100(b *testing.B) {
	for _, tr := range transports {
		for _, n := range []int{1, 4, 16, 64} {
			b.Run(fmt.Sprintf("%s/1:%d", tr, n), func(b *testing.B) { fanout(b, tr, n, quote{Seq: 1 << 40, Time: 1 << 60}, 100) })
		}
	}
}

// Byte strings of several sizes, from one producer to one consumer.
func BenchmarkSize(b *testing.B) {
	for _, tr := range transports {
		for _, size := range []int{16, 1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", tr, size), func(b *testing.B) { fanout(b, tr, 1, make([]byte, size), size) })
		}
	}
}

// Long byte strings, from one producer to sixteen consumers.
func BenchmarkFanout(b *testing.B) {
	for _, tr := range transports {
		for _, size := range []int{1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d/1:16", tr, size), func(b *testing.B) { fanout(b, tr, 16, make([]byte, size), size) })
		}
	}
}

// How long structs take at a pace.
func BenchmarkLatency(b *testing.B) {
	for _, tr := range transports {
		for _, rate := range []int{1_000, 20_000, 200_000} {
			b.Run(fmt.Sprintf("%s/%d", tr, rate), func(b *testing.B) { latency(b, tr, rate) })
		}
	}
}

func latency(b *testing.B, transport string, rate int) {
	ctx := b.Context()
	nodes := 2
	if transport == "local" {
		nodes = 1
	}
	net := over(b, transport, nodes)
	p, err := streams.Produce[quote](net.Node(0), streams.OnLag(streams.Block))
	if err != nil {
		b.Fatal(err)
	}
	c, err := streams.Consume[quote](net.Node(nodes - 1))
	if err != nil {
		b.Fatal(err)
	}
	if err := p.When().Online(ctx); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	h := hdrhistogram.New(100, int64(time.Minute), 3)
	start := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range b.N {
			v, err := c.Recv(ctx)
			if err != nil {
				b.Error(err)
				return
			}
			h.RecordValue(int64(time.Since(start)) - v.Time)
		}
	})
	for sent := 0; sent < b.N; {
		for due := int(time.Since(start).Seconds() * float64(rate)); sent < min(due, b.N); sent++ {
			if err := p.Send(ctx, quote{Time: int64(time.Since(start))}); err != nil {
				b.Fatal(err)
			}
		}
		time.Sleep(50 * time.Microsecond)
	}
	wg.Wait()
	b.ReportMetric(float64(h.ValueAtQuantile(50))/1e3, "p50-us")
	b.ReportMetric(float64(h.ValueAtQuantile(99))/1e3, "p99-us")
	b.ReportMetric(0, "ns/op")
}

// An item on each of a thousand streams between two nodes, in turns.
func BenchmarkThousandStreams(b *testing.B) {
	for _, tr := range []string{"tcp", "quic"} {
		b.Run(tr, func(b *testing.B) { manyStreams(b, tr, 1000) })
	}
}

func manyStreams(b *testing.B, transport string, count int) {
	ctx := b.Context()
	net := over(b, transport, 2)
	before := heap()
	var ps []*streams.Producer[quote]
	var cs []*streams.Consumer[quote]
	for i := range count {
		name := streams.Named(fmt.Sprint("stream ", i))
		p, err := streams.Produce[quote](net.Node(0), name, streams.OnLag(streams.Block))
		if err != nil {
			b.Fatal(err)
		}
		c, err := streams.Consume[quote](net.Node(1), name)
		if err != nil {
			b.Fatal(err)
		}
		ps, cs = append(ps, p), append(cs, c)
	}
	for _, p := range ps {
		if err := p.When().Online(ctx); err != nil {
			b.Fatal(err)
		}
	}
	idle := float64(heap()-before) / float64(count)
	b.ResetTimer()
	cpu := cpuTime()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range b.N {
			if _, err := cs[i%count].Recv(ctx); err != nil {
				b.Error(err)
				return
			}
		}
	})
	for i := range b.N {
		if err := ps[i%count].Send(ctx, quote{}); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mdeliveries/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/delivery")
	b.ReportMetric(idle, "idle-B/stream")
	b.ReportMetric(0, "ns/op")
}
