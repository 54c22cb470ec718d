// Package stream is the command's verbs for streams: it publishes lines of its input, and prints what others publish.
package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
)

// Format says what the items of a stream are. It is part of the stream's type: both ends must use the same.
type Format string

// The formats.
const (
	Text  Format = "text"  // strings: lines without their ends
	Bytes Format = "bytes" // byte strings: lines without their ends, or blocks
	JSON  Format = "json"  // JSON values, one in a line when printed
)

// Config is what the verbs work with.
type Config struct {
	Network string
	Stream  string
	Format  Format
	Options []mosaik.Option

	// Publishing.
	In      io.Reader
	Wait    time.Duration // for a consumer, before the first item and after the last; zero: for ever
	History int
	Lag     streams.Policy
	Key     string // JSON: the member whose value is the key

	// Subscribing.
	Out   io.Writer
	Keys  []string
	Count int // items to print before the end; zero: no end

	Log io.Writer // what is not an item
}

// maxLine is the longest line.
const maxLine = streams.MaxItemBytes

// Publish sends the lines of In, and returns at its end, when all was sent. Lines that are no items of the format are told
// of with their numbers and left out; then the error says how many.
func Publish(ctx context.Context, c Config) error {
	net, err := mosaik.New(ctx, c.Network, c.Options...)
	if err != nil {
		return err
	}
	defer net.Close()
	switch c.Format {
	case Text:
		return publish(ctx, net, c, func(line []byte) (string, error) { return string(line), nil }, nil)
	case Bytes:
		return publish(ctx, net, c, func(line []byte) ([]byte, error) { return append([]byte(nil), line...), nil }, nil)
	case JSON:
		var key func(document) string
		if c.Key != "" {
			key = func(d document) string { return d.member(c.Key) }
		}
		return publish(ctx, net, c, parse, key)
	default:
		return c.unknownFormat()
	}
}

func (c Config) unknownFormat() error {
	return fmt.Errorf("unknown format %q: want text, bytes or json", c.Format)
}

func publish[T any](ctx context.Context, net *mosaik.Network, c Config, read func([]byte) (T, error), key func(T) string) error {
	opts := []streams.Option{streams.Named(c.Stream), streams.History(c.History), streams.OnLag(c.Lag)}
	if key != nil {
		opts = append(opts, streams.WithKey(key))
	}
	p, err := streams.Produce[T](net, opts...)
	if err != nil {
		return err
	}
	defer p.Close()
	j := &journal{out: c.Log}
	j.say("publishing %q as %s; waiting for a consumer", c.Stream, net.ID().Short())
	stop := watch(j, net, c.Format, p.Status)
	defer stop()
	first := ctx
	if c.Wait > 0 {
		var cancel context.CancelFunc
		first, cancel = context.WithTimeoutCause(ctx, c.Wait, fmt.Errorf("no consumer within %v", c.Wait))
		defer cancel()
	}
	if err := p.When().Online(first); err != nil {
		return ignoreCancel(ctx, err)
	}
	lines := make(chan []byte)
	failed := make(chan error, 1)
	go scan(ctx, c.In, lines, failed)
	number, bad := 0, 0
	for line := range lines {
		number++
		v, err := read(line)
		if err != nil {
			bad++
			j.say("line %d is left out: %v", number, err)
			continue
		}
		if err := p.Send(ctx, v); err != nil {
			return ignoreCancel(ctx, err)
		}
	}
	stop()
	p.Close()
	j.say("sent: %v", p.Stats())
	select {
	case err := <-failed:
		return err
	default:
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d lines were left out: they are not %s", bad, number, c.Format)
	}
	return nil
}

// scan hands over the lines of in. A read of a terminal cannot be cancelled, so it may outlive ctx.
func scan(ctx context.Context, in io.Reader, lines chan<- []byte, failed chan<- error) {
	defer close(lines)
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	n := 1
	for ; s.Scan(); n++ {
		select {
		case lines <- append([]byte(nil), s.Bytes()...):
		case <-ctx.Done():
			return
		}
	}
	if err := s.Err(); err != nil {
		failed <- fmt.Errorf("read line %d of the input: %w", n, err)
	}
}

// Subscribe prints what is published until ctx ends, or Count items have come.
func Subscribe(ctx context.Context, c Config) error {
	net, err := mosaik.New(ctx, c.Network, c.Options...)
	if err != nil {
		return err
	}
	defer net.Close()
	switch c.Format {
	case Text:
		return subscribe(ctx, net, c, func(s string) []byte { return []byte(s) })
	case Bytes:
		return subscribe(ctx, net, c, func(b []byte) []byte { return b })
	case JSON:
		return subscribe(ctx, net, c, func(d document) []byte { return d.text })
	default:
		return c.unknownFormat()
	}
}

func subscribe[T any](ctx context.Context, net *mosaik.Network, c Config, show func(T) []byte) error {
	j := &journal{out: c.Log}
	opts := []streams.Option{streams.Named(c.Stream), streams.OnGap(func(g streams.Gap) {
		how := "exactly"
		if !g.Exact {
			how = "about"
		}
		j.say("missed %s %d items of %s", how, g.Lost, g.Producer.Short())
	})}
	if len(c.Keys) > 0 {
		opts = append(opts, streams.Keys(c.Keys...))
	}
	in, err := streams.Consume[T](net, opts...)
	if err != nil {
		return err
	}
	defer in.Close()
	j.say("waiting for %q as %s", c.Stream, net.ID().Short())
	stop := watch(j, net, c.Format, in.Status)
	defer stop()
	for n := 0; c.Count == 0 || n < c.Count; n++ {
		v, err := in.Recv(ctx)
		if err != nil {
			stop()
			j.say("%v", in.Status())
			return ignoreCancel(ctx, err)
		}
		if _, err := c.Out.Write(append(show(v), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// ignoreCancel makes an interrupt an ordinary end.
func ignoreCancel(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// document is a JSON value. It travels as its text.
type document struct{ text json.RawMessage }

func parse(line []byte) (document, error) {
	var d document
	err := d.UnmarshalBinary(line)
	return d, err
}

// AppendBinary implements encoding.BinaryAppender.
func (d document) AppendBinary(dst []byte) ([]byte, error) { return append(dst, d.text...), nil }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (d *document) UnmarshalBinary(b []byte) error {
	if !json.Valid(b) {
		return fmt.Errorf("not a JSON value: %.60q", b)
	}
	d.text = append(json.RawMessage(nil), b...)
	return nil
}

// member returns the value of a member of the value, as text; empty if there is none.
func (d document) member(name string) string {
	var all map[string]json.RawMessage
	if json.Unmarshal(d.text, &all) != nil {
		return ""
	}
	var s string
	if json.Unmarshal(all[name], &s) == nil {
		return s
	}
	return string(all[name])
}
