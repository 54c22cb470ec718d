// Command prices publishes prices on one node and receives them on three others, all in one process on loopback:
//
//	go run ./examples/prices
//
// The producer carries the tag "exchange", which the consumers insist on, and gives each price a key. One consumer wants
// everything, one only ETH and BTC, and one wants everything but is slow, so that the producer drops the oldest of what
// waits for it. At the end both sides print what was received and what was dropped, and the numbers agree.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/streams"
)

// Price is what is published.
type Price struct {
	Symbol string
	Cents  int64
}

const stream = "example.prices"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, 1000, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run publishes so many prices of each symbol, and prints what came of it.
func run(ctx context.Context, count int, out io.Writer) error {
	network := fmt.Sprintf("example prices %d", os.Getpid())
	exchange, err := mosaik.New(ctx, network, mosaik.WithTags("exchange"))
	if err != nil {
		return err
	}
	defer exchange.Close()
	prices, err := streams.Produce[Price](exchange,
		streams.Named(stream),
		streams.WithKey(func(p Price) string { return p.Symbol }),
		streams.OnLag(streams.DropOldest),      // nobody wants old prices
		streams.OnlineWhen(streams.AtLeast(3)), // so Send waits for all three
		streams.BufferSize(20))
	if err != nil {
		return err
	}

	clients := []*client{
		{name: "everything"},
		{name: "ETH and BTC", opts: []streams.Option{streams.Keys("ETH", "BTC")}},
		{name: "slow", pause: 20 * time.Millisecond},
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	for _, c := range clients {
		c.net, err = mosaik.New(ctx, network, mosaik.WithBootstrap(exchange.Addr()))
		if err != nil {
			return err
		}
		defer c.net.Close()
		if err := c.subscribe(); err != nil {
			return err
		}
		reading.Go(c.read)
	}

	for i := range count {
		for _, symbol := range []string{"ETH", "BTC", "SOL"} {
			if err := prices.Send(ctx, Price{symbol, 100_000 + int64(i)}); err != nil {
				return err
			}
		}
		time.Sleep(time.Millisecond)
	}
	consumers := prices.Consumers()
	prices.Close() // sends what is queued and tells of what it could not send
	fmt.Fprintln(out, "the exchange sent", 3*count, "prices")
	for _, c := range consumers {
		fmt.Fprintf(out, "  %v, keys %v\n", c, c.Keys())
	}
	for _, c := range clients {
		if err := c.prices.When().Unsubscribed(ctx); err != nil {
			return err
		}
		c.net.Close() // what has arrived can still be read
	}
	reading.Wait()
	for _, c := range clients {
		fmt.Fprintf(out, "%-12s %s received %v, missed %d\n", c.name, c.net.ID().Short(), c.received, c.missed)
	}
	return nil
}

// client is one of the consumers.
type client struct {
	name  string
	opts  []streams.Option
	pause time.Duration // after each price

	net      *mosaik.Network
	prices   *streams.Consumer[Price]
	received map[string]int
	missed   uint64
}

func (c *client) subscribe() (err error) {
	c.received = make(map[string]int)
	c.prices, err = streams.Consume[Price](c.net, append(c.opts,
		streams.Named(stream),
		streams.Require(func(p discovery.PeerInfo) bool { return p.HasTag("exchange") }),
		streams.OnGap(func(g streams.Gap) { c.missed += g.Lost }))...)
	return err
}

// read reads until the network is closed and everything was taken.
func (c *client) read() {
	for p := range c.prices.All(context.Background()) {
		c.received[p.Symbol]++
		time.Sleep(c.pause)
	}
}
