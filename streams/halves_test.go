package streams_test

import (
	"testing"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// The halves of a definition are of the same stream, with the codec that both have. Items cross it though the queue has room
// for one byte only, since an item always fits into an empty queue.
func TestHalvesOfADefinition(t *testing.T) {
	cbor, err := codec.CBOR[msg]()
	if err != nil {
		t.Fatal(err)
	}
	def := streams.Define[msg]("halves", streams.WithCodec(cbor), streams.WhenProducing(streams.OnLag(streams.Block), streams.BufferBytes(1)))
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		p, err := def.ProducerOnly().Produce(net.Node(0))
		if err != nil {
			t.Fatal(err)
		}
		c, err := def.ConsumerOnly().Consume(net.Node(1))
		if err != nil {
			t.Fatal(err)
		}
		send(t, p, msg{"a"}, msg{"b"}, msg{"c"})
		expect(t, c, msg{"a"}, msg{"b"}, msg{"c"})
	})
	if _, err := streams.Produce[msg](nil, streams.BufferBytes(0)); err == nil {
		t.Error("a queue without room is accepted")
	}
}
