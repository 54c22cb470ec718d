package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
)

// mosaikOver is streams on one transport: one node for the producer and one for each consumer, or one node for all.
type mosaikOver string

func (m mosaikOver) name() string { return "mosaik " + string(m) }

var opened atomic.Int64

// open opens nodes that know the first.
func (m mosaikOver) open(ctx context.Context, n int) (nets []*mosaik.Network, err error) {
	name := fmt.Sprintf("bench %d", opened.Add(1))
	opts := []mosaik.Option{mosaik.WithoutRegistry()}
	if m == "quic" {
		opts = append(opts, mosaik.WithListen("/ip4/127.0.0.1/udp/0/quic-v1"))
	} else {
		opts = append(opts, mosaik.WithListen("/ip4/127.0.0.1/tcp/0"))
	}
	if m == "local" {
		n = 1
	}
	for i := range n {
		own := opts
		if i > 0 {
			own = append(own[:len(own):len(own)], mosaik.WithBootstrap(nets[0].Addr()))
		}
		net, err := mosaik.New(ctx, name, own...)
		if err != nil {
			closeAll(nets)
			return nil, err
		}
		nets = append(nets, net)
	}
	return nets, nil
}

func closeAll(nets []*mosaik.Network) {
	var wg sync.WaitGroup
	for _, n := range nets {
		wg.Go(func() { n.Close() })
	}
	wg.Wait()
}

// flow is a producer with its consumers.
type flow[T any] struct {
	nets []*mosaik.Network
	out  *streams.Producer[T]
	in   []*streams.Consumer[T]
}

func newFlow[T any](ctx context.Context, m mosaikOver, consumers int) (*flow[T], error) {
	nets, err := m.open(ctx, consumers+1)
	if err != nil {
		return nil, err
	}
	f := &flow[T]{nets: nets}
	if f.out, err = streams.Produce[T](nets[0], streams.OnLag(streams.Block), streams.OnlineWhen(streams.AtLeast(consumers))); err != nil {
		closeAll(nets)
		return nil, err
	}
	for i := range consumers {
		c, err := streams.Consume[T](nets[(i+1)%len(nets)])
		if err != nil {
			closeAll(nets)
			return nil, err
		}
		f.in = append(f.in, c)
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := f.out.When().Online(ready); err != nil {
		closeAll(nets)
		return nil, err
	}
	return f, nil
}

func (m mosaikOver) rate(size, consumers int, d time.Duration) (result, error) {
	if size == structSize {
		return flood(m, consumers, d, func(i uint64) quote { return quote{Seq: i, Time: 1 << 60} })
	}
	payload := make([]byte, size)
	return flood(m, consumers, d, func(uint64) []byte { return payload })
}

func flood[T any](m mosaikOver, consumers int, d time.Duration, next func(uint64) T) (result, error) {
	ctx := context.Background()
	f, err := newFlow[T](ctx, m, consumers)
	if err != nil {
		return result{}, err
	}
	defer closeAll(f.nets)
	var wg sync.WaitGroup
	var total atomic.Int64
	start, cpu := time.Now(), cpuTime()
	for _, c := range f.in {
		wg.Go(func() {
			n := 0
			for range c.All(ctx) {
				n++
			}
			total.Add(int64(n))
		})
	}
	for i := uint64(0); ; i++ {
		if i%64 == 0 && time.Since(start) > d {
			break
		}
		if err := f.out.Send(ctx, next(i)); err != nil {
			return result{}, err
		}
	}
	f.out.Close()
	for _, c := range f.in {
		c.When().Unsubscribed(ctx)
	}
	r := result{took: time.Since(start), cpu: cpuTime() - cpu}
	closeAll(f.nets) // what has arrived is still read
	wg.Wait()
	r.deliveries = int(total.Load())
	return r, nil
}

func (m mosaikOver) latency(perSecond int, d time.Duration, h *hdrhistogram.Histogram) error {
	ctx := context.Background()
	f, err := newFlow[quote](ctx, m, 1)
	if err != nil {
		return err
	}
	defer closeAll(f.nets)
	done := make(chan struct{})
	origin := time.Now()
	go func() {
		defer close(done)
		for v := range f.in[0].All(ctx) {
			h.RecordValue(int64(time.Since(origin)) - v.Time)
		}
	}()
	err = pace(perSecond, d, func() error { return f.out.Send(ctx, quote{Time: int64(time.Since(origin))}) })
	f.out.Close()
	f.in[0].When().Unsubscribed(ctx)
	closeAll(f.nets)
	<-done
	return err
}
