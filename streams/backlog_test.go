package streams_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// A reader that stands still has no more waiting for it than one and a half of its buffer, however often its subscription ends and
// begins anew: because it is too slow, because the connection breaks, or because of what the producer's entry says.
func TestBacklogOutlivesSubscriptions(t *testing.T) {
	const window = 8
	for name, local := range map[string]bool{"from a peer": false, "on one node": true} {
		t.Run(name, func(t *testing.T) {
			world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
				var got uint64
				p := produce[int](t, net.Node(0), streams.BufferSize(window), streams.OnLag(streams.Disconnect))
				from := net.Node(1)
				if local {
					from = net.Node(0)
				}
				var lost uint64
				c := consume[int](t, from, streams.BufferSize(window), fast, streams.OnGap(func(g streams.Gap) { lost += g.Lost }))
				sent := 0
				for range 20 {
					for range 4 * window {
						if p.TrySend(sent+1) == nil {
							sent++
						}
						synctest.Wait()
					}
					time.Sleep(7 * time.Second) // a subscription that lives so long starts the pauses afresh
				}
				waiting := drain(t, c)
				if len(waiting) > window+window/2 {
					t.Errorf("%d items wait in a consumer with room for %d", len(waiting), window)
				}
				got += uint64(len(waiting))
				// Once there is room it comes back, and is told of what it missed.
				within(t, time.Minute, "subscribed again", subscribed(p.When()))
				send(t, p, -1)
				sent++
				for {
					within(t, time.Minute, "receive", func(ctx context.Context) error {
						v, err := c.Recv(ctx)
						got++
						if v == -1 {
							waiting = nil
						}
						return err
					})
					if waiting == nil {
						break
					}
				}
				if got+lost != uint64(sent) {
					t.Errorf("%d received and %d missed of %d", got, lost, sent)
				}
			})
		})
	}
}
