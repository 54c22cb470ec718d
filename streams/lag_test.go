package streams_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// drain receives all there is.
func drain[T any](t *testing.T, c *streams.Consumer[T]) (out []T) {
	t.Helper()
	for {
		v, ok, err := c.TryRecv()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		out = append(out, v)
	}
}

// Under each policy a reader that stands still gets what the policy says, learns of every hole, and holds up nobody: not a
// reader of the same stream, nor another stream on the same connection.
func TestLagPolicies(t *testing.T) {
	for _, c := range []struct {
		policy streams.Policy
		name   string
		first  []int // of what the slow one gets
		last   []int
	}{
		{streams.Disconnect, "disconnect", []int{1, 2, 3, 4}, nil},
		{streams.DropNewest, "drop newest", []int{1, 2, 3, 4, 5, 6, 7, 8}, nil},
		{streams.DropOldest, "drop oldest", []int{1, 2, 3, 4}, []int{97, 98, 99, 100}},
	} {
		t.Run(c.name, func(t *testing.T) {
			world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
				p := produce[int](t, net.Node(0), streams.Named("lag"), streams.OnLag(c.policy), streams.BufferSize(4))
				other := produce[int](t, net.Node(0), streams.Named("other"))
				gaps := uint64(0)
				slow := consume[int](t, net.Node(1), streams.Named("lag"), fast, streams.OnGap(func(g streams.Gap) {
					if !g.Exact || g.Cause != streams.Lagged {
						t.Errorf("gap %+v: want an exact one, for slowness", g)
					}
					gaps += g.Lost
				}))
				quick := consume[int](t, net.Node(2), streams.Named("lag"))
				beside := consume[int](t, net.Node(1), streams.Named("other"))
				within(t, 3*time.Second, "both", subscribed(p.When(), streams.AtLeast(2)))
				within(t, 3*time.Second, "the other", subscribed(other.When()))
				ch := channel(t, p.Consumers(), net.Node(1).ID())
				start := time.Now()
				for i := 1; i <= 100; i++ {
					send(t, p, i)
					expect(t, quick, i)
					send(t, other, i)
					expect(t, beside, i)
				}
				if d := time.Since(start); d > 2*time.Second {
					t.Errorf("a hundred items took %v", d)
				}
				stats := ch.Stats()
				if stats.Dropped == 0 || stats.Items+stats.Dropped+uint64(stats.Queued) > 100 {
					t.Errorf("the slow channel: %v", ch)
				}
				if c.policy == streams.Disconnect {
					if code, _ := ch.Reason(); code != streams.TooSlow {
						t.Errorf("the channel ended with %v, want %v", code, streams.TooSlow)
					}
				} else if stats.Items+stats.Dropped+uint64(stats.Queued) != 100 {
					t.Errorf("sent %d + dropped %d + queued %d is not 100", stats.Items, stats.Dropped, stats.Queued)
				}
				var got []int
				for range 20 { // credit, reconnects
					got = append(got, drain(t, slow)...)
					time.Sleep(100 * time.Millisecond)
				}
				if !slices.Equal(got[:min(len(got), len(c.first))], c.first) {
					t.Errorf("got %v, want %v first", got, c.first)
				}
				if !slices.Equal(got[len(got)-len(c.last):], c.last) {
					t.Errorf("got %v, want %v last", got, c.last)
				}
				if uint64(len(got))+gaps != 100 {
					t.Errorf("received %d and missed %d of 100", len(got), gaps)
				}
				if s := p.Stats(); s.Dropped != gaps && c.policy != streams.Disconnect {
					t.Errorf("the producer dropped %d, the consumer missed %d", s.Dropped, gaps)
				}
			})
		})
	}
}

// Under Block the producer is as fast as its slowest reader, loses nothing, and holds up no other stream.
func TestBlock(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0), streams.Named("blocked"), streams.OnLag(streams.Block), streams.BufferSize(4))
		other := produce[int](t, net.Node(0), streams.Named("other"))
		slow := consume[int](t, net.Node(1), streams.Named("blocked"))
		beside := consume[int](t, net.Node(1), streams.Named("other"))
		within(t, 3*time.Second, "subscribed", subscribed(p.When()))
		within(t, 3*time.Second, "subscribed", subscribed(other.When()))
		sent := 0
		for {
			err := p.TrySend(sent + 1)
			synctest.Wait()
			if errors.Is(err, streams.ErrFull) {
				break
			}
			if err != nil || sent > 100 {
				t.Fatalf("%d items were taken, then %v", sent, err)
			}
			sent++
			time.Sleep(10 * time.Millisecond)
		}
		if sent < 8 {
			t.Errorf("only %d items were taken, want at least a window and a queue of 4", sent)
		}
		never(t, time.Second, "send into a full producer", func(ctx context.Context) error { return p.Send(ctx, 0) })
		for i := range 100 {
			send(t, other, i)
			expect(t, beside, i)
		}
		for i := range sent {
			expect(t, slow, i+1)
		}
		send(t, p, -1)
		expect(t, slow, -1)
	})
}

// streams: defects 75: a queue of one item passes items on.
func TestBufferOfOne(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0), streams.BufferSize(1), streams.OnLag(streams.Block))
		c := consume[int](t, net.Node(1), streams.BufferSize(1))
		go func() {
			for i := range 100 {
				p.Send(t.Context(), i)
			}
		}()
		for i := range 100 {
			expect(t, c, i)
		}
	})
}

type price struct {
	Symbol string
	Cents  int
}

// Consumers that ask for keys get only these, and only these cross the network; what nobody asked for is undelivered.
func TestKeys(t *testing.T) {
	world(t, nodes(4), func(t *testing.T, net *testnet.Sim) {
		p := produce[price](t, net.Node(0), streams.WithKey(func(p price) string { return p.Symbol }))
		eth := consume[price](t, net.Node(1), streams.Keys("ETH"))
		two := consume[price](t, net.Node(2), streams.Keys("ETH", "BTC"))
		within(t, 3*time.Second, "subscribed", subscribed(p.When(), streams.AtLeast(2)))
		undelivered := p.Undelivered(t.Context())
		for i := range 3 {
			send(t, p, price{"ETH", i}, price{"BTC", i}, price{"SOL", i})
		}
		for i := range 3 {
			expect(t, eth, price{"ETH", i})
			expect(t, two, price{"ETH", i}, price{"BTC", i})
		}
		n := 0
		for v := range undelivered {
			if v != (price{"SOL", n}) {
				t.Errorf("%v is undelivered", v)
			}
			if n++; n == 3 {
				break
			}
		}
		if s := channel(t, p.Consumers(), net.Node(1).ID()); s.Stats().Items != 3 || !slices.Equal(s.Keys(), []string{"ETH"}) {
			t.Errorf("to the consumer of ETH: %v, keys %v", s, s.Keys())
		}
		if s := p.Stats(); s.Undelivered != 3 {
			t.Errorf("the producer's stats are %+v", s)
		}
		synctest.Wait()
		idle(t, eth)
	})
}

// Items that find no consumer are undelivered; so are those that all consumers drop.
func TestUndelivered(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0), streams.OnlineWhen(streams.AtLeast(0)), streams.OnLag(streams.DropNewest), streams.BufferSize(2))
		ctx, cancel := context.WithCancel(t.Context())
		seq := p.Undelivered(ctx)
		send(t, p, 1)
		for v := range seq {
			if v != 1 {
				t.Errorf("%d is undelivered", v)
			}
			break
		}
		c := consume[int](t, net.Node(1))
		within(t, 3*time.Second, "subscribed", subscribed(p.When()))
		for i := range 20 {
			send(t, p, 100+i)
			time.Sleep(10 * time.Millisecond)
		}
		for v := range seq {
			// Two are at the consumer, two in its queue; of the other sixteen the sequence holds the last two.
			if v != 118 {
				t.Errorf("%d is the first that is undelivered", v)
			}
			break
		}
		if s := p.Stats(); s.Dropped != 16 || s.Undelivered != 17 {
			t.Errorf("the producer's stats are %+v", s)
		}
		expect(t, c, 100, 101, 102, 103)
		cancel()
		for v := range seq {
			t.Errorf("%d after the end", v)
		}
	})
}

// History is replayed to those that come, and closes the gap of those that return in time.
func TestHistory(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0), streams.History(3), streams.OnlineWhen(streams.AtLeast(0)))
		send(t, p, 1, 2, 3, 4, 5)
		var gaps []streams.Gap
		c := consume[int](t, net.Node(1), fast, streams.OnGap(func(g streams.Gap) { gaps = append(gaps, g) }))
		expect(t, c, 3, 4, 5)
		send(t, p, 6)
		expect(t, c, 6)

		away := func(items ...int) {
			t.Helper()
			net.Partition([]int{1})
			net.Reset(0, 1)
			within(t, 20*time.Second, "unsubscribed", p.When().Unsubscribed)
			within(t, 20*time.Second, "unsubscribed", c.When().Unsubscribed)
			send(t, p, items...)
			net.Heal()
		}
		away(7, 8, 9)
		expect(t, c, 7, 8, 9)
		if len(gaps) != 0 {
			t.Errorf("gaps %+v within the history", gaps)
		}
		away(10, 11, 12, 13, 14)
		expect(t, c, 12, 13, 14)
		want := streams.Gap{Producer: net.Node(0).ID(), Lost: 2, Exact: true, Cause: streams.Away}
		if len(gaps) != 1 || gaps[0] != want {
			t.Errorf("gaps %+v, want %+v", gaps, want)
		}
	})
}

// A producer that closes sends what it has, says that it is over, and tells of what could not be sent.
func TestCloseDrains(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0), streams.BufferSize(100), streams.OnLag(streams.DropNewest))
		quick := consume[int](t, net.Node(1))
		gaps := uint64(0)
		slow := consume[int](t, net.Node(2), streams.BufferSize(10), streams.OnGap(func(g streams.Gap) { gaps += g.Lost }))
		within(t, 3*time.Second, "subscribed", subscribed(p.When(), streams.AtLeast(2)))
		within(t, 3*time.Second, "subscribed", subscribed(quick.When()))
		ch := channel(t, quick.Producers(), net.Node(0).ID())
		for i := range 50 {
			send(t, p, i)
		}
		start := time.Now()
		p.Close()
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("Close took %v", d)
		}
		for i := range 50 {
			expect(t, quick, i)
		}
		within(t, time.Second, "unsubscribed", quick.When().Unsubscribed)
		if code, _ := ch.Reason(); code != streams.Shutdown {
			t.Errorf("the channel ended with %v, want %v", code, streams.Shutdown)
		}
		got := 0
		for range 10 {
			got += len(drain(t, slow))
			time.Sleep(100 * time.Millisecond)
		}
		if uint64(got)+gaps != 50 || got != 10 {
			t.Errorf("the slow one received %d and missed %d of 50", got, gaps)
		}
		if err := p.Send(t.Context(), 1); !errors.Is(err, streams.ErrClosed) {
			t.Errorf("send after Close: %v", err)
		}
	})
}

// A node that closes lets its consumers keep what has arrived.
func TestNetworkCloseKeepsItems(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0))
		c := consume[int](t, net.Node(1))
		send(t, p, 1, 2)
		net.Close(0)
		time.Sleep(time.Second)
		expect(t, c, 1)
		net.Close(1)
		expect(t, c, 2)
		if _, err := c.Recv(t.Context()); !errors.Is(err, streams.ErrClosed) {
			t.Errorf("receive at the end: %v", err)
		}
		if err := p.Send(t.Context(), 3); !errors.Is(err, streams.ErrClosed) {
			t.Errorf("send at the end: %v", err)
		}
		if _, err := streams.Consume[int](net.Node(1)); !errors.Is(err, streams.ErrClosed) {
			t.Errorf("consume on a closed network: %v", err)
		}
		p.Close()
		c.Close()
	})
}

// Several consumers of a node each get everything, those on the producer's node included, unless they do not want to.
func TestSameNode(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		early := consume[int](t, net.Node(0)) // before there is a producer
		p := produce[int](t, net.Node(0))
		late := consume[int](t, net.Node(0))
		there1, there2 := consume[int](t, net.Node(1)), consume[int](t, net.Node(1))
		away := consume[int](t, net.Node(0), streams.RemoteOnly())
		within(t, 3*time.Second, "four consumers", subscribed(p.When(), streams.AtLeast(4)))
		for i := range 1000 {
			send(t, p, i)
		}
		for _, c := range []*streams.Consumer[int]{early, late, there1, there2} {
			for i := range 1000 {
				expect(t, c, i)
			}
		}
		idle(t, away)
		if ch := channel(t, early.Producers(), net.Node(0).ID()); !ch.Local() || ch.Stats().Items != 1000 {
			t.Errorf("the channel on this node: %v", ch)
		}
		early.Close()
		within(t, time.Second, "three consumers", subscribed(p.When(), streams.Not(streams.AtLeast(4))))
	})
}

// streams: defects 79: an item without an encoding is an error for who sends it, and for nobody else.
func TestBadItems(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[picky](t, net.Node(0))
		var gaps []streams.Gap
		c := consume[picky](t, net.Node(1), fast, streams.OnGap(func(g streams.Gap) { gaps = append(gaps, g) }))
		send(t, p, "a")
		if err := p.Send(t.Context(), "no encoding"); !errors.Is(err, streams.ErrEncode) {
			t.Errorf("an item without encoding: %v", err)
		}
		if err := p.Send(t.Context(), picky(strings.Repeat("x", streams.MaxItemBytes+1))); !errors.Is(err, streams.ErrTooLarge) {
			t.Errorf("a long item: %v", err)
		}
		send(t, p, "b")
		expect(t, c, "a", "b")
		send(t, p, "no decoding")
		// It is skipped, and the subscription begins anew.
		never(t, time.Second, "receive", func(ctx context.Context) error { _, err := c.Recv(ctx); return err })
		if len(gaps) != 1 || gaps[0].Cause != streams.Undecodable || gaps[0].Lost != 1 {
			t.Errorf("gaps %+v", gaps)
		}
		within(t, 3*time.Second, "subscribed", subscribed(p.When()))
		send(t, p, picky(strings.Repeat("y", streams.MaxItemBytes)))
		expect(t, c, picky(strings.Repeat("y", streams.MaxItemBytes)))
	})
}

type picky string

func (p picky) AppendBinary(dst []byte) ([]byte, error) {
	if p == "no encoding" {
		return dst, errors.New("it has none")
	}
	return append(dst, p...), nil
}

func (p *picky) UnmarshalBinary(b []byte) error {
	if string(b) == "no decoding" {
		return errors.New("it has none")
	}
	*p = picky(b)
	return nil
}

// Options that make no sense are refused, by name.
func TestOptionErrors(t *testing.T) {
	world(t, nodes(1), func(t *testing.T, net *testnet.Sim) {
		for _, c := range []struct {
			opt  streams.Option
			want string
		}{
			{streams.BufferSize(0), "BufferSize"},
			{streams.MaxConsumers(0), "MaxConsumers"},
			{streams.History(-1), "History"},
			{streams.OnLag(9), "OnLag"},
			{streams.Require(nil), "Require"},
			{streams.RequireTicket(nil), "RequireTicket"},
			{streams.Named(""), "Named"},
			{streams.Keys("a"), "Keys is not for producers"},
			{streams.WhenProducing(streams.Keys("a")), "Keys is not for producers"},
			{streams.WithKey(func(string) string { return "" }), "WithKey"},
			{streams.Option{}, "zero Option"},
		} {
			if p, err := streams.Produce[int](net.Node(0), c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want an error that says %q", p, err, c.want)
			}
		}
		if _, err := streams.Consume[int](net.Node(0), streams.MaxConsumers(1)); err == nil {
			t.Error("a consumer takes MaxConsumers")
		}
		if _, err := streams.Consume[int](net.Node(0), streams.WithBackoff(streams.Backoff{Multiplier: 0.5})); err == nil {
			t.Error("a backoff that shrinks")
		}
		if _, err := streams.Produce[chan int](net.Node(0)); err == nil {
			t.Error("a stream of channels")
		}
		if n := len(net.Node(0).Discovery().Me().Streams()); n != 0 {
			t.Errorf("%d streams are announced", n)
		}
	})
}

// Several goroutines share the items of a consumer, and none is left behind with items there.
func TestReceiversShare(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0))
		c := consume[int](t, net.Node(1))
		within(t, 3*time.Second, "subscribed", subscribed(p.When()))
		got := make(chan int)
		for range 3 {
			go func() {
				v, err := c.Recv(t.Context())
				if err != nil {
					t.Error(err)
				}
				got <- v
				<-t.Context().Done() // is busy with it until the end
			}()
		}
		synctest.Wait()
		for i := range 3 {
			send(t, p, i)
		}
		sum := 0
		for range 3 {
			sum += <-got
		}
		if sum != 3 {
			t.Errorf("the items sum up to %d", sum)
		}
	})
}
