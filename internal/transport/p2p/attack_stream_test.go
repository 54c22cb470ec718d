package p2p

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// in returns a connection of the attacker's whose hello is done.
func (v *victim) in(a *attacker) network.Conn {
	v.t.Helper()
	raw := a.dial(v.host)
	a.stayIn(raw, v.network)
	eventually(v.t, "the attacker is in", func() bool { return v.Connected(a.id) })
	return raw
}

// Streams that do not say in time, or not properly, what they are for are refused with a reason. The connection lives.
func TestStreamAttacks(t *testing.T) {
	for _, c := range []struct {
		name string
		say  []byte
		end  bool
		code link.Code
	}{
		{"silence", nil, false, link.CodeTimeout},
		{"half a header", header("echo")[:3], false, link.CodeTimeout},
		{"length only", []byte{255}, false, link.CodeTimeout},
		{"nothing, then the end", nil, true, link.CodeProtocolViolation},
		{"half a header, then the end", header("echo")[:3], true, link.CodeProtocolViolation},
		{"no name", []byte{0}, false, link.CodeUnknownProtocol},
		{"unknown name", header("nobody/1"), false, link.CodeUnknownProtocol},
		{"random name", append([]byte{200}, random(200)...), false, link.CodeUnknownProtocol},
		{"longest name and much behind it", append([]byte{255}, random(100_000)...), false, link.CodeUnknownProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, listen string) {
				if c.say == nil && !c.end && listen == overQUIC {
					t.Skip("in QUIC a stream that says nothing does not exist for the other side")
				}
				v := newVictim(t, listen, "")
				a := newAttacker(t, listen)
				raw := v.in(a)
				start := time.Now()
				s := a.open(raw, c.say...)
				if c.end {
					s.CloseWrite()
				}
				if got := told(s); got != c.code {
					t.Errorf("the attacker is told %v, want %v", got, c.code)
				}
				if took := time.Since(start); took > headerTimeout+slack {
					t.Errorf("refused after %v", took)
				}
				eventually(t, "the refusal is counted", func() bool {
					return v.counted("mosaik_network_refused", c.code.String()) >= 1
				})
				if !v.Connected(a.id) {
					t.Error("the connection was closed for one bad stream")
				}
				v.checkHonest("after the attack")
			})
		})
	}
}

// A stranger can have few streams before its hello: they are refused with a reason, and all of them with the connection.
func TestStreamsBeforeHello(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		v := newVictim(t, listen, "")
		a := newAttacker(t, listen)
		raw := a.dial(v.host)
		var reasons [1 << 16]atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			s := a.open(raw, header("echo")...)
			wg.Go(func() { reasons[told(s)].Add(1) })
		}
		wg.Wait()
		t.Logf("overloaded %d, timeout %d", reasons[link.CodeOverloaded].Load(), reasons[link.CodeTimeout].Load())
		if n := reasons[link.CodeOverloaded].Load(); n != 100-maxEarly {
			t.Errorf("%d of 100 streams were refused at once, want all but %d", n, maxEarly)
		}
		// The others end with the connection. Without a hello its reason may be lost behind the reset.
		timeout, lost := reasons[link.CodeTimeout].Load(), reasons[link.CodeUnexpectedClose].Load()
		if timeout+lost != maxEarly {
			t.Errorf("%d and %d of 100 streams ended with the connection, want %d", timeout, lost, maxEarly)
		}
		v.wantRefused(a, link.CodeTimeout)
		v.checkHonest("after the attack")
	})
}

// halfOpen opens as many streams as it can, up to a number, that say half a header and no more. It returns those that it
// could open.
func halfOpen(a *attacker, raw network.Conn, n int, wait time.Duration) []network.Stream {
	var out []network.Stream
	for range n {
		ctx, cancel := context.WithTimeout(a.t.Context(), wait)
		s, err := raw.NewStream(ctx)
		cancel()
		if err != nil {
			break
		}
		s.SetWriteDeadline(time.Now().Add(patience))
		s.Write([]byte{255, 'h', 'a', 'l', 'f'})
		out = append(out, s)
	}
	return out
}

// Thousand half-open streams of one peer take little memory and nobody's turn, and are gone after the header's time.
func TestThousandHalfOpenStreams(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		net := id.Random()
		c := startChild(t, childConfig{Network: net, Seed: t.Name(), Listen: listen})
		honest := openHost(t, net, listen)
		connectTo(t, honest, c.addr)
		a := newAttacker(t, listen)
		raw := a.dialAddr(c.addr)
		a.stayIn(raw, net)
		if err := ask(t.Context(), honest, c.addr.ID, "before"); err != nil {
			t.Fatal(err)
		}
		before, _ := c.memory()
		wait := patience
		if listen == overQUIC {
			wait = 200 * time.Millisecond // to open more than the other side allows makes it wait
		}
		start := time.Now()
		streams := halfOpen(a, raw, 1000, wait)
		during, goroutines := c.memory()
		allAtOnce := time.Since(start) < headerTimeout // if not, the first have made room for others by then

		var slow []time.Duration
		for range 50 {
			start := time.Now()
			if err := ask(t.Context(), honest, c.addr.ID, "during"); err != nil {
				t.Fatalf("the honest peer: %v", err)
			}
			slow = append(slow, time.Since(start))
		}
		newcomer := openHost(t, net, listen)
		connectTo(t, newcomer, c.addr)

		reasons := make(map[link.Code]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, s := range streams {
			wg.Go(func() {
				code := told(s)
				mu.Lock()
				defer mu.Unlock()
				reasons[code]++
			})
		}
		wg.Wait()
		after, left := c.calm()
		slices.Sort(slow)
		t.Logf("%d streams opened; told %v; memory %d KiB, then %+d KiB and %d goroutines, then %+d KiB and %d; honest echo %v, at most %v",
			len(streams), reasons, before>>10, (during-before)>>10, goroutines, (after-before)>>10, left,
			slow[25].Round(time.Microsecond), slow[49].Round(time.Microsecond))
		if grown := during - before; grown > 16<<20 {
			t.Errorf("the attack took %d KiB of memory", grown>>10)
		}
		if goroutines > maxStreamsIn+150 {
			t.Errorf("%d goroutines during the attack", goroutines)
		}
		refused := len(streams) - reasons[link.CodeTimeout]
		if allAtOnce && reasons[link.CodeTimeout] > maxStreamsIn || reasons[link.CodeOverloaded]+reasons[link.CodeUnexpectedClose] != refused {
			t.Errorf("the streams are told %v, want at most %d timeouts and for the rest a refusal", reasons, maxStreamsIn)
		}
		if listen == overTCP && allAtOnce && reasons[link.CodeOverloaded] < len(streams)/2 {
			t.Errorf("the streams are told %v, want most to be overloaded", reasons)
		}
	})
}

// Thousands of streams in a row that are opened and aborted leave nothing behind.
func TestStreamChurn(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		v := newVictim(t, listen, "")
		a := newAttacker(t, listen)
		raw := v.in(a)
		for range 3000 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			s, err := raw.NewStream(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			s.Write(header("echo"))
			s.ResetWithError(1)
		}
		eventually(t, "all streams are gone", func() bool {
			n := 0
			for _, c := range v.stack.swarm.Conns() {
				if c.RemotePeer() == raw.LocalPeer() {
					n += c.Stat().NumStreams
				}
			}
			return n == 1 // the control stream
		})
		v.checkHonest("after the attack")
	})
}

// Readers that do not read do not hold up others over TCP. Over QUIC all streams share a window, so two of them stop the
// connection; then the heartbeat ends it, for a reason, instead of leaving it stuck.
func TestStalledReaders(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		net := id.Random()
		h, other := openHost(t, net, listen), openHost(t, net, listen)
		stop := make(chan struct{})
		defer close(stop)
		h.Handle("deaf", func(s transport.Stream) {
			defer s.Abort(link.CodeCancelled)
			<-stop
		})
		connect(t, other, h)
		seen := watch(t, h)
		var wg sync.WaitGroup
		for range 8 {
			s, err := other.Open(t.Context(), h.ID(), "deaf")
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				for n := 1; n > 0; { // until nothing more goes in
					s.SetWriteDeadline(time.Now().Add(2 * time.Second))
					n, _ = s.Write(make([]byte, 64<<10))
				}
			})
		}
		wg.Wait()
		if listen == overQUIC {
			seen.wait(t, "the stuck connection is closed", transport.Disconnected, other.ID(), link.CodeTimeout)
			connect(t, other, h)
		}
		if err := ask(t.Context(), other, h.ID(), "hello"); err != nil {
			t.Error(err)
		}
	})
}
