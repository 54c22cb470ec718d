package discovery_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// clock measures how long something takes on a machine that other programs use too: it leaves out the time in which
// threads of this process could have run and waited for a processor. As several threads can wait at once, that is an
// estimate; the result is at least the time that the computing alone takes.
type clock struct {
	began       time.Time
	ran, queued time.Duration
}

func startClock() clock {
	ran, queued := schedule()
	return clock{time.Now(), ran, queued}
}

// took returns the time since the start, without what was waited for a processor.
func (c clock) took() time.Duration {
	ran, queued := schedule()
	return max(time.Since(c.began)-(queued-c.queued), ran-c.ran)
}

// schedule returns how long threads of this process have run, and have waited for a processor, so far, per processor that
// the program uses. Where the system does not tell both are zero.
func schedule() (running, queueing time.Duration) {
	threads, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		var ran, waited int64
		if n, _ := fmt.Fscan(bytes.NewReader(data), &ran, &waited); n == 2 {
			running += time.Duration(ran)
			queueing += time.Duration(waited)
		}
	}
	n := time.Duration(runtime.GOMAXPROCS(0))
	return running / n, queueing / n
}
