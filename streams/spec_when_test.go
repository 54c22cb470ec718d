package streams_test

import (
	"context"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// conditions checks the conditions of one end while the peers at the other go through 0, 1, 2, 1, 2.
func conditions(t *testing.T, w *streams.When, add func() (remove func())) {
	t.Helper()
	in3 := func(what string, c ...streams.Condition) {
		t.Helper()
		within(t, 3*time.Second, what, subscribed(w, c...))
	}
	two := streams.AtLeast(2)
	met := func(what string, want bool, c ...streams.Condition) {
		t.Helper()
		if w.Met(c...) != want {
			t.Errorf("%s: met is %v", what, !want)
		}
	}
	within(t, 3*time.Second, "unsubscribed", w.Unsubscribed)
	met("nobody", false)
	met("nobody, less than two", true, streams.Not(two))
	never(t, time.Second, "subscribed", subscribed(w))

	waits := make(chan error, 2)
	for _, c := range [][]streams.Condition{nil, {two}} { // waits that begin before anything happens
		go func() { waits <- w.Subscribed(t.Context(), c...) }()
	}
	add()
	if err := <-waits; err != nil {
		t.Fatal(err)
	}
	in3("one")
	met("one", true)
	met("one, at least two", false, two)
	met("one, less than two", true, streams.Not(two))
	never(t, time.Second, "two", subscribed(w, two))

	removeSecond := add()
	if err := <-waits; err != nil {
		t.Fatal(err)
	}
	in3("two", two)
	met("two", true, two)
	met("two, less than two", false, streams.Not(two))
	in3("two, again at once", two)

	removeSecond()
	in3("less than two", streams.Not(two))
	met("one again", true)
	add()
	in3("two again", two)
	never(t, time.Second, "unsubscribed", w.Unsubscribed)
}

// streams: consumer/when/smoke
func TestConsumerWhen(t *testing.T) {
	world(t, nodes(1), func(t *testing.T, net *testnet.Sim) {
		c := consume[msg](t, net.Node(0))
		conditions(t, c.When(), func() func() {
			node := net.Add()
			produce[msg](t, node)
			net.DiscoverAll(t.Context())
			return func() { net.Close(net.IndexOf(node.ID())) }
		})
	})
}

// streams: producer/when/smoke
func TestProducerWhen(t *testing.T) {
	world(t, nodes(1), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0))
		conditions(t, p.When(), func() func() {
			node := net.Add()
			consume[msg](t, node)
			net.DiscoverAll(t.Context())
			return func() { net.Kill(net.IndexOf(node.ID())) }
		})
	})
}

// streams: consumer/when/online_when
func TestConsumerOnlineWhen(t *testing.T) {
	world(t, nodes(1), func(t *testing.T, net *testnet.Sim) {
		c := consume[msg](t, net.Node(0), streams.OnlineWhen(streams.AtLeast(2), streams.Tagged("t1", "t2")))
		add := func(tags ...string) *mosaik.Network {
			node := net.Add(mosaik.WithTags(tags...))
			produce[msg](t, node)
			net.DiscoverAll(t.Context())
			return node
		}
		never(t, time.Second, "online with none", c.When().Online)
		first := add("t1", "t2")
		add("t1") // does not count
		within(t, 3*time.Second, "two subscriptions", subscribed(c.When(), streams.AtLeast(2)))
		never(t, time.Second, "online with one", c.When().Online)
		add("t1", "t2")
		within(t, 3*time.Second, "online with two", c.When().Online)
		if !c.IsOnline() {
			t.Error("it is online and says that it is not")
		}
		net.Close(net.IndexOf(first.ID()))
		within(t, 3*time.Second, "offline after one is gone", c.When().Offline)
	})
}

// streams: consumer/when/online_when_catalog_removal
func TestConsumerOnlineWhenCatalogRemoval(t *testing.T) {
	world(t, [][]string{nil, {"t"}, {"t"}}, func(t *testing.T, net *testnet.Sim) {
		c := consume[msg](t, net.Node(0), streams.Require(tagged("t")), streams.OnlineWhen(streams.AtLeast(2)))
		producers(t, net, 1)
		within(t, 3*time.Second, "online", c.When().Online)
		if err := net.Node(1).Discovery().RemoveTags("t"); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "offline", c.When().Offline)
	})
}

// Conditions judge the tags that peers have now, without a requirement.
func TestConditionsFollowEntries(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0), streams.OnlineWhen(streams.Tagged("ready")))
		consumers(t, net, 1)
		within(t, 3*time.Second, "subscribed", subscribed(p.When()))
		never(t, time.Second, "online", p.When().Online)
		if err := net.Node(1).Discovery().AddTags("ready"); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "online", p.When().Online)
		within(t, 3*time.Second, "subscribed by one that is ready", subscribed(p.When(), streams.Tagged("ready")))
	})
}

// streams: consumer/when/online_when_default_is_immediate
func TestConsumerOnlineAtOnce(t *testing.T) {
	world(t, nodes(1), func(t *testing.T, net *testnet.Sim) {
		c := consume[msg](t, net.Node(0))
		if !c.IsOnline() {
			t.Error("a consumer without producers is not online")
		}
		within(t, time.Millisecond, "online", c.When().Online)
	})
}

// streams: producer/limits/online_when
func TestProducerOnlineWhen(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		two := produce[msg](t, net.Node(0), streams.OnlineWhen(streams.AtLeast(2)))
		plain := produce[msg](t, net.Node(1))
		node2 := net.Add()
		net.DiscoverAll(t.Context())
		tagged2 := produce[msg](t, node2, streams.OnlineWhen(streams.AtLeast(2), streams.Tagged("tag2")))
		check := func(count int, want ...bool) {
			t.Helper()
			for _, p := range []*streams.Producer[msg]{two, plain, tagged2} {
				within(t, 3*time.Second, "the consumers are there", subscribed(p.When(), streams.AtLeast(count)))
			}
			time.Sleep(time.Second)
			for i, p := range []*streams.Producer[msg]{two, plain, tagged2} {
				if p.IsOnline() != want[i] {
					t.Errorf("with %d consumers producer %d is online: %v", count, i, !want[i])
				}
			}
		}
		add := func(tags ...string) *mosaik.Network {
			node := net.Add(mosaik.WithTags(tags...))
			consume[msg](t, node)
			net.DiscoverAll(t.Context())
			return node
		}
		check(0, false, false, false)
		add("tag1")
		check(1, false, true, false)
		last := add("tag2")
		check(2, true, true, false)
		add("tag2")
		check(3, true, true, true)
		net.Close(net.IndexOf(last.ID()))
		within(t, 2*time.Second, "offline", tagged2.When().Offline)
		check(2, true, true, false)
	})
}

// A wait ends with the handle, even when the producer lives on.
func TestWaitEndsWithHandle(t *testing.T) {
	world(t, nodes(1), func(t *testing.T, net *testnet.Sim) {
		p := produce[msg](t, net.Node(0))
		again := produce[msg](t, net.Node(0))
		done := make(chan error, 2)
		go func() { done <- again.When().Online(context.Background()) }()
		go func() { done <- again.Send(context.Background(), msg{}) }()
		time.Sleep(time.Second)
		again.Close()
		for range 2 {
			if err := <-done; !isClosed(err) {
				t.Errorf("%v, want ErrClosed", err)
			}
		}
		if err := p.TrySend(msg{}); isClosed(err) {
			t.Error("the other handle is closed, too")
		}
	})
}
