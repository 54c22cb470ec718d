package streams_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// streams: smoke/send_recv
func TestSendRecv(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 3)
	ctx := t.Context()
	p := produce[msg](t, net.Node(0))
	c1, c2 := consume[msg](t, net.Node(1)), consume[msg](t, net.Node(2))
	for i := 1; i <= 2; i++ {
		// An error means that it will be tried again, which is good enough here.
		if err := net.Node(i).Discovery().Dial(ctx, net.Node(0).Addr()); err != nil {
			t.Log(err)
		}
	}
	within(t, time.Minute, "two consumers", subscribed(p.When(), streams.AtLeast(2)))
	for i := range 100 {
		send(t, p, msg{fmt.Sprint(i)})
	}
	for _, c := range []*streams.Consumer[msg]{c1, c2} {
		for i := range 100 {
			expect(t, c, msg{fmt.Sprint(i)})
		}
		if got := c.Stats().Items; got != 100 {
			t.Errorf("%d items in the stats, want 100", got)
		}
	}
}

// streams: smoke/subscription_triggers_catalog_sync
func TestSubscriptionTriggersCatalogSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 0)
		producer := net.Add(mosaik.WithTags("a", "b", "c"))
		consumer := net.Add()
		p := produce[msg](t, producer)
		c := consume[msg](t, consumer)
		// The consumer's node knows of the producer by hand only, the producer's node nothing of the consumer's.
		e, err := discovery.NewEntry(producer.NetworkID(), producer.Addr()).WithStreams(p.StreamID())
		if err != nil {
			t.Fatal(err)
		}
		consumer.Discovery().Insert(e)
		within(t, 10*time.Second, "subscribed", subscribed(c.When()))
		within(t, 10*time.Second, "subscribed", subscribed(p.When()))
		net.WaitFor("the entry is signed and has its tags", func() bool {
			p, ok := consumer.Discovery().Catalog().Get(producer.ID())
			return ok && p.Signed() && p.HasTag("a") && p.HasTag("b") && p.HasTag("c")
		})
		send(t, p, msg{"x"})
		expect(t, c, msg{"x"})
	})
}

// streams: smoke/custom_stream_id
func TestCustomStreamID(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		p1 := produce[msg](t, net.Node(0), streams.Named("stream1234"))
		p2 := produce[msg](t, net.Node(0), streams.Named("stream5678"))
		c1 := consume[msg](t, net.Node(1), streams.Named("stream1234"))
		c2 := consume[msg](t, net.Node(2), streams.Named("stream5678"))
		within(t, 3*time.Second, "subscribed", subscribed(p1.When()))
		within(t, 3*time.Second, "subscribed", subscribed(p2.When()))
		send(t, p1, msg{"one"})
		send(t, p2, msg{"two"})
		expect(t, c1, msg{"one"})
		expect(t, c2, msg{"two"})
		synctest.Wait()
		idle(t, c1)
		idle(t, c2)
	})
}

// suffixed has an encoding of its own, whose decoder appends something.
type suffixed string

func (s suffixed) AppendBinary(dst []byte) ([]byte, error) { return append(dst, s...), nil }

func (s *suffixed) UnmarshalBinary(b []byte) error {
	*s = suffixed(b) + " (decoded)"
	return nil
}

// streams: smoke/custom_datum_encoding
func TestCustomDatumEncoding(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[suffixed](t, net.Node(0))
		c := consume[suffixed](t, net.Node(1))
		send(t, p, "hello")
		expect(t, c, "hello (decoded)")
	})
}

// streams: smoke/stream_def
func TestStreamDef(t *testing.T) {
	def := streams.Define[msg]("my-stream1")
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p, err := def.Produce(net.Node(0))
		if err != nil {
			t.Fatal(err)
		}
		c, err := def.Consume(net.Node(1))
		if err != nil {
			t.Fatal(err)
		}
		if want := id.Of("my-stream1"); p.StreamID() != want || c.StreamID() != want {
			t.Errorf("ids %v and %v, want %v", p.StreamID(), c.StreamID(), want)
		}
		send(t, p, msg{"x"})
		expect(t, c, msg{"x"})
	})
}

func count(t *testing.T, what string, s streams.Stats, items, bytes uint64) {
	t.Helper()
	if s.Items != items || s.Bytes != bytes {
		t.Errorf("%s: %d items and %d bytes, want %d and %d", what, s.Items, s.Bytes, items, bytes)
	}
}

// channel returns the one channel to or from a peer.
func channel(t *testing.T, all []streams.Channel, peer streams.PeerID) streams.Channel {
	t.Helper()
	for _, c := range all {
		if c.Peer().ID() == peer {
			return c
		}
	}
	t.Fatalf("no channel with %s in %v", peer.Short(), all)
	return streams.Channel{}
}

// streams: stats/producer
func TestStatsProducer(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0))
		c1 := consume[msg](t, net.Node(1))
		within(t, 3*time.Second, "one consumer", subscribed(p.When()))
		within(t, 3*time.Second, "one producer", subscribed(c1.When()))
		count(t, "before", p.Consumers()[0].Stats(), 0, 0)
		count(t, "before", c1.Producers()[0].Stats(), 0, 0)
		send(t, p, msg{"test"})
		expect(t, c1, msg{"test"})
		count(t, "first", p.Consumers()[0].Stats(), 1, 5)
		count(t, "first", c1.Producers()[0].Stats(), 1, 5)
		c2 := consume[msg](t, net.Node(2))
		within(t, 3*time.Second, "two consumers", subscribed(p.When(), streams.AtLeast(2)))
		send(t, p, msg{"hello"})
		expect(t, c1, msg{"hello"})
		expect(t, c2, msg{"hello"})
		count(t, "consumer 1 there", channel(t, p.Consumers(), net.Node(1).ID()).Stats(), 2, 11)
		count(t, "consumer 2 there", channel(t, p.Consumers(), net.Node(2).ID()).Stats(), 1, 6)
		count(t, "consumer 1", c1.Producers()[0].Stats(), 2, 11)
		count(t, "consumer 2", c2.Producers()[0].Stats(), 1, 6)
		if s := p.Stats(); s.Items != 2 || s.Bytes != 11 || s.Delivered != 3 || s.Peers != 2 {
			t.Errorf("the producer's stats are %+v", s)
		}
	})
}

// streams: stats/consumer
func TestStatsConsumer(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		c := consume[msg](t, net.Node(0))
		p1 := produce[msg](t, net.Node(1))
		send(t, p1, msg{"hello"})
		expect(t, c, msg{"hello"})
		count(t, "producer 1", c.Producers()[0].Stats(), 1, 6)
		p2 := produce[msg](t, net.Node(2))
		within(t, 3*time.Second, "two producers", subscribed(c.When(), streams.AtLeast(2)))
		send(t, p1, msg{"hello"})
		expect(t, c, msg{"hello"})
		count(t, "producer 1", channel(t, c.Producers(), net.Node(1).ID()).Stats(), 2, 12)
		send(t, p2, msg{"hello"})
		expect(t, c, msg{"hello"})
		count(t, "producer 2", channel(t, c.Producers(), net.Node(2).ID()).Stats(), 1, 6)
		count(t, "aggregate", c.Stats(), 3, 18)
	})
}

// streams: producer/builder/multiple_producers_one_stream
func TestMultipleProducersOneStream(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.BufferSize(7))
		_, err := streams.Produce[msg](net.Node(0), streams.BufferSize(9))
		var exists *streams.ExistsError[msg]
		if !errors.Is(err, streams.ErrExists) || !errors.As(err, &exists) {
			t.Fatalf("a second producer with settings: %v, want ErrExists", err)
		}
		again := produce[msg](t, net.Node(0))
		if _, err := streams.Produce[int](net.Node(0), streams.Named(p.Name())); !errors.Is(err, streams.ErrTypeMismatch) {
			t.Errorf("the same stream of another type: %v, want ErrTypeMismatch", err)
		}
		c := consume[msg](t, net.Node(1))
		send(t, p, msg{"1"})
		send(t, exists.Producer, msg{"2"})
		send(t, again, msg{"3"})
		expect(t, c, msg{"1"}, msg{"2"}, msg{"3"})
		exists.Producer.Close() // was only borrowed
		p.Close()
		if err := p.TrySend(msg{}); !errors.Is(err, streams.ErrClosed) {
			t.Errorf("send on a closed handle: %v", err)
		}
		send(t, again, msg{"4"})
		expect(t, c, msg{"4"})
		again.Close()
		within(t, 3*time.Second, "no producer", c.When().Unsubscribed)
		if len(net.Node(0).Discovery().Me().Streams()) != 0 {
			t.Error("the stream is still announced")
		}
		p = produce[msg](t, net.Node(0), streams.BufferSize(9))
		send(t, p, msg{"5"})
		expect(t, c, msg{"5"})
	})
}

// streams: producer/when/send_fails_if_offline
func TestSendFailsIfOffline(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0))
		never(t, 2*time.Second, "send without consumers", func(ctx context.Context) error { return p.Send(ctx, msg{"lost"}) })
		if err := p.TrySend(msg{"x"}); !errors.Is(err, streams.ErrOffline) {
			t.Fatalf("TrySend without consumers: %v, want ErrOffline", err)
		}
		sent := make(chan error)
		go func() { sent <- p.Send(t.Context(), msg{"waited"}) }()
		c := consume[msg](t, net.Node(1))
		within(t, 3*time.Second, "online", p.When().Online)
		if err := <-sent; err != nil {
			t.Fatalf("a send that waited: %v", err)
		}
		send(t, p, msg{"y"})
		expect(t, c, msg{"waited"}, msg{"y"})
		c.Close()
		within(t, 2*time.Second, "offline", p.When().Offline)
		if err := p.TrySend(msg{"z"}); !errors.Is(err, streams.ErrOffline) {
			t.Errorf("TrySend after the consumer has gone: %v, want ErrOffline", err)
		}
	})
}

// streams: declare/stream_macro_simple, declare/stream_macro_named, declare/stream_macro_const_id
func TestDeclare(t *testing.T) {
	const name = "some.constant"
	for _, c := range []struct {
		about string
		def   streams.Def[msg]
		id    id.ID
	}{
		{"simple", streams.Define[msg](""), id.Of("github.com/mosaik-go/mosaik/streams_test.msg")},
		{"named", streams.Define[msg]("named.stream"), id.Of("named.stream")},
		{"const id", streams.Define[msg](id.Of(name).String()), id.Of(name)},
	} {
		t.Run(c.about, func(t *testing.T) {
			world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
				in, err := c.def.Consume(net.Node(1))
				if err != nil {
					t.Fatal(err)
				}
				out, err := c.def.ProduceOnline(t.Context(), net.Node(0))
				if err != nil {
					t.Fatal(err)
				}
				if out.StreamID() != c.id || in.StreamID() != c.id {
					t.Errorf("ids %v and %v, want %v", out.StreamID(), in.StreamID(), c.id)
				}
				send(t, out, msg{"x"})
				expect(t, in, msg{"x"})
			})
		})
	}
}

// streams: declare/stream_macro_configured
func TestDeclareConfigured(t *testing.T) {
	def := streams.Define[msg]("configured",
		streams.WhenProducing(streams.Require(tagged("consumer")), streams.OnlineWhen(streams.AtLeast(1))),
		streams.WhenConsuming(streams.Require(tagged("producer"))),
		streams.MaxConsumers(5), streams.WithBackoff(streams.Backoff{Initial: time.Second}), streams.BufferSize(64))
	world(t, [][]string{{"producer"}, {"consumer"}}, func(t *testing.T, net *testnet.Sim) {
		p, err := def.Produce(net.Node(0))
		if err != nil {
			t.Fatal(err)
		}
		c, err := def.ConsumeOnline(t.Context(), net.Node(1))
		if err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "online", p.When().Online)
		send(t, p, msg{"x"})
		expect(t, c, msg{"x"})
	})
}

// streams: declare/stream_macro_producer_only
func TestDeclareProducerOnly(t *testing.T) {
	def := streams.Define[msg]("only").ProducerOnly()
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p, err := def.Produce(net.Node(0))
		if err != nil {
			t.Fatal(err)
		}
		c := consume[msg](t, net.Node(1), streams.Named("only"))
		send(t, p, msg{"x"})
		expect(t, c, msg{"x"})
	})
}
