package streams

import (
	"context"
	"fmt"

	"github.com/mosaik-go/mosaik/discovery"
)

// watched is what both ends' engines offer.
type watched interface {
	WaitOnline(ctx context.Context, want bool) error
	WaitPeers(ctx context.Context, ok func([]discovery.PeerInfo) bool) error
	Peers() []discovery.PeerInfo
}

// When waits for what may become of a producer or consumer. Each method returns nil once its condition holds, which may be
// at once, the error of ctx when that ends first, and [ErrClosed] when the producer or consumer does. A When may be used
// any number of times and concurrently. Nothing is polled: waits end when a channel or the entry of its peer changes.
type When struct {
	w    watched
	life context.Context // of the handle
}

// Online waits until the online condition is met, see [OnlineWhen].
func (w *When) Online(ctx context.Context) error {
	return w.wait(ctx, "online", func(ctx context.Context) error { return w.w.WaitOnline(ctx, true) })
}

// Offline waits until the online condition is not met.
func (w *When) Offline(ctx context.Context) error {
	return w.wait(ctx, "offline", func(ctx context.Context) error { return w.w.WaitOnline(ctx, false) })
}

// Subscribed waits until the conditions are met; without any, until there is a live channel. For a producer the peers are
// its consumers, for a consumer its producers.
func (w *When) Subscribed(ctx context.Context, conditions ...Condition) error {
	return w.wait(ctx, "subscribed", func(ctx context.Context) error {
		return w.w.WaitPeers(ctx, func(p []discovery.PeerInfo) bool { return met(conditions, p) })
	})
}

// Unsubscribed waits until there is no live channel.
func (w *When) Unsubscribed(ctx context.Context) error {
	return w.wait(ctx, "unsubscribed", func(ctx context.Context) error {
		return w.w.WaitPeers(ctx, func(p []discovery.PeerInfo) bool { return len(p) == 0 })
	})
}

// Met reports whether the conditions are met now.
func (w *When) Met(conditions ...Condition) bool { return met(conditions, w.w.Peers()) }

func (w *When) wait(ctx context.Context, what string, fn func(context.Context) error) error {
	ctx, done := within(ctx, w.life)
	defer done()
	if err := public(fn(ctx)); err != nil {
		return fmt.Errorf("streams: wait until %s: %w", what, err)
	}
	return nil
}

// within returns a context that ends with ctx, and with the cause ErrClosed when life does.
func within(ctx, life context.Context) (context.Context, func()) {
	merged, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(ErrClosed) })
	return merged, func() {
		stop()
		cancel(nil)
	}
}
