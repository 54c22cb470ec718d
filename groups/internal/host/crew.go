package host

import "sync"

// idleMost is how many goroutines a crew keeps that have nothing to do.
const idleMost = 16

// crew runs the loops and appliers of all groups of a node. It keeps a few goroutines that are out of work, together with
// the stacks they have grown: a new goroutine has a small stack, which is copied several times on its way down into the
// engine, and that would cost a fifth of the time that a busy group has. The zero value is ready for use.
type crew struct {
	wg sync.WaitGroup

	mu     sync.Mutex // guards all following fields
	idle   []chan func()
	closed bool
}

// run has a goroutine do the job. It does not block.
func (c *crew) run(job func()) {
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		worker := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()
		worker <- job
		return
	}
	c.mu.Unlock()
	c.wg.Go(func() { c.work(job) })
}

// work does jobs until there are none and enough others wait for one.
func (c *crew) work(job func()) {
	jobs := make(chan func(), 1)
	for more := true; more; job, more = <-jobs {
		job()
		c.mu.Lock()
		if c.closed || len(c.idle) >= idleMost {
			c.mu.Unlock()
			return
		}
		c.idle = append(c.idle, jobs)
		c.mu.Unlock()
	}
}

// close ends the goroutines and, with wait, waits for the jobs under way. No job may be added after it.
func (c *crew) close(wait bool) {
	c.mu.Lock()
	c.closed = true
	for _, worker := range c.idle {
		close(worker)
	}
	c.idle = nil
	c.mu.Unlock()
	if wait {
		c.wg.Wait()
	}
}
