package discovery_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// waitedForCPU returns how long threads of this process that could have run have waited for a processor so far, because
// other programs were using it. A test of speed takes it off. Where that is not known it is zero.
func waitedForCPU() (total time.Duration) {
	threads, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		var ran, waited int64
		if n, _ := fmt.Fscan(bytes.NewReader(data), &ran, &waited); n == 2 {
			total += time.Duration(waited)
		}
	}
	return total / time.Duration(runtime.GOMAXPROCS(0))
}
