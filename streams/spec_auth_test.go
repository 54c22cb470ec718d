package streams_test

import (
	"context"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
	"github.com/mosaik-go/mosaik/tickets"
)

// consumers makes a consumer on each of the nodes.
func consumers(t *testing.T, net *testnet.Sim, from int, opts ...streams.Option) (out []*streams.Consumer[msg]) {
	t.Helper()
	for i := from; i < net.Len(); i++ {
		out = append(out, consume[msg](t, net.Node(i), opts...))
	}
	return out
}

func producers(t *testing.T, net *testnet.Sim, from int, opts ...streams.Option) (out []*streams.Producer[msg]) {
	t.Helper()
	for i := from; i < net.Len(); i++ {
		out = append(out, produce[msg](t, net.Node(i), opts...))
	}
	return out
}

// onlyFirst checks that of consumers only the first has a producer, and that items reach it alone.
func onlyFirst(t *testing.T, p *streams.Producer[msg], cs []*streams.Consumer[msg], after time.Duration) {
	t.Helper()
	within(t, 3*time.Second, "the first is subscribed", subscribed(cs[0].When()))
	time.Sleep(after)
	if n := len(p.Consumers()); n != 1 {
		t.Errorf("%d consumers, want 1: %v", n, p.Status())
	}
	for i, c := range cs[1:] {
		if n := len(c.Producers()); n != 0 {
			t.Errorf("consumer %d has %d producers", i+1, n)
		}
	}
	send(t, p, msg{"x"})
	expect(t, cs[0], msg{"x"})
	for _, c := range cs[1:] {
		idle(t, c)
	}
}

// onlyFirstProducer checks that a consumer has the first of the producers alone.
func onlyFirstProducer(t *testing.T, c *streams.Consumer[msg], ps []*streams.Producer[msg], after time.Duration) {
	t.Helper()
	within(t, 3*time.Second, "subscribed", subscribed(c.When()))
	time.Sleep(after)
	all := c.Producers()
	if len(all) != 1 || len(ps[0].Consumers()) != 1 {
		t.Fatalf("producers %v, want the first: %v", all, c.Status())
	}
	for i, p := range ps[1:] {
		if n := len(p.Consumers()); n != 0 {
			t.Errorf("producer %d has %d consumers", i+1, n)
		}
	}
	send(t, ps[0], msg{"x"})
	expect(t, c, msg{"x"})
}

func refusedWith(refused []streams.Refusal, r streams.Reason) bool {
	for _, one := range refused {
		if one.Reason == r {
			return true
		}
	}
	return false
}

// streams: declare/stream_macro_producer_require
func TestDeclareProducerRequire(t *testing.T) {
	def := streams.Define[msg]("trusting", streams.WhenProducing(streams.Require(tagged("trusted"))))
	world(t, [][]string{nil, {"trusted"}, nil}, func(t *testing.T, net *testnet.Sim) {
		p, _ := def.Produce(net.Node(0))
		in, _ := def.Consume(net.Node(1))
		out, _ := def.Consume(net.Node(2))
		within(t, 3*time.Second, "the trusted one", subscribed(in.When()))
		never(t, 2*time.Second, "the other", subscribed(out.When()))
		send(t, p, msg{"x"})
		expect(t, in, msg{"x"})
		if s := out.Status(); !refusedWith(s.Refused, streams.NotAllowed) || !s.Refused[0].Remote {
			t.Errorf("the consumer's status does not say that it was refused there:\n%v", s)
		}
		if s := p.Status(); !refusedWith(s.Refused, streams.NotAllowed) {
			t.Errorf("the producer's status does not say whom it refused:\n%v", s)
		}
	})
}

// streams: declare/stream_macro_consumer_require
func TestDeclareConsumerRequire(t *testing.T) {
	def := streams.Define[msg]("trusting", streams.WhenConsuming(streams.Require(tagged("trusted"))))
	world(t, [][]string{nil, {"trusted"}, nil}, func(t *testing.T, net *testnet.Sim) {
		c, _ := def.Consume(net.Node(0))
		onlyFirstProducer(t, c, producers(t, net, 1, streams.Named("trusting")), 2*time.Second)
	})
}

// streams: declare/stream_macro_require_ticket
func TestDeclareRequireTicket(t *testing.T) {
	i := issuer("i")
	def := streams.Define[msg]("ticketed", streams.RequireTicket(i))
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		i.give(t, net.Node(0), time.Hour)
		i.give(t, net.Node(1), time.Hour)
		i.give(t, net.Node(2), -time.Hour)
		p, _ := def.Produce(net.Node(0))
		var cs []*streams.Consumer[msg]
		for n := 1; n < 4; n++ {
			c, _ := def.Consume(net.Node(n))
			cs = append(cs, c)
		}
		onlyFirst(t, p, cs, 3*time.Second)
	})
}

// streams: declare/stream_macro_producer_require_ticket, tickets: jwt/stream_producer
func TestProducerRequireTicket(t *testing.T) {
	i := issuer("i")
	def := streams.Define[msg]("ticketed", streams.WhenProducing(streams.RequireTicket(i)))
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		i.give(t, net.Node(1), time.Hour)
		i.give(t, net.Node(3), -time.Hour)
		p, _ := def.Produce(net.Node(0))
		onlyFirst(t, p, consumers(t, net, 1, streams.Named("ticketed")), 2*time.Second)
	})
}

// streams: declare/stream_macro_consumer_require_ticket, tickets: jwt/stream_consumer
func TestConsumerRequireTicket(t *testing.T) {
	i := issuer("i")
	def := streams.Define[msg]("ticketed", streams.WhenConsuming(streams.RequireTicket(i)))
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		i.give(t, net.Node(1), time.Hour)
		i.give(t, net.Node(3), -time.Hour)
		c, _ := def.Consume(net.Node(0))
		onlyFirstProducer(t, c, producers(t, net, 1, streams.Named("ticketed")), 5*time.Second)
	})
}

// streams: declare/stream_macro_multiple_require_ticket, tickets: jwt/stream_producer_multiple_validators
func TestMultipleRequireTicket(t *testing.T) {
	a, b := issuer("a"), issuer("b")
	def := streams.Define[msg]("ticketed", streams.WhenProducing(streams.RequireTicket(a), streams.RequireTicket(b)))
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		a.give(t, net.Node(1), time.Hour)
		b.give(t, net.Node(1), time.Hour)
		a.give(t, net.Node(2), time.Hour)
		b.give(t, net.Node(3), time.Hour)
		p, _ := def.Produce(net.Node(0))
		onlyFirst(t, p, consumers(t, net, 1, streams.Named("ticketed")), 3*time.Second)
	})
}

// tickets: jwt/stream_consumer_multiple_validators
func TestConsumerMultipleValidators(t *testing.T) {
	a, b := issuer("a"), issuer("b")
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		a.give(t, net.Node(1), time.Hour)
		b.give(t, net.Node(1), time.Hour)
		a.give(t, net.Node(2), time.Hour)
		b.give(t, net.Node(3), time.Hour)
		c := consume[msg](t, net.Node(0), streams.RequireTicket(a), streams.RequireTicket(b))
		onlyFirstProducer(t, c, producers(t, net, 1), 3*time.Second)
	})
}

// Tickets expire, are renewed without a break, withdrawn and given again, as both sides see it.
// tickets: jwt/stream_consumer_ticket_expiry, jwt/stream_producer_ticket_expiry
func TestTicketLife(t *testing.T) {
	for _, enforcing := range []string{"producer", "consumer"} {
		t.Run(enforcing, func(t *testing.T) {
			world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
				i := issuer("i")
				var p *streams.Producer[msg]
				var c *streams.Consumer[msg]
				holder := net.Node(0)
				if enforcing == "producer" {
					holder = net.Node(1)
					p = produce[msg](t, net.Node(0), streams.RequireTicket(i))
					c = consume[msg](t, net.Node(1))
				} else {
					p = produce[msg](t, net.Node(0))
					c = consume[msg](t, net.Node(1), streams.RequireTicket(i))
				}
				never(t, 2*time.Second, "subscribed without a ticket", subscribed(c.When()))
				i.give(t, holder, 3*time.Second)
				within(t, 2*time.Second, "subscribed with one", subscribed(c.When()))
				send(t, p, msg{"before"})
				expect(t, c, msg{"before"})
				ch := c.Producers()[0]

				time.Sleep(time.Second)
				i.give(t, holder, 5*time.Second) // renewed
				time.Sleep(4 * time.Second)
				if !ch.IsConnected() {
					t.Fatalf("a renewed ticket did not last: %v", ch)
				}
				within(t, 3*time.Second, "unsubscribed when it expires", c.When().Unsubscribed)
				time.Sleep(5 * time.Second)
				if len(p.Consumers()) != 0 || len(c.Producers()) != 0 {
					t.Fatal("there are channels with an expired ticket")
				}
				if code, _ := ch.Reason(); code != streams.NotAllowed {
					t.Errorf("the channel ended with %v, want %v", code, streams.NotAllowed)
				}

				i.give(t, holder, time.Hour)
				within(t, 2*time.Second, "subscribed with a new one", subscribed(c.When()))
				if err := holder.Discovery().RemoveTicketsOf(i.Class()); err != nil {
					t.Fatal(err)
				}
				within(t, 2*time.Second, "unsubscribed when it is withdrawn", c.When().Unsubscribed)
			})
		})
	}
}

// streams: consumer/auth/require_chaining
func TestConsumerRequireChaining(t *testing.T) {
	world(t, [][]string{nil, {"a", "b"}, {"a"}, nil}, func(t *testing.T, net *testnet.Sim) {
		c := consume[msg](t, net.Node(0), streams.Require(tagged("a")), streams.Require(tagged("b")))
		onlyFirstProducer(t, c, producers(t, net, 1), 2*time.Second)
	})
}

// streams: producer/auth/require_chaining
func TestProducerRequireChaining(t *testing.T) {
	world(t, [][]string{nil, {"a", "b"}, {"a"}, nil}, func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.Require(tagged("a")), streams.Require(tagged("b")))
		onlyFirst(t, p, consumers(t, net, 1), 2*time.Second)
	})
}

// streams: consumer/auth/by_tag
func TestConsumerByTag(t *testing.T) {
	world(t, [][]string{{"good"}, nil, nil, nil}, func(t *testing.T, net *testnet.Sim) {
		p1, p2 := produce[msg](t, net.Node(0)), produce[msg](t, net.Node(1))
		restricted := consume[msg](t, net.Node(2), streams.Require(tagged("good")))
		open := consume[msg](t, net.Node(3))
		within(t, 3*time.Second, "both", subscribed(open.When(), streams.AtLeast(2)))
		within(t, 3*time.Second, "one", subscribed(restricted.When()))
		time.Sleep(time.Second)
		if a, b := len(restricted.Producers()), len(open.Producers()); a != 1 || b != 2 {
			t.Errorf("%d and %d producers, want 1 and 2", a, b)
		}
		if a, b := len(p1.Consumers()), len(p2.Consumers()); a != 2 || b != 1 {
			t.Errorf("%d and %d consumers, want 2 and 1", a, b)
		}
	})
}

// streams: producer/auth/by_tag
func TestProducerByTag(t *testing.T) {
	world(t, [][]string{nil, nil, {"good"}, nil}, func(t *testing.T, net *testnet.Sim) {
		restricted := produce[msg](t, net.Node(0), streams.Require(tagged("good")))
		open := produce[msg](t, net.Node(1))
		consumers(t, net, 2)
		within(t, 3*time.Second, "both", subscribed(open.When(), streams.AtLeast(2)))
		within(t, 3*time.Second, "one", subscribed(restricted.When()))
		time.Sleep(time.Second)
		if a, b := len(restricted.Consumers()), len(open.Consumers()); a != 1 || b != 2 {
			t.Errorf("%d and %d consumers, want 1 and 2", a, b)
		}
	})
}

// holds is a requirement that checks tickets itself.
func holds(i issuer) func(discovery.PeerInfo) bool {
	return func(p discovery.PeerInfo) bool {
		for _, t := range p.TicketsOf(i.Class()) {
			if _, err := i.Validate(context.Background(), t.Data, tickets.Subject{Peer: p.ID()}); err == nil {
				return true
			}
		}
		return false
	}
}

// streams: consumer/auth/by_jwt_ticket
func TestConsumerByOwnTicketCheck(t *testing.T) {
	i := issuer("i")
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		i.give(t, net.Node(1), time.Hour)
		i.give(t, net.Node(2), -time.Hour)
		c := consume[msg](t, net.Node(0), streams.Require(holds(i)))
		onlyFirstProducer(t, c, producers(t, net, 1), 5*time.Second)
	})
}

// streams: producer/auth/by_jwt_ticket
func TestProducerByOwnTicketCheck(t *testing.T) {
	i := issuer("i")
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		i.give(t, net.Node(1), time.Hour)
		i.give(t, net.Node(2), -time.Hour)
		p := produce[msg](t, net.Node(0), streams.Require(holds(i)))
		onlyFirst(t, p, consumers(t, net, 1), 5*time.Second)
	})
}

// streams: consumer/auth/dynamic_tag_reevaluation
func TestConsumerDynamicTags(t *testing.T) {
	world(t, [][]string{nil, {"good"}, nil}, func(t *testing.T, net *testnet.Sim) {
		c := consume[msg](t, net.Node(0), streams.Require(tagged("good")))
		producers(t, net, 1)
		within(t, 3*time.Second, "subscribed", subscribed(c.When()))
		if err := net.Node(1).Discovery().RemoveTags("good"); err != nil {
			t.Fatal(err)
		}
		if e, ok := net.Node(1).Discovery().Catalog().Local().SignedEntry(); ok {
			net.Node(0).Discovery().Feed(e)
		}
		within(t, 3*time.Second, "unsubscribed", c.When().Unsubscribed)
		if n := len(c.Producers()); n != 0 {
			t.Errorf("%d producers", n)
		}
		if err := net.Node(2).Discovery().AddTags("good"); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "subscribed to the other", subscribed(c.When()))
		if got := c.Producers()[0].Producer(); got != net.Node(2).ID() {
			t.Errorf("the producer is %v", got)
		}
	})
}

// The producer's side notices changed tags, too, and a consumer that gains one is let in soon, though it was refused.
func TestProducerDynamicTags(t *testing.T) {
	world(t, [][]string{nil, {"good"}, nil}, func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.Require(tagged("good")))
		cs := consumers(t, net, 1)
		within(t, 3*time.Second, "subscribed", subscribed(cs[0].When()))
		time.Sleep(20 * time.Second) // the other's pauses have grown
		if err := net.Node(1).Discovery().RemoveTags("good"); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "unsubscribed", p.When().Unsubscribed)
		if err := net.Node(2).Discovery().AddTags("good"); err != nil {
			t.Fatal(err)
		}
		within(t, time.Second, "subscribed", subscribed(cs[1].When()))
	})
}

func faster(d time.Duration) func(discovery.PeerInfo) bool {
	return func(p discovery.PeerInfo) bool { return p.RTTBelow(d) }
}

// streams: consumer/rtt/require_rtt_accepts_fast_peers, consumer/rtt/require_rtt_rejects_slow_peers,
// producer/rtt/require_rtt_accepts_fast_peers, producer/rtt/require_rtt_rejects_slow_peers
func TestRequireRTT(t *testing.T) {
	for _, judge := range []string{"consumer", "producer"} {
		t.Run(judge, func(t *testing.T) {
			world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
				opts := func(who string, d time.Duration, name string) []streams.Option {
					out := []streams.Option{streams.Named(name)}
					if who == judge {
						out = append(out, streams.Require(faster(d)))
					}
					return out
				}
				p := produce[msg](t, net.Node(0), opts("producer", 5*time.Second, "fast")...)
				c := consume[msg](t, net.Node(1), opts("consumer", 5*time.Second, "fast")...)
				within(t, 5*time.Second, "subscribed", subscribed(c.When()))
				send(t, p, msg{"x"})
				expect(t, c, msg{"x"})

				slow := produce[msg](t, net.Node(0), opts("producer", 1, "slow")...)
				never3 := consume[msg](t, net.Node(1), opts("consumer", 1, "slow")...)
				time.Sleep(3 * time.Second)
				if a, b := len(slow.Consumers()), len(never3.Producers()); a != 0 || b != 0 {
					t.Errorf("%d consumers and %d producers with a limit of 1ns", a, b)
				}
			})
		})
	}
}

// streams: producer/limits/max_subs
func TestMaxConsumers(t *testing.T) {
	world(t, nodes(8), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.MaxConsumers(3))
		cs := consumers(t, net, 1)
		within(t, 3*time.Second, "three consumers", subscribed(p.When(), streams.AtLeast(3)))
		time.Sleep(2 * time.Second)
		before := p.Consumers()
		if len(before) != 3 {
			t.Fatalf("%d consumers, want 3", len(before))
		}
		refused := 0
		for _, c := range cs {
			if refusedWith(c.Status().Refused, streams.NoCapacity) {
				refused++
			}
		}
		if refused != 4 {
			t.Errorf("%d consumers say that there was no capacity, want 4", refused)
		}
		go net.Node(net.IndexOf(before[0].Consumer())).Close()
		within(t, 2*time.Second, "one less", subscribed(p.When(), streams.Not(streams.AtLeast(3))))
		within(t, 2*time.Second, "three again", subscribed(p.When(), streams.AtLeast(3)))
		kept := 0
		for _, c := range p.Consumers() {
			if c.Consumer() == before[1].Consumer() || c.Consumer() == before[2].Consumer() {
				kept++
			}
		}
		if kept != 2 || len(p.Consumers()) != 3 {
			t.Errorf("%d of the former consumers among %d, want 2 of 3", kept, len(p.Consumers()))
		}
	})
}

// A consumer that was refused says so all the time, also while it asks again.
func TestRefusalStaysInTheStatus(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.MaxConsumers(1))
		consume[msg](t, net.Node(1))
		within(t, 3*time.Second, "the first", subscribed(p.When()))
		net.SetLinks(testnet.Link{Delay: 100 * time.Millisecond})
		second := consume[msg](t, net.Node(2), fast)
		refused := func() bool { return refusedWith(second.Status().Refused, streams.NoCapacity) }
		net.WaitFor("the refusal of the second", refused)
		for range 500 {
			if time.Sleep(7 * time.Millisecond); !refused() {
				t.Fatalf("the status does not say so any more:\n%v", second.Status())
			}
		}
	})
}

// Ends that mean different things by a stream refuse each other, and say so on both sides.
func TestSchemaMismatch(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.Named("s"))
		other := consume[int](t, net.Node(1), streams.Named("s"))
		keyed := consume[msg](t, net.Node(2), streams.Named("s"), streams.Keys("a"))
		time.Sleep(2 * time.Second)
		if !refusedWith(other.Status().Refused, streams.SchemaMismatch) {
			t.Errorf("the consumer's status does not say so:\n%v", other.Status())
		}
		if !refusedWith(keyed.Status().Refused, streams.NoKeys) {
			t.Errorf("the status of a consumer of keys does not say so:\n%v", keyed.Status())
		}
		if s := p.Status(); !refusedWith(s.Refused, streams.SchemaMismatch) || !refusedWith(s.Refused, streams.NoKeys) {
			t.Errorf("the producer's status does not say so:\n%v", s)
		}
	})
}

// A refused consumer is patient however busy the catalog is.
func TestRefusalMemory(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.Require(tagged("good")))
		c := consume[msg](t, net.Node(1))
		for i := range 300 {
			if err := net.Node(2).Discovery().AddTags(string(rune('a' + i%26))); err != nil {
				t.Fatal(err)
			}
			net.Node(2).Discovery().RemoveTags(string(rune('a' + i%26)))
			time.Sleep(100 * time.Millisecond)
		}
		// 0.5 s, growing by half: about nine attempts in half a minute.
		if r := c.Status().Refused; len(r) != 1 || r[0].Tries < 4 || r[0].Tries > 20 {
			t.Errorf("refused %+v in half a minute", r)
		}
		_ = p
	})
}
