package streams_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// step is one thing that happens in a schedule.
type step struct {
	kind string
	who  int // a producer or consumer
	n    int
}

func (s step) String() string { return fmt.Sprintf("%s(%d,%d)", s.kind, s.who, s.n) }

// schedule is a run that a property draws.
type schedule struct {
	seed      uint64
	producers int
	consumers int
	policy    streams.Policy
	history   int
	buffer    int
	window    int
	here      bool // consumers are on the producers' nodes
	steps     []step
}

func drawSchedule(t *rapid.T) schedule {
	s := schedule{
		seed:      rapid.Uint64().Draw(t, "seed"),
		producers: rapid.IntRange(1, 2).Draw(t, "producers"),
		consumers: rapid.IntRange(1, 3).Draw(t, "consumers"),
		policy:    rapid.SampledFrom([]streams.Policy{streams.Disconnect, streams.DropNewest, streams.DropOldest, streams.Block}).Draw(t, "policy"),
		history:   rapid.SampledFrom([]int{0, 0, 3, 50}).Draw(t, "history"),
		buffer:    rapid.SampledFrom([]int{1, 4, 30, 1000}).Draw(t, "buffer"),
		window:    rapid.SampledFrom([]int{1, 4, 30, 1000}).Draw(t, "window"),
		here:      rapid.IntRange(0, 5).Draw(t, "here") == 0,
	}
	kinds := []string{"send", "send", "send", "wait", "stall", "resume", "reset", "partition", "heal", "restart", "leave"}
	for range rapid.IntRange(1, 25).Draw(t, "length") {
		s.steps = append(s.steps, step{
			kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
			who:  rapid.IntRange(0, 5).Draw(t, "who"),
			n:    rapid.IntRange(1, 60).Draw(t, "n"),
		})
	}
	return s
}

// Whatever is sent, stalled, cut, partitioned and restarted: each consumer gets the items of each producer in order, and
// every hole is told of, with its size.
func TestSchedules(t *testing.T) {
	if !flag.Parsed() || flag.Lookup("rapid.checks").Value.String() == "100" {
		// The default is for cheap properties.
		flag.Set("rapid.checks", map[bool]string{true: "10", false: "40"}[testing.Short()])
		defer flag.Set("rapid.checks", "100")
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSchedule(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { err = s.run(t) })
		if err != nil {
			rt.Fatalf("%+v: %v", s, err)
		}
	})
}

// source is a producer of a schedule.
type source struct {
	node int
	p    *streams.Producer[tick]
	life uint64
	sent uint64
}

// reader is a consumer of a schedule.
type reader struct {
	*account
	node   int
	mu     sync.Mutex
	stall  chan struct{} // closed when it goes on; nil when it does
	cancel context.CancelFunc
	done   chan struct{}
}

func (r *reader) pause() {
	r.mu.Lock()
	stall := r.stall
	r.mu.Unlock()
	if stall != nil {
		<-stall
	}
}

func (r *reader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stall == nil {
		r.stall = make(chan struct{})
	}
}

func (r *reader) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stall != nil {
		close(r.stall)
		r.stall = nil
	}
}

func (s schedule) run(t *testing.T) error {
	total := s.producers + s.consumers
	if s.here {
		total = s.producers
	}
	net := testnet.Simulated(t, total, testnet.Seed(s.seed))
	net.DiscoverAll(t.Context())
	var sources []*source
	begin := func(src *source) error {
		var err error
		src.life++
		src.sent = 0
		src.p, err = streams.Produce[tick](net.Node(src.node), streams.OnLag(s.policy), streams.BufferSize(s.buffer),
			streams.History(s.history), streams.OnlineWhen(streams.AtLeast(0)))
		return err
	}
	for i := range s.producers {
		src := &source{node: i}
		if err := begin(src); err != nil {
			return err
		}
		sources = append(sources, src)
	}
	var readers []*reader
	join := func(node int) (*reader, error) {
		r := &reader{account: newAccount(), node: node, done: make(chan struct{})}
		c, err := streams.Consume[tick](net.Node(node), streams.BufferSize(s.window), streams.OnGap(r.gap), fast)
		if err != nil {
			return nil, err
		}
		r.c = c
		ctx, cancel := context.WithCancel(t.Context())
		r.cancel = cancel
		go func() {
			defer close(r.done)
			r.run(ctx, r.pause)
		}()
		return r, nil
	}
	leave := func(r *reader) {
		r.resume()
		r.cancel()
		<-r.done
		r.c.Close()
	}
	defer func() {
		for _, r := range readers {
			leave(r)
		}
	}()
	for i := range s.consumers {
		r, err := join((s.producers + i) % total)
		if err != nil {
			return err
		}
		readers = append(readers, r)
	}
	// So that every consumer knows a first item of every producer.
	meet := func(src *source) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		return src.p.When().Subscribed(ctx, streams.AtLeast(len(readers)))
	}
	send := func(src *source, n int) error {
		for range n {
			// Under Block a stalled reader makes this wait; then the schedule goes on without.
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := src.p.Send(ctx, tick{Life: src.life, N: src.sent + 1})
			cancel()
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("send: %w", err)
			}
			src.sent++
		}
		return nil
	}
	for _, src := range sources {
		if err := meet(src); err != nil {
			return fmt.Errorf("nobody comes: %w: %v, %v", err, src.p.Status(), readers[0].c.Status())
		}
	}
	for _, st := range s.steps {
		src, r := sources[st.who%len(sources)], readers[st.who%len(readers)]
		switch st.kind {
		case "send":
			if err := send(src, st.n); err != nil {
				return err
			}
		case "wait":
			time.Sleep(time.Duration(st.n) * 50 * time.Millisecond)
		case "stall":
			r.stop()
		case "resume":
			r.resume()
		case "reset":
			if src.node != r.node {
				net.Reset(src.node, r.node)
			}
		case "partition":
			net.Partition([]int{r.node})
		case "heal":
			net.Heal()
		case "restart":
			if s.here {
				continue
			}
			net.Kill(src.node)
			net.Restart(src.node)
			if err := begin(src); err != nil {
				return err
			}
		case "leave":
			leave(r)
			fresh, err := join(r.node)
			if err != nil {
				return err
			}
			readers[st.who%len(readers)] = fresh
		}
	}
	net.Heal()
	for _, r := range readers {
		r.resume()
	}
	// Now and then another item, since whoever comes after the last one learns of nothing.
	var missing []string
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Second) {
		missing = nil
		for i, r := range readers {
			for _, src := range sources {
				if err := r.complete(net.Node(src.node).ID(), src.life, src.sent); err != nil {
					missing = append(missing, fmt.Sprintf("reader %d: %v", i, err))
				}
			}
		}
		if len(missing) == 0 {
			break
		}
		for _, src := range sources {
			if err := send(src, 1); err != nil {
				return err
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s\n%v\n%v", strings.Join(missing, "\n"), sources[0].p.Status(), readers[0].c.Status())
	}
	return nil
}
