package streams_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// The metrics go up and, where they are gauges, down.
func TestMetrics(t *testing.T) {
	world(t, nodes(0), func(t *testing.T, net *testnet.Sim) {
		reg := prometheus.NewRegistry()
		for range 2 {
			net.Add(mosaik.WithMetrics(reg))
		}
		net.DiscoverAll(t.Context())
		p := produce[int](t, net.Node(0))
		c := consume[int](t, net.Node(1))
		other := consume[string](t, net.Node(1), streams.Named(p.Name()))
		for i := range 10 {
			send(t, p, i)
			expect(t, c, i)
		}
		time.Sleep(time.Second)
		c.TryRecv() // counts the last batch
		value := func(name string) float64 {
			all, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for _, f := range all {
				if f.GetName() == "mosaik_streams_"+name {
					for _, m := range f.GetMetric() {
						sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
					}
				}
			}
			return sum
		}
		check := func(want map[string]float64) {
			t.Helper()
			for name, v := range want {
				if got := value(name); got != v {
					t.Errorf("%s is %v, want %v", name, got, v)
				}
			}
		}
		check(map[string]float64{
			"producers_active": 1, "connections_accepted": 1, "producer_consumers": 1, "producer_consumers_accepted": 1,
			"producer_items_sent": 10, "producer_bytes_sent": 10, "consumer_producers": 1, "consumer_items_received": 10,
			"consumer_bytes_received": 10, "producer_items_dropped": 0,
		})
		if value("producer_consumers_rejected") == 0 || value("consumer_refusals") == 0 {
			t.Error("the refusal is not counted")
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil {
			t.Error(err)
		} else {
			for _, p := range problems {
				if p.Text != `counter metrics should have "_total" suffix` { // the names are the reference's
					t.Errorf("%s: %s", p.Metric, p.Text)
				}
			}
		}
		c.Close()
		other.Close()
		p.Close()
		time.Sleep(time.Second)
		check(map[string]float64{"producers_active": 0, "producer_consumers": 0, "consumer_producers": 0})
	})
}

func ExampleProduce() {
	ctx := context.Background()
	net, err := mosaik.New(ctx, "example of streams", mosaik.WithoutRegistry())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer net.Close()
	out, err := streams.Produce[string](net, streams.Named("greetings"))
	if err != nil {
		fmt.Println(err)
		return
	}
	in, err := streams.Consume[string](net, streams.Named("greetings")) // on this node or any other
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := out.Send(ctx, "hello"); err != nil { // waits for the consumer
		fmt.Println(err)
		return
	}
	fmt.Println(in.Recv(ctx))
	// Output: hello <nil>
}
