package streams_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuick(t *testing.T) {
	net := testnet.Loopback(t, 3)
	net.DiscoverAll(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	p, err := streams.Produce[string](net.Node(0))
	if err != nil {
		t.Fatal(err)
	}
	var cs []*streams.Consumer[string]
	for i := range 3 {
		c, err := streams.Consume[string](net.Node(i))
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	if err := p.When().Subscribed(ctx, streams.AtLeast(3)); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := p.Send(ctx, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cs {
		for i := range 100 {
			v, err := c.Recv(ctx)
			if err != nil || v != fmt.Sprint(i) {
				t.Fatal(v, err)
			}
		}
		fmt.Println(c.Stats(), c.Producers())
	}
	fmt.Println(p.Stats(), p.Consumers())
}
