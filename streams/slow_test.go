package streams_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// With the defaults the only consumer, if it is too slow, is cut off, and then Send waits until it is back. The status and
// the log say so. A producer that is online without consumers does not wait, nor does one that drops items instead.
func TestTheOnlyConsumerIsTooSlow(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  []streams.Option
		waits bool
	}{
		{"defaults", nil, true},
		{"online without consumers", []streams.Option{streams.OnlineWhen(streams.AtLeast(0))}, false},
		{"drop oldest", []streams.Option{streams.OnLag(streams.DropOldest)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer // a handler writes one line at a time
				net := testnet.Simulated(t, 0)
				net.Add(mosaik.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				net.Add()
				net.DiscoverAll(t.Context())
				p := produce[int](t, net.Node(0), append(c.opts, streams.Named("slow"), streams.BufferSize(4))...)
				consume[int](t, net.Node(1), streams.Named("slow"))
				within(t, 3*time.Second, "a consumer", subscribed(p.When()))
				waits := false
				for i := range 100 {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					err := p.Send(ctx, i)
					cancel()
					if waits = errors.Is(err, context.DeadlineExceeded); waits {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				s := p.Status()
				if waits != c.waits || s.Online == c.waits {
					t.Fatalf("Send waits: %v, want %v; %v", waits, c.waits, s)
				}
				if !c.waits {
					if s.Reason != "" {
						t.Errorf("reason while online: %q", s.Reason)
					}
					return
				}
				for _, part := range []string{"online condition is not met with 0 consumers", net.Node(1).ID().Short(), "too slow"} {
					if !strings.Contains(s.Reason, part) || !strings.Contains(s.String(), part) {
						t.Errorf("%q is not in the reason %q of\n%v", part, s.Reason, s)
					}
				}
				net.Node(0).Close() // so that nobody writes the log
				if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "too slow and is cut off") {
					t.Errorf("logged:\n%s", &log)
				}
			})
		})
	}
}
