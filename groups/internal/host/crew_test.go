package host

import (
	"sync"
	"testing"
	"testing/synctest"
)

// Every job is done, whatever number of goroutines the crew has at the moment, and none is left after close.
func TestCrewDoesEveryJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine stays behind
		var c crew
		var mu sync.Mutex
		done := 0
		for range 10 {
			gate := make(chan struct{})
			for range 3 * idleMost {
				c.run(func() {
					<-gate
					mu.Lock()
					defer mu.Unlock()
					done++
				})
			}
			close(gate)
			synctest.Wait()
			if idle := len(c.idle); idle != idleMost {
				t.Fatalf("%d goroutines wait for work, want %d", idle, idleMost)
			}
		}
		if want := 10 * 3 * idleMost; done != want {
			t.Fatalf("%d jobs were done, want %d", done, want)
		}
		last := false
		c.run(func() { last = true })
		c.close(true)
		if !last {
			t.Fatal("close did not wait for the job under way")
		}
	})
}

// A job may ask for another one, as a loop does for an applier.
func TestCrewJobStartsAnother(t *testing.T) {
	t.Parallel()
	var c crew
	second := make(chan struct{})
	c.run(func() { c.run(func() { close(second) }) })
	<-second
	c.close(true)
}
