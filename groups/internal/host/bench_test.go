package host

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// BenchmarkDo is the driver's own cost per call, on an engine that commits at once.
func BenchmarkDo(b *testing.B) {
	for _, senders := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(senders), func(b *testing.B) {
			g := newTestGroup(b, &lineEngine{}, &sumMachine{}, GroupConfig{})
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for s := range senders {
				n := b.N / senders
				if s == 0 {
					n += b.N % senders
				}
				wg.Go(func() {
					c := newTestCall("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde")
					for range n {
						g.Do(context.Background(), c)
					}
				})
			}
			wg.Wait()
		})
	}
}
