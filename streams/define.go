package streams

import (
	"context"

	"github.com/mosaik-go/mosaik"
)

// Def is a stream that is declared once, usually in a package variable, and produced and consumed by name of the variable.
//
//	var Prices = streams.Define[Price]("prices",
//		streams.OnLag(streams.DropOldest),                       // for producers
//		streams.WhenConsuming(streams.Require(trusted)))         // producers must be trusted
//
// Options that are only for one side are ignored on the other; options for both sides apply to both unless they are inside
// [WhenProducing] or [WhenConsuming]. Errors in the options come up when the definition is used.
type Def[T any] struct {
	name string
	opts []Option
}

// Define declares a stream. An empty name stands for the item type.
func Define[T any](name string, opts ...Option) Def[T] {
	if name != "" {
		opts = append([]Option{Named(name)}, opts...)
	}
	return Def[T]{name, opts}
}

// Produce returns a handle to this node's producer of the stream, which is made if there is none.
func (d Def[T]) Produce(net *mosaik.Network) (*Producer[T], error) {
	s, err := collect(producing, false, d.opts)
	if err != nil {
		return nil, err
	}
	return produce[T](net, s, true)
}

// ProduceOnline is Produce, and waits until the producer is online.
func (d Def[T]) ProduceOnline(ctx context.Context, net *mosaik.Network) (*Producer[T], error) {
	p, err := d.Produce(net)
	if err != nil {
		return nil, err
	}
	if err := p.When().Online(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Consume returns a new consumer of the stream.
func (d Def[T]) Consume(net *mosaik.Network) (*Consumer[T], error) {
	s, err := collect(consuming, false, d.opts)
	if err != nil {
		return nil, err
	}
	return consume[T](net, s)
}

// ConsumeOnline is Consume, and waits until the consumer is online.
func (d Def[T]) ConsumeOnline(ctx context.Context, net *mosaik.Network) (*Consumer[T], error) {
	c, err := d.Consume(net)
	if err != nil {
		return nil, err
	}
	if err := c.When().Online(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ProducerDef and ConsumerDef are the halves of a [Def], for packages that want to give away only one.
type ProducerDef[T any] struct{ def Def[T] }

// ConsumerDef is the other half.
type ConsumerDef[T any] struct{ def Def[T] }

// ProducerOnly returns the half that produces.
func (d Def[T]) ProducerOnly() ProducerDef[T] { return ProducerDef[T]{d} }

// ConsumerOnly returns the half that consumes.
func (d Def[T]) ConsumerOnly() ConsumerDef[T] { return ConsumerDef[T]{d} }

// Produce is [Def.Produce].
func (d ProducerDef[T]) Produce(net *mosaik.Network) (*Producer[T], error) { return d.def.Produce(net) }

// Consume is [Def.Consume].
func (d ConsumerDef[T]) Consume(net *mosaik.Network) (*Consumer[T], error) { return d.def.Consume(net) }
