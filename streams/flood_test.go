package streams_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
	"github.com/mosaik-go/mosaik/testnet"
	"github.com/mosaik-go/mosaik/tickets"
)

// barrier is a requirement that, while it is up, holds up the loop of the node that checks it.
type barrier struct {
	mu   sync.Mutex
	held chan struct{} // nil: down
	hit  chan struct{} // closed when the loop has met it
}

func (b *barrier) allow(discovery.PeerInfo) bool {
	b.mu.Lock()
	held := b.held
	if held != nil && b.hit != nil {
		close(b.hit)
		b.hit = nil
	}
	b.mu.Unlock()
	if held != nil {
		<-held
	}
	return true
}

// raise holds up the loop, and waits until it is.
func (b *barrier) raise() {
	hit := make(chan struct{})
	b.mu.Lock()
	b.held, b.hit = make(chan struct{}), hit
	b.mu.Unlock()
	<-hit
}

func (b *barrier) lower() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held != nil {
		close(b.held)
		b.held = nil
	}
}

// flood writes a block of frames again and again, and returns when the other side has read them all but what buffers hold.
func flood(t *testing.T, s transport.Stream, block []byte, times int) {
	t.Helper()
	for range times {
		s.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := s.Write(block); err != nil {
			t.Fatal(err)
		}
	}
}

// floods are how much a hostile peer writes: some hundred thousand frames.
const (
	framesInBlock = 10_000
	blocks        = 60
	mayGrow       = 8 << 20
)

// A producer's node that says again and again that it should be tried again fills no memory while this node is busy, and
// keeps it from nothing when it is not.
func TestFloodOfRetries(t *testing.T) {
	net := over(t, "tcp", 3)
	bad, victim := net.Node(1), net.Node(0)
	var b barrier
	defer b.lower()
	c := consume[int](t, victim, streams.Named("flooded"), streams.Require(b.allow), fast)
	trunks := make(chan transport.Stream, 1)
	done := make(chan struct{})
	defer close(done)
	bad.Node().Host.Handle(wire.Protocol, func(s transport.Stream) {
		defer s.Abort(link.CodeCancelled)
		select {
		case trunks <- s:
			<-done
		default:
		}
	})
	if err := bad.Discovery().AddStreams(c.StreamID()); err != nil {
		t.Fatal(err)
	}
	s := <-trunks
	known := bytes.Repeat(framed(wire.AppendRetry(nil, c.StreamID())), framesInBlock)
	flood(t, s, known, 1)

	b.raise()
	before := heap()
	flood(t, s, known, blocks)
	var others []byte // of streams that nobody here wants
	for i := range framesInBlock {
		var stream id.ID
		binary.BigEndian.PutUint64(stream[:], uint64(i))
		others = append(others, framed(wire.AppendRetry(nil, stream))...)
	}
	flood(t, s, others, blocks)
	if grown := int64(heap()) - int64(before); grown > mayGrow {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
	b.lower()

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for ctx.Err() == nil {
			s.SetWriteDeadline(time.Now().Add(time.Minute))
			if _, err := s.Write(known); err != nil {
				return
			}
		}
	})
	p := produce[int](t, net.Node(2), streams.Named("beside"))
	good := consume[int](t, victim, streams.Named("beside"))
	within(t, time.Minute, "subscribed beside the flood", subscribed(p.When()))
	send(t, p, 1)
	expect(t, good, 1)
	cancel()
	s.Abort(link.CodeCancelled)
}

// A consumer's node that asks and cancels, or cancels what never was, fills no memory, whether the producer's node is
// busy or not.
func TestFloodOfCancels(t *testing.T) {
	net := over(t, "tcp", 2)
	victim := net.Node(0)
	var b barrier
	defer b.lower()
	p := produce[int](t, victim, streams.Named("flooded"), streams.Require(b.allow))
	hello := wire.AppendPreface(nil, victim.NetworkID())
	s := trunk(t, net.Node(1), victim, framed(hello))
	go func() { // the loop looks at requirements when there is somebody to judge
		s.Write(framed((&wire.Subscribe{
			Channel: 1 << 30, Stream: p.StreamID(), Codec: "postcard/1", Window: wire.Window{Items: 9, Bytes: 9},
		}).Append(nil)))
	}()
	b.raise()
	before := heap()
	var cancels []byte
	for i := range framesInBlock {
		cancels = append(cancels, framed(wire.Cancel{Channel: uint32(i)}.Append(nil))...)
	}
	flood(t, s, cancels, blocks)
	if grown := int64(heap()) - int64(before); grown > mayGrow {
		t.Errorf("after cancels the heap has grown by %d KiB", grown>>10)
	}
	// Requests that were cancelled take a place until the loop has seen them, so that more are refused at some time.
	channel := uint32(1)
	for range blocks / 6 {
		var both []byte
		for range framesInBlock / 10 {
			both = append(both, framed((&wire.Subscribe{
				Channel: channel, Stream: p.StreamID(), Codec: "postcard/1", Window: wire.Window{Items: 9, Bytes: 9},
			}).Append(nil), wire.Cancel{Channel: channel}.Append(nil))...)
			channel++
		}
		flood(t, s, both, 1)
	}
	if grown := int64(heap()) - int64(before); grown > mayGrow {
		t.Errorf("after subscriptions and cancels the heap has grown by %d KiB", grown>>10)
	}
	b.lower()
	s.Abort(link.CodeCancelled)
	c := consume[int](t, net.Node(1), streams.Named("flooded"))
	within(t, time.Minute, "subscribed after the flood", subscribed(p.When()))
	send(t, p, 1)
	expect(t, c, 1)
}

// undecided is a ticket validator that never says anything.
type undecided struct{ issuer }

func (undecided) Validate(ctx context.Context, _ []byte, _ tickets.Subject) (tickets.Expiration, error) {
	<-ctx.Done()
	return tickets.Expiration{}, ctx.Err()
}

// A channel that is used twice before the first request was answered is noticed, and leaves nothing behind.
func TestTwinChannels(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		v := undecided{"nobody"}
		v.give(t, net.Node(1), time.Hour)
		net.DiscoverAll(t.Context())
		p := produce[int](t, net.Node(0), streams.RequireTicket(v))
		sub := (&wire.Subscribe{Channel: 1, Stream: p.StreamID(), Codec: "postcard/1", Window: wire.Window{Items: 9, Bytes: 9}}).Append(nil)
		s := trunk(t, net.Node(1), net.Node(0), framed(wire.AppendPreface(nil, net.Node(0).NetworkID()), sub, sub))
		if code := ends(t, s); code != link.CodeProtocolViolation {
			t.Errorf("closed with %v", code)
		}
		if s := p.Stats(); s.Peers != 0 || len(p.Consumers()) != 0 {
			t.Errorf("the producer has %v", p.Status())
		}
	})
}

// A peer that opens trunk after trunk loses the oldest.
func TestManyTrunks(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		produce[int](t, net.Node(0))
		hello := framed(wire.AppendPreface(nil, net.Node(0).NetworkID()))
		var all []transport.Stream
		for range 10 {
			all = append(all, trunk(t, net.Node(1), net.Node(0), hello))
			time.Sleep(time.Second)
		}
		for i, s := range all {
			s.SetReadDeadline(time.Now().Add(time.Second))
			_, err := s.Read(make([]byte, 1))
			open := !errors.Is(err, &link.CloseError{Code: link.CodeOverloaded})
			if want := i >= 6; open != want {
				t.Errorf("trunk %d: %v, want it open: %v", i, err, want)
			}
			s.Abort(link.CodeCancelled)
		}
	})
}
