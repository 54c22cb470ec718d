package streams_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// LongEnv makes fault runs last a minute instead of seconds.
const LongEnv = "MOSAIK_LONG"

func lasting(short, long time.Duration) time.Duration {
	if os.Getenv(LongEnv) != "" {
		return long
	}
	return short
}

// join makes a consumer that keeps account of what it gets.
func join(t *testing.T, net *mosaik.Network, opts ...streams.Option) *account {
	t.Helper()
	a := newAccount()
	a.c = consume[tick](t, net, append([]streams.Option{streams.OnGap(a.gap), fast}, opts...)...)
	return a
}

// publish sends items until ctx ends, so many a second, and returns how many it sent.
func publish(ctx context.Context, p *streams.Producer[tick], life uint64, perSecond int) uint64 {
	sent := uint64(0)
	start := time.Now()
	for ctx.Err() == nil {
		due := uint64(time.Since(start).Seconds() * float64(perSecond))
		for sent < due && ctx.Err() == nil {
			if p.Send(ctx, tick{Life: life, N: sent + 1}) != nil {
				return sent
			}
			sent++
		}
		time.Sleep(time.Millisecond)
	}
	return sent
}

// heap returns the live heap.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

var policies = []struct {
	policy streams.Policy
	name   string
}{
	{streams.Disconnect, "disconnect"}, {streams.DropNewest, "drop newest"}, {streams.DropOldest, "drop oldest"},
	{streams.Block, "block"},
}

// A reader of ten items a second, and one that never reads, beside a good one, with a producer that wants to send a hundred
// thousand a second: memory stays bounded, the good one gets everything unless the policy is to wait, and for all of
// them what was received and what was told of as lost is what was sent.
func TestSlowReaders(t *testing.T) {
	for _, transport := range []string{"tcp", "quic"} {
		for _, c := range policies {
			t.Run(transport+"/"+c.name, func(t *testing.T) { slowReaders(t, transport, c.policy) })
		}
	}
}

func slowReaders(t *testing.T, transport string, policy streams.Policy) {
	net := over(t, transport, 3)
	p := produce[tick](t, net.Node(0), streams.OnLag(policy), streams.BufferSize(2000))
	good, slow, still := join(t, net.Node(1)), join(t, net.Node(2)), join(t, net.Node(2))
	within(t, time.Minute, "three consumers", subscribed(p.When(), streams.AtLeast(3)))
	before := heap()
	ctx, cancel := context.WithTimeout(t.Context(), lasting(time.Second, 20*time.Second))
	defer cancel()
	recv, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	hurry := make(chan struct{})
	wg.Go(func() { good.run(recv, nil) })
	wg.Go(func() {
		slow.run(recv, func() {
			select {
			case <-hurry:
			case <-time.After(100 * time.Millisecond):
			}
		})
	})
	if policy == streams.Block { // nothing would come of it
		wg.Go(func() { still.run(recv, nil) })
	}
	sent := publish(ctx, p, 1, 100_000)
	for policy != streams.Block && sent < 30_000 { // a busy machine is slower: as many as do not fit in
		send(t, p, tick{Life: 1, N: sent + 1})
		sent++
	}
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	close(hurry)
	if policy != streams.Block {
		wg.Go(func() { still.run(recv, nil) })
	}
	// What is at an end is told with the next item, if the connection was lost before.
	for i, a := range []*account{good, slow, still} {
		deadline := time.Now().Add(time.Minute)
		for {
			err := a.complete(net.Node(0).ID(), 1, sent)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("reader %d: %v\n%v\n%v", i, err, p.Status(), a.c.Status())
			}
			if p.TrySend(tick{Life: 1, N: sent + 1}) == nil {
				sent++
			}
			time.Sleep(20 * time.Millisecond)
		}
		received, lost := a.counts()
		if received+lost != sent {
			t.Errorf("reader %d received %d and missed %d of %d", i, received, lost, sent)
		}
		if i > 0 && policy != streams.Block && lost == 0 {
			t.Errorf("reader %d lost nothing", i)
		}
	}
	if _, lost := slow.counts(); policy == streams.Block && lost > 0 {
		t.Errorf("%d items were lost under Block", lost)
	}
}

// Readers that stand still, on many streams, do not disturb another stream on the same connection.
func TestStalledReadersBesideAGoodOne(t *testing.T) {
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) {
			net := over(t, transport, 2)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			for i := range 8 {
				name := streams.Named(fmt.Sprint("stalled ", i))
				policy := []streams.Policy{streams.Block, streams.DropOldest}[i%2]
				p := produce[tick](t, net.Node(0), name, streams.OnLag(policy))
				consume[tick](t, net.Node(1), name)
				within(t, time.Minute, "subscribed", subscribed(p.When()))
				wg.Go(func() {
					pad := make([]byte, 8<<10)
					for n := uint64(1); ctx.Err() == nil; n++ {
						p.Send(ctx, tick{N: n, Pad: pad})
						if policy != streams.Block && n > 500 {
							time.Sleep(time.Millisecond)
						}
					}
				})
			}
			p := produce[tick](t, net.Node(0))
			a := join(t, net.Node(1))
			within(t, time.Minute, "subscribed", subscribed(p.When()))
			var worst time.Duration
			for n := uint64(1); n <= 100; n++ {
				start := time.Now()
				send(t, p, tick{Life: 1, N: n})
				within(t, time.Minute, "receive", func(ctx context.Context) error {
					v, from, err := a.c.RecvFrom(ctx)
					if err == nil {
						a.item(from, v)
					}
					return err
				})
				worst = max(worst, time.Since(start))
			}
			if err := a.complete(net.Node(0).ID(), 1, 100); err != nil {
				t.Error(err)
			}
			t.Logf("the slowest of 100 items took %v", worst)
		})
	}
}

// A consumer's node is killed while large items are on their way; the producer goes on with the other one.
func TestConsumerKilledMidFrame(t *testing.T) {
	net := over(t, "tcp", 3)
	p := produce[tick](t, net.Node(0), streams.OnLag(streams.Block))
	a, victim := join(t, net.Node(1)), join(t, net.Node(2))
	within(t, time.Minute, "two consumers", subscribed(p.When(), streams.AtLeast(2)))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { a.run(ctx, nil) })
	wg.Go(func() { victim.run(ctx, nil) })
	pad := make([]byte, 500<<10)
	for n := uint64(1); n <= 60; n++ {
		send(t, p, tick{Life: 1, N: n, Pad: pad})
		if n == 30 {
			go net.Node(2).Node().Kill()
		}
	}
	net.WaitUntil("the other has everything", func() error { return a.complete(net.Node(0).ID(), 1, 60) })
	net.WaitFor("the dead one is gone", func() bool { return len(p.Consumers()) == 1 })
	net.Kill(2)
}

// A producer is killed and comes back at another address; its consumer finds it and learns that it began anew.
func TestProducerRestart(t *testing.T) {
	net := over(t, "tcp", 2)
	p := produce[tick](t, net.Node(0))
	a := join(t, net.Node(1))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { a.run(ctx, nil) })
	within(t, time.Minute, "subscribed", subscribed(p.When()))
	id := net.Node(0).ID()
	for n := uint64(1); n <= 10; n++ {
		send(t, p, tick{Life: 1, N: n})
	}
	net.WaitUntil("all has come", func() error { return a.complete(id, 1, 10) })
	net.Kill(0)
	net.Restart(0)
	p = produce[tick](t, net.Node(0), streams.OnlineWhen(streams.AtLeast(0)))
	sent := uint64(0)
	net.WaitUntil("the new life's items come", func() error {
		sent++
		if err := p.Send(t.Context(), tick{Life: 2, N: sent}); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
		return a.complete(id, 2, sent)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, told := a.gaps[streams.ProducerRestarted]; !told {
		t.Errorf("the gaps were %v, want one for the restart", a.gaps)
	}
}

// Two hundred consumers come and go at random while a producer sends; those that stay get everything, and nothing is left
// behind.
func TestConsumersComeAndGo(t *testing.T) {
	const most, hosts = 200, 6
	net := over(t, "both", hosts+1)
	p := produce[tick](t, net.Node(0), streams.OnLag(streams.DropOldest), streams.OnlineWhen(streams.AtLeast(0)))
	stays := join(t, net.Node(1))
	within(t, time.Minute, "subscribed", subscribed(p.When()))
	ctx, cancel := context.WithTimeout(t.Context(), lasting(3*time.Second, time.Minute))
	defer cancel()
	recv, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { stays.run(recv, nil) })
	var came, problems atomic.Int64
	for range most {
		wg.Go(func() {
			for ctx.Err() == nil {
				a := newAccount()
				var err error
				if a.c, err = streams.Consume[tick](net.Node(1+rand.IntN(hosts)), streams.OnGap(a.gap), fast); err != nil {
					t.Error(err)
					return
				}
				came.Add(1)
				mine, end := context.WithTimeout(ctx, time.Duration(rand.IntN(1000))*time.Millisecond)
				a.run(mine, nil)
				end()
				a.c.Close()
				a.mu.Lock()
				if len(a.problems) > 0 && problems.Add(1) < 5 {
					t.Error(a.problems)
				}
				a.mu.Unlock()
			}
		})
	}
	sent := publish(ctx, p, 1, 2000)
	net.WaitUntil("the one that stays has everything", func() error { return stays.complete(net.Node(0).ID(), 1, sent) })
	net.WaitFor("the others are gone", func() bool { return len(p.Consumers()) == 1 })
	t.Logf("%d consumers came and went while %d items were sent; %v", came.Load(), sent, p.Stats())
}

// A partition heals, and every policy accounts for every item.
func TestPartition(t *testing.T) {
	for _, c := range policies {
		t.Run(c.name, func(t *testing.T) {
			world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
				p := produce[tick](t, net.Node(0), streams.OnLag(c.policy), streams.BufferSize(50), streams.OnlineWhen(streams.AtLeast(0)))
				a, b := join(t, net.Node(1)), join(t, net.Node(2))
				within(t, 5*time.Second, "two consumers", subscribed(p.When(), streams.AtLeast(2)))
				recv, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				defer wg.Wait()
				defer stop()
				wg.Go(func() { a.run(recv, nil) })
				wg.Go(func() { b.run(recv, nil) })
				send := func(d time.Duration, from uint64) uint64 {
					for start := time.Now(); time.Since(start) < d; time.Sleep(5 * time.Millisecond) {
						if p.TrySend(tick{Life: 1, N: from + 1}) == nil {
							from++
						}
					}
					return from
				}
				n := send(time.Second, 0)
				net.Partition([]int{2})
				n = send(20*time.Second, n) // the connection is given up
				net.Heal()
				n = send(20*time.Second, n)
				net.Partition([]int{2})
				n = send(2*time.Second, n) // the connection lives on
				net.Heal()
				n = send(30*time.Second, n)
				net.WaitUntil("all is accounted for", func() error {
					if err := a.complete(net.Node(0).ID(), 1, n); err != nil {
						return err
					}
					return b.complete(net.Node(0).ID(), 1, n)
				})
				for i, x := range []*account{a, b} {
					if received, lost := x.counts(); received+lost != n {
						t.Errorf("reader %d received %d and missed %d of %d", i, received, lost, n)
					}
				}
				if _, lost := a.counts(); lost > 0 && c.policy != streams.Block {
					t.Errorf("the one beside the partition lost %d items", lost)
				}
			})
		})
	}
}

// A thousand streams between two nodes share one connection, and need little.
func TestThousandStreams(t *testing.T) {
	const count = 1000
	net := over(t, "tcp", 2)
	before := heap()
	var ps []*streams.Producer[int]
	var cs []*streams.Consumer[int]
	n := count
	if testing.Short() {
		n = 200
	}
	for i := range n {
		name := streams.Named(fmt.Sprint("stream ", i))
		ps = append(ps, produce[int](t, net.Node(0), name))
		cs = append(cs, consume[int](t, net.Node(1), name))
	}
	for _, p := range ps {
		within(t, 60*time.Second, "subscribed", subscribed(p.When()))
	}
	for i, p := range ps {
		send(t, p, i)
	}
	for i, c := range cs {
		within(t, time.Minute, "receive", func(ctx context.Context) error {
			v, err := c.Recv(ctx)
			if err == nil && v != i {
				t.Fatalf("stream %d brought %d", i, v)
			}
			return err
		})
	}
	each := (int64(heap()) - int64(before)) / int64(n)
	t.Logf("%d bytes for each stream, both ends", each)
	if each > 32<<10 {
		t.Errorf("%d bytes for each stream", each)
	}
	runtime.KeepAlive(cs)
}
