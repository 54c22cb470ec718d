package pebble_test

import (
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// BenchmarkSubmit writes entries of 1 KiB to logs of several groups at once, each of which waits until its entry is safe
// before the next.
func BenchmarkSubmit(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, b.TempDir())
			defer s.Close()
			data := make([]byte, 1024)
			var wg sync.WaitGroup
			b.ResetTimer()
			for i := range n {
				l, news := openLog(b, s, id.Of(fmt.Sprint(i)))
				wg.Go(func() {
					for k := uint64(1); k <= uint64((b.N+n-1)/n); k++ {
						seq, _, err := l.Submit(logstore.Batch{Entries: []*raftpb.Entry{entry(k, 1, string(data))}})
						if err == nil {
							err = news.wait(seq)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
