package groups_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// The benchmarks run three members in one process over loopback, with commands of 64 bytes and logs in memory. The ns/op
// of the framework is elapsed time divided by commands; read commands/s, p50-us and p99-us.

// payload is a command of 64 bytes.
type payload [64]byte

// sink counts commands.
type sink struct{ n uint64 }

func newSink() *sink { return new(sink) }

func (*sink) Signature() id.ID { return id.Of("groups bench sink v1") }

func (s *sink) Apply(groups.ApplyContext, payload) uint64 {
	s.n++
	return s.n
}

func (s *sink) Query(struct{}) uint64 { return s.n }

type sinkGroup = groups.Group[payload, struct{}, uint64]

// benchTeam returns three members of a group, the leader first.
func benchTeam(b *testing.B, opts ...groups.Option) (*testnet.Net, []*sinkGroup) {
	b.Helper()
	net := testnet.Loopback(b, 3)
	net.DiscoverAll(b.Context())
	key := groups.RandomKey()
	var gs []*sinkGroup
	for i := range 3 {
		g, err := groups.Join(net.Node(i), key, newSink, opts...)
		if err != nil {
			b.Fatal(err)
		}
		gs = append(gs, g)
	}
	for _, g := range gs {
		within(b, bootstrapLimit(), "online", g.When().Online)
	}
	for _, g := range gs {
		for g.Status().Voters != 3 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for i, g := range gs {
		if g.IsLeader() {
			gs[0], gs[i] = gs[i], gs[0]
			break
		}
	}
	return net, gs
}

// latencies collects the durations of many goroutines.
type latencies struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newLatencies() *latencies {
	return &latencies{h: hdrhistogram.New(1, int64(time.Minute), 3)}
}

func (l *latencies) merge(o *hdrhistogram.Histogram) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h.Merge(o)
}

func (l *latencies) report(b *testing.B) {
	b.ReportMetric(float64(l.h.ValueAtQuantile(50))/1e3, "p50-us")
	b.ReportMetric(float64(l.h.ValueAtQuantile(99))/1e3, "p99-us")
}

// drive runs b.N calls of op in the given number of goroutines, each counting as so many commands.
func drive(b *testing.B, workers, commands int, op func() error) {
	b.Helper()
	lat := newLatencies()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	begin := time.Now()
	for range workers {
		wg.Go(func() {
			h := hdrhistogram.New(1, int64(time.Minute), 3)
			defer func() { lat.merge(h) }()
			for next.Add(int64(commands)) <= int64(b.N)+int64(commands)-1 {
				t := time.Now()
				if err := op(); err != nil {
					b.Error(err)
					return
				}
				h.RecordValue(int64(time.Since(t)))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/took.Seconds(), "commands/s")
	lat.report(b)
}

var members = []string{"leader", "follower"}

// BenchmarkExecute has 1, 16 and 256 proposers on one member.
func BenchmarkExecute(b *testing.B) {
	_, gs := benchTeam(b)
	for i, member := range members {
		for _, proposers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d", member, proposers), func(b *testing.B) {
				drive(b, proposers, 1, func() error {
					_, err := gs[i].Execute(context.Background(), payload{})
					return err
				})
			})
		}
	}
}

// BenchmarkExecuteMany has batches of 100 commands.
func BenchmarkExecuteMany(b *testing.B) {
	_, gs := benchTeam(b)
	batch := make([]payload, 100)
	for i, member := range members {
		for _, proposers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d", member, proposers), func(b *testing.B) {
				drive(b, proposers, len(batch), func() error {
					_, err := gs[i].ExecuteMany(context.Background(), batch...)
					return err
				})
			})
		}
	}
}

// BenchmarkQuery has strong and weak reads by 1 and 256 readers.
func BenchmarkQuery(b *testing.B) {
	_, gs := benchTeam(b)
	if _, err := gs[0].Execute(b.Context(), payload{}); err != nil {
		b.Fatal(err)
	}
	for _, c := range []groups.Consistency{groups.Strong, groups.Weak} {
		for i, member := range members {
			for _, readers := range []int{1, 256} {
				b.Run(fmt.Sprintf("%v/%s/%d", c, member, readers), func(b *testing.B) {
					drive(b, readers, 1, func() error {
						_, err := gs[i].Query(context.Background(), struct{}{}, c)
						return err
					})
				})
			}
		}
	}
}

// BenchmarkLeaderKilled measures from the kill of the leader to the next command that a survivor gets applied. Each
// iteration has its own group of three.
func BenchmarkLeaderKilled(b *testing.B) {
	lat := newLatencies()
	b.StopTimer()
	for range b.N {
		net, gs := benchTeam(b)
		victim := net.IndexOf(leader(b, gs[1]))
		if _, err := gs[1].Execute(b.Context(), payload{}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		begin := time.Now()
		go net.Kill(victim)
		// A command that the old leader still takes would not count.
		_, err := gs[1].When().LeaderChanged(b.Context())
		if err == nil {
			_, err = gs[1].Execute(b.Context(), payload{})
		}
		lat.h.RecordValue(int64(time.Since(begin)))
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		for _, i := range net.Up() {
			net.Close(i)
		}
	}
	lat.report(b)
}

func leader(b *testing.B, g *sinkGroup) groups.PeerID {
	l, ok := g.Leader()
	if !ok {
		b.Fatal("no leader")
	}
	return l
}
