package streams_test

import (
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// The tests in this file show what docs/defects.md promises and no other test shows.

// A producer that is closed is not announced any more, and consumers stop asking for it; another of the same name can follow.
//
// defects: 25, 78
func TestClosedProducerIsWithdrawn(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		for range 3 {
			p := produce[msg](t, net.Node(0))
			c := consume[msg](t, net.Node(1))
			send(t, p, msg{"a"})
			expect(t, c, msg{"a"})
			if !net.Node(0).Discovery().Me().HasStream(p.StreamID()) {
				t.Error("the producer is not announced")
			}
			p.Close()
			if net.Node(0).Discovery().Me().HasStream(p.StreamID()) {
				t.Error("the producer is announced after it was closed")
			}
			within(t, 5*time.Second, "unsubscribed", c.When().Unsubscribed)
			time.Sleep(time.Minute)
			if st := c.Status(); len(st.Refused) > 0 {
				t.Errorf("the consumer goes on asking: %+v", st.Refused)
			}
			c.Close()
		}
	})
}

// A subscription that was quiet for long outlives a connection that breaks: what counts is how long attempts have failed, not
// how long nothing was sent.
//
// defects: 82
func TestQuietSubscriptionOutlivesItsConnection(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.History(10))
		c := consume[msg](t, net.Node(1), streams.WithBackoff(streams.Backoff{GiveUp: time.Minute}))
		send(t, p, msg{"first"})
		expect(t, c, msg{"first"})
		for range 3 {
			time.Sleep(20 * time.Minute)
			net.Reset(0, 1)
			within(t, 5*time.Second, "unsubscribed", c.When().Unsubscribed)
			within(t, 10*time.Second, "subscribed again", subscribed(c.When()))
			send(t, p, msg{"next"})
			expect(t, c, msg{"next"})
		}
	})
}

// After a partition consumers are subscribed again as soon as the nodes are connected, however long it lasted.
func TestSubscriptionFollowsConnection(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		produce[msg](t, net.Node(0))
		c := consume[msg](t, net.Node(1))
		within(t, 10*time.Second, "subscribed", subscribed(c.When()))
		net.Isolate(1)
		within(t, 20*time.Second, "unsubscribed", c.When().Unsubscribed)
		time.Sleep(2 * time.Minute)
		net.Heal()
		net.WaitFor("a connection", func() bool { return net.Node(0).Node().Host.Connected(net.Node(1).ID()) })
		within(t, time.Second, "subscribed again", subscribed(c.When()))
	})
}
