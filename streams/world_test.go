package streams_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
	"github.com/mosaik-go/mosaik/tickets"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// world runs a test on a simulated network in virtual time. Nodes have the tags, one list for each.
func world(t *testing.T, tags [][]string, fn func(t *testing.T, net *testnet.Sim)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 0)
		for _, own := range tags {
			net.Add(mosaik.WithTags(own...))
		}
		net.DiscoverAll(t.Context())
		fn(t, net)
	})
}

// nodes are n nodes without tags.
func nodes(n int) [][]string { return make([][]string, n) }

// msg is a datum like those of the reference's tests: "test" takes 5 bytes.
type msg struct{ Text string }

func produce[T any](t *testing.T, net *mosaik.Network, opts ...streams.Option) *streams.Producer[T] {
	t.Helper()
	p, err := streams.Produce[T](net, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func consume[T any](t *testing.T, net *mosaik.Network, opts ...streams.Option) *streams.Consumer[T] {
	t.Helper()
	c, err := streams.Consume[T](net, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// within runs a wait that must succeed in time.
func within(t *testing.T, d time.Duration, what string, wait func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := wait(ctx); err != nil {
		t.Fatalf("not within %v: %s: %v", d, what, err)
	}
}

// never runs a wait that must not succeed in time.
func never(t *testing.T, d time.Duration, what string, wait func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%s: %v, want the deadline after %v", what, err, d)
	}
}

func subscribed(w *streams.When, c ...streams.Condition) func(context.Context) error {
	return func(ctx context.Context) error { return w.Subscribed(ctx, c...) }
}

func send[T any](t *testing.T, p *streams.Producer[T], items ...T) {
	t.Helper()
	for _, v := range items {
		within(t, 30*time.Second, "send", func(ctx context.Context) error { return p.Send(ctx, v) })
	}
}

func expect[T comparable](t *testing.T, c *streams.Consumer[T], want ...T) {
	t.Helper()
	for _, w := range want {
		within(t, 30*time.Second, fmt.Sprintf("receive %v", w), func(ctx context.Context) error {
			got, err := c.Recv(ctx)
			if err == nil && got != w {
				t.Fatalf("received %v, want %v", got, w)
			}
			return err
		})
	}
}

// idle checks that nothing is there to be received.
func idle[T any](t *testing.T, c *streams.Consumer[T]) {
	t.Helper()
	if v, ok, err := c.TryRecv(); ok || err != nil {
		t.Fatalf("received %v, %v, want nothing", v, err)
	}
}

func tagged(tags ...string) func(discovery.PeerInfo) bool {
	return func(p discovery.PeerInfo) bool {
		for _, t := range tags {
			if !p.HasTag(t) {
				return false
			}
		}
		return true
	}
}

// issuer validates tickets that hold the issuer's name, the peer and an expiration time.
type issuer string

func (i issuer) Class() id.ID     { return id.Of("test issuer " + string(i)) }
func (i issuer) Signature() id.ID { return i.Class() }

func (i issuer) ticket(peer id.PeerID, expires time.Time) tickets.Ticket {
	data := append([]byte(nil), peer[:]...)
	return tickets.Ticket{Class: i.Class(), Data: binary.BigEndian.AppendUint64(data, uint64(expires.UnixNano()))}
}

func (i issuer) Validate(_ context.Context, data []byte, s tickets.Subject) (tickets.Expiration, error) {
	if len(data) != id.Size+8 || id.PeerID(data[:id.Size]) != s.Peer {
		return tickets.Expiration{}, errors.New("another peer's ticket")
	}
	at := time.Unix(0, int64(binary.BigEndian.Uint64(data[id.Size:])))
	if !time.Now().Before(at) {
		return tickets.Expiration{}, errors.New("expired")
	}
	return tickets.Expiration{At: at}, nil
}

// give puts a ticket on a node's entry that lives so long.
func (i issuer) give(t *testing.T, net *mosaik.Network, life time.Duration) {
	t.Helper()
	if err := net.Discovery().ReplaceTicket(i.ticket(net.ID(), time.Now().Add(life))); err != nil {
		t.Fatal(err)
	}
}

func isClosed(err error) bool { return errors.Is(err, streams.ErrClosed) }
