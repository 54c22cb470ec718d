package stream

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/streams"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

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
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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

// Ends of different formats say so, both of them, and the publisher says that it waits.
func TestFormatMismatch(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	network := "test of stream formats"
	meet, err := mosaik.New(ctx, network, mosaik.WithoutRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer meet.Close()
	ends, stop := context.WithCancel(ctx)
	defer stop()
	said := new(transcript)
	end := func(format Format) Config {
		return Config{
			Network: network, Stream: "lines", Format: format, Log: said, In: strings.NewReader("1\n"), Out: io.Discard,
			Options: []mosaik.Option{mosaik.WithoutRegistry(), mosaik.WithBootstrap(meet.Addr())},
		}
	}
	done := make(chan error, 2)
	go func() { done <- Publish(ends, end(JSON)) }()
	go func() { done <- Subscribe(ends, end(Text)) }()
	for _, want := range []string{
		"waiting for a consumer", "a consumer was refused", "no items from a producer", "here it is json", "here it is text",
	} {
		for !strings.Contains(said.String(), want) {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("nobody says %q:\n%s", want, said)
			}
		}
	}
	stop()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Ends with different secrets say so, both of them.
func TestSecretMismatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	ends, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 2)
	var said [2]*transcript
	for i := range said {
		said[i] = new(transcript)
		c := Config{
			Network: "test of stream secrets", Stream: "lines", Format: Text, Log: said[i], In: strings.NewReader("1\n"), Out: io.Discard,
		}
		if i == 0 {
			go func() { done <- Subscribe(ends, c) }()
			continue
		}
		c.Options = []mosaik.Option{mosaik.WithSecret("abc")}
		go func() { done <- Publish(ends, c) }()
	}
	for i, s := range said {
		for !strings.Contains(s.String(), "both ends need the same --secret") {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("end %d says nothing of the secret:\n%s", i, s)
			}
		}
	}
	stop()
	for range said {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for i, s := range said {
		if n := strings.Count(s.String(), "--secret"); n != 1 {
			t.Errorf("end %d says it %d times:\n%s", i, n, s)
		}
	}
}

// Lines that are no items are named and left out; what follows is sent.
func TestBadLines(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const network = "test of bad lines"
	meet, err := mosaik.New(ctx, network, mosaik.WithoutRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer meet.Close()
	said := new(transcript)
	var out bytes.Buffer
	c := Config{
		Network: network, Stream: "lines", Format: JSON, Log: said, In: strings.NewReader("1\n{\n3\nfour\n5\n"), Out: &out, Count: 3, Lag: streams.Block,
		Options: []mosaik.Option{mosaik.WithoutRegistry(), mosaik.WithBootstrap(meet.Addr())},
	}
	done := make(chan error, 1)
	go func() { done <- Subscribe(ctx, c) }()
	err = Publish(ctx, c)
	if err == nil || !strings.Contains(err.Error(), "2 of 5 lines") {
		t.Errorf("publish: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if out.String() != "1\n3\n5\n" {
		t.Errorf("printed %q", out.String())
	}
	for _, want := range []string{"line 2 is left out", "line 4 is left out"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("nobody says %q:\n%s", want, said)
		}
	}
	c.In = strings.NewReader("1\n\"" + strings.Repeat("x", maxLine) + "\"\n")
	c.Count = 1
	go func() { done <- Subscribe(ctx, c) }()
	if err := Publish(ctx, c); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line that is too long: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// transcript collects what several write.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(b)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
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
