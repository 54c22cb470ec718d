package stream

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Lines go in on one side and come out on the other, in each format.
func TestPublishSubscribe(t *testing.T) {
	for _, c := range []struct {
		format   Format
		in, want string
		key      string
		keys     []string
	}{
		{Text, "one\n\ntwo\n", "one\n\ntwo\n", "", nil},
		{Bytes, "\x00\xff\nb\n", "\x00\xff\nb\n", "", nil},
		{JSON, `{"a": 1}` + "\n[2]\n", `{"a": 1}` + "\n[2]\n", "", nil},
		{JSON, `{"s": "ETH"}` + "\n" + `{"s": "SOL"}` + "\n" + `{"s": "BTC"}` + "\n", `{"s": "ETH"}` + "\n" + `{"s": "BTC"}` + "\n", "s", []string{"ETH", "BTC"}},
	} {
		t.Run(string(c.format)+c.key, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			// The registry of this machine is left alone: one side is told of the other.
			network := "test of stream pub and sub " + t.Name()
			meet, err := mosaik.New(ctx, network, mosaik.WithoutRegistry())
			if err != nil {
				t.Fatal(err)
			}
			defer meet.Close()
			cfg := Config{
				Network: network, Stream: "lines", Format: c.format, Log: io.Discard,
				Options: []mosaik.Option{mosaik.WithoutRegistry(), mosaik.WithBootstrap(meet.Addr())},
			}
			var out bytes.Buffer
			sub, pub := cfg, cfg
			sub.Out, sub.Keys, sub.Count = &out, c.keys, strings.Count(c.want, "\n")
			pub.In, pub.Lag, pub.Key = strings.NewReader(c.in), streams.Block, c.key
			done := make(chan error, 1)
			go func() { done <- Subscribe(ctx, sub) }()
			if err := Publish(ctx, pub); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Errorf("printed %q, want %q", out.String(), c.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cfg := Config{Network: "n", Stream: "s", Format: "xml", Log: io.Discard, Options: []mosaik.Option{mosaik.WithoutRegistry()}}
	if err := Publish(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("publish: %v", err)
	}
	if err := Subscribe(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("subscribe: %v", err)
	}
	cfg.Format, cfg.Wait, cfg.In = Text, 50*time.Millisecond, strings.NewReader("x\n")
	if err := Publish(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "no consumer within 50ms") {
		t.Errorf("publish without consumers: %v", err)
	}
	if _, err := parse([]byte("{")); err == nil {
		t.Error("broken JSON is accepted")
	}
}
