//go:build unix

package mosaik_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik"
)

// BenchmarkIdle measures what nodes cost that do nothing but stay in touch: processor time and traffic of one node. Each
// iteration is a second, so run it with -benchtime 60x.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{2, 10, 50} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			reg := prometheus.NewRegistry()
			first := hermit(b, "idle", mosaik.WithMetrics(reg))
			nodes := []*mosaik.Network{first}
			for len(nodes) < n {
				nodes = append(nodes, hermit(b, "idle", mosaik.WithMetrics(reg), mosaik.WithBootstrap(first.Addr())))
			}
			for _, net := range nodes {
				waitFor(b, time.Minute, "all see all", func() bool { return net.Discovery().Catalog().Len() == n-1 })
			}
			time.Sleep(5 * time.Second)
			cpu, sent := processorTime(b), bytesSent(b, reg)
			began := time.Now()
			b.ResetTimer()
			for range b.N {
				time.Sleep(time.Second)
			}
			seconds := time.Since(began).Seconds()
			cpu, sent = processorTime(b)-cpu, bytesSent(b, reg)-sent
			neighbours, conns := 0, 0
			for _, net := range nodes {
				neighbours += len(net.Discovery().Status().Neighbours)
				conns += len(net.Node().Host.Peers())
			}
			b.ReportMetric(float64(cpu.Microseconds())/seconds/float64(n), "cpu-us/s/node")
			b.ReportMetric(sent/seconds/float64(n), "B/s/node")
			b.ReportMetric(float64(neighbours)/float64(n), "neighbours")
			b.ReportMetric(float64(conns)/float64(n), "connections")
		})
	}
}

// processorTime returns what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Skip(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func bytesSent(b *testing.B, reg *prometheus.Registry) (sum float64) {
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "mosaik_network_egress_bytes" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
