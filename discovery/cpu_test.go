package discovery_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// clock measures how long something takes on a machine that other programs use too: it leaves out the time in which this
// process could have run and waited for a processor.
type clock struct {
	began time.Time
	delay time.Duration
}

func startClock() clock { return clock{time.Now(), waitedForCPU()} }

// took returns the time since the start, without what was waited for a processor.
func (c clock) took() time.Duration { return max(0, time.Since(c.began)-c.waited()) }

func (c clock) waited() time.Duration { return waitedForCPU() - c.delay }

// waitedForCPU returns how long threads of this process have waited for a processor so far, per processor that the program
// uses. Where the system does not tell it is zero.
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
