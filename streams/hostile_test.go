package streams_test

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/streams/internal/wire"
	"github.com/mosaik-go/mosaik/testnet"
)

// framed returns bodies as frames.
func framed(bodies ...[]byte) (out []byte) {
	for _, b := range bodies {
		out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
		out = append(out, b...)
	}
	return out
}

// trunk opens a trunk to a node by hand.
func trunk(t *testing.T, from, to *mosaik.Network, send []byte) transport.Stream {
	t.Helper()
	s, err := from.Node().Host.Open(t.Context(), to.ID(), wire.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(send); err != nil {
		t.Fatal(err)
	}
	return s
}

// ends reads until the other side closes, and returns its code.
func ends(t *testing.T, s transport.Stream) link.Code {
	t.Helper()
	defer s.Abort(link.CodeCancelled)
	s.SetReadDeadline(time.Now().Add(time.Minute))
	_, err := io.Copy(io.Discard, s)
	if err == nil {
		return link.CodeSuccess
	}
	return link.CodeOf(err)
}

// Whatever a consumer's side sends, the producer's ends that connection with a reason and goes on with the others.
func TestHostileConsumer(t *testing.T) {
	world(t, nodes(3), func(t *testing.T, net *testnet.Sim) {
		p := produce[int](t, net.Node(0))
		c := consume[int](t, net.Node(1))
		within(t, 3*time.Second, "subscribed", subscribed(p.When()))
		hello := wire.AppendPreface(nil, net.Node(0).NetworkID())
		sub := func(channel uint32) []byte {
			return (&wire.Subscribe{Channel: channel, Stream: p.StreamID(), Codec: "postcard/1", Window: wire.Window{Items: 9, Bytes: 9}}).Append(nil)
		}
		violation := link.CodeProtocolViolation
		for what, c := range map[string]struct {
			send []byte
			code link.Code
		}{
			"no preface":         {framed([]byte{byte(wire.KindPing)}), violation},
			"another network":    {framed(wire.AppendPreface(nil, p.StreamID())), link.CodeDifferentNetwork},
			"an empty frame":     {framed(hello, nil), violation},
			"a frame too large":  {append(framed(hello), 0xff, 0xff, 0xff, 0xff), link.CodeFrameTooLarge},
			"an unknown kind":    {framed(hello, []byte{99}), violation},
			"a producer's frame": {framed(hello, wire.Accept{Window: wire.Window{Items: 1, Bytes: 1}}.Append(nil)), violation},
			"broken subscribe":   {framed(hello, sub(1)[:20]), violation},
			"broken credit":      {framed(hello, []byte{byte(wire.KindCredit)}), violation},
			"broken cancel":      {framed(hello, []byte{byte(wire.KindCancel), 1}), violation},
			"silence":            {framed(hello), link.CodeTimeout},
		} {
			if code := ends(t, trunk(t, net.Node(2), net.Node(0), c.send)); code != c.code {
				t.Errorf("%s: closed with %v, want %v", what, code, c.code)
			}
		}
		// Credit that was never due, for channels that never were, changes nothing; a channel cannot be used twice.
		s := trunk(t, net.Node(2), net.Node(0), framed(hello,
			wire.Credit{Channel: 7, Items: 1 << 62, Bytes: 1 << 62}.Append(nil), wire.Cancel{Channel: 7}.Append(nil), sub(1)))
		// Who does not confirm the acceptance is no consumer.
		never(t, time.Second, "another consumer", subscribed(p.When(), streams.AtLeast(2)))
		if _, err := s.Write(framed(wire.Credit{Channel: 1}.Append(nil))); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "another consumer", subscribed(p.When(), streams.AtLeast(2)))
		if _, err := s.Write(framed(wire.Credit{Channel: 1, Items: 1 << 63, Bytes: 1 << 63}.Append(nil), sub(1))); err != nil {
			t.Fatal(err)
		}
		if code := ends(t, s); code != violation {
			t.Errorf("a channel used twice: closed with %v", code)
		}
		within(t, 3*time.Second, "it is gone", subscribed(p.When(), streams.Not(streams.AtLeast(2))))
		send(t, p, 1)
		expect(t, c, 1)
	})
}

// Whatever a producer's side sends, the consumer's ends that connection, counts nothing twice and takes no more than it
// granted.
func TestHostileProducer(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		bad := net.Node(1)
		c := consume[int](t, net.Node(0), streams.Named("s"), streams.BufferSize(4), fast)
		if err := bad.Discovery().AddStreams(c.StreamID()); err != nil {
			t.Fatal(err)
		}
		accept := wire.Accept{Channel: 1, Window: wire.Window{Items: 4, Bytes: 1000}}.Append(nil)
		data := func(channel uint32, items string) []byte {
			return append(wire.Data{Channel: channel, Last: 1}.AppendHeader(nil), items...)
		}
		answers := []struct {
			what string
			send []byte
		}{
			{"an empty frame", framed(nil)},
			{"a frame too large", []byte{0xff, 0, 0, 0}},
			{"an unknown kind", framed([]byte{77})},
			{"a consumer's frame", framed(wire.Credit{}.Append(nil))},
			{"items before the acceptance", framed(data(1, "\x01\x02"))},
			{"items that are none", framed(accept, data(1, "\x05\x02"))},
			{"more than was granted", framed(accept, data(1, "\x01\x02\x01\x02\x01\x02\x01\x02\x01\x02"))},
			{"more than was granted, in a window that was widened", framed(
				wire.Accept{Channel: 1, Window: wire.Window{Items: 100, Bytes: 1000}}.Append(nil), data(1, "\x01\x02\x01\x02\x01\x02\x01\x02\x01\x02"))},
			{"two acceptances", framed(accept, accept)},
			{"acceptance and refusal", framed(accept, wire.Refuse{Channel: 1}.Append(nil))},
			{"broken frames", framed([]byte{byte(wire.KindData)})},
			{"broken end", framed([]byte{byte(wire.KindEnd), 1})},
			{"broken retry", framed([]byte{byte(wire.KindRetry), 1})},
		}
		next := make(chan int, 1)
		done := make(chan error, 1)
		bad.Node().Host.Handle(wire.Protocol, func(s transport.Stream) {
			defer s.Abort(link.CodeCancelled)
			r := link.NewReader(s, wire.MaxControl)
			for range 2 { // preface and subscription
				if _, err := r.Next(); err != nil {
					return
				}
			}
			i, ok := <-next
			if !ok {
				return
			}
			s.Write(answers[i].send)
			for {
				if _, err := r.Next(); err != nil {
					done <- err
					return
				}
			}
		})
		for i, a := range answers {
			next <- i
			err := <-done
			want := link.CodeProtocolViolation
			if a.what == "a frame too large" {
				want = link.CodeFrameTooLarge
			}
			if !errors.Is(err, &link.CloseError{Code: want}) {
				t.Errorf("%s: %v, want %v", a.what, err, want)
			}
		}
		close(next)
		bad.Node().Host.Handle(wire.Protocol, nil)
		synctest.Wait()
		if got := drain(t, c); len(got) > 4 {
			t.Errorf("%d items were taken in with a window of 4", len(got))
		}
	})
}
