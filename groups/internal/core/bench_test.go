package core

import (
	"fmt"
	"testing"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// BenchmarkCore has three engines in one goroutine, no network and no disk: what remains is the engine. Proposers are
// calls of 64 bytes that are under way at a time, on one member. With wire, messages go through their encoding.
func BenchmarkCore(b *testing.B) {
	for _, where := range []string{"leader", "follower"} {
		for _, codec := range []bool{false, true} {
			for _, proposers := range []int{1, 16, 256} {
				name := fmt.Sprintf("%s/wire=%v/proposers=%d", where, codec, proposers)
				b.Run(name, func(b *testing.B) { benchExecute(b, where, codec, proposers) })
			}
		}
	}
}

// benchCluster is a group of three that notes nothing.
func benchCluster(codec bool) (c *cluster, leader, follower *testNode) {
	c = newCluster()
	c.form("a", "b", "c")
	c.codec = codec
	for _, n := range c.nodes {
		n.quiet = true
	}
	return c, c.leader(), c.followers()[0]
}

// round lets all that is under way arrive, a mailbox at a time as a driver does it.
func (c *cluster) round() {
	queue := c.queue
	c.queue = nil
	for _, n := range c.nodes {
		got := false
		for i := range queue {
			if queue[i].to == n {
				queue[i].arrive()
				got = true
			}
		}
		if got {
			n.flush()
		}
	}
	if c.queue == nil {
		clear(queue)
		c.queue = queue[:0]
	}
}

func benchExecute(b *testing.B, where string, codec bool, proposers int) {
	c, n, follower := benchCluster(codec)
	if where == "follower" {
		n = follower
	}
	payload := make([]byte, 64)
	free := make([]*Call, proposers)
	for i := range free {
		free[i] = &Call{Count: 1, Payload: payload}
	}
	finished, begun := 0, 0
	n.onDone = func(call *Call, _ Index) {
		finished++
		free = append(free, call)
	}
	sent := 0
	c.watch = func(wire.Message) { sent++ }
	b.ReportAllocs()
	b.ResetTimer()
	for finished < b.N {
		for len(free) > 0 && begun < b.N {
			n.eng.Submit(c.now, free[len(free)-1])
			free = free[:len(free)-1]
			begun++
		}
		n.flush()
		c.round()
		if begun%4096 == 0 {
			c.now += testTick
			for _, x := range c.nodes {
				x.eng.Tick(c.now)
				x.flush()
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cmd/s")
	b.ReportMetric(float64(sent)/float64(b.N), "msgs/op")
}

// BenchmarkStrongRead has readers on one member.
func BenchmarkStrongRead(b *testing.B) {
	for _, where := range []string{"leader", "follower"} {
		for _, readers := range []int{1, 256} {
			b.Run(fmt.Sprintf("%s/readers=%d", where, readers), func(b *testing.B) {
				c, n, follower := benchCluster(true)
				if where == "follower" {
					n = follower
				}
				free := make([]*Read, readers)
				for i := range free {
					free[i] = new(Read)
				}
				finished, begun := 0, 0
				n.onRead = func(r ReadReady) {
					finished++
					free = append(free, r.Read)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for finished < b.N {
					for len(free) > 0 && begun < b.N {
						n.eng.Read(c.now, free[len(free)-1])
						free = free[:len(free)-1]
						begun++
					}
					n.flush()
					c.round()
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
			})
		}
	}
}

// BenchmarkIdle is a tenth of a second of a group of three in which nothing happens: ticks, heartbeats and their answers.
// A node with a thousand groups does a third of that ten thousand times a second.
func BenchmarkIdle(b *testing.B) {
	c, _, _ := benchCluster(true)
	b.ReportAllocs()
	for b.Loop() {
		c.pass(testTick)
	}
}
