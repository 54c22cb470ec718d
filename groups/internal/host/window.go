package host

import "time"

// window bounds the calls of this member that are under way, by number and by bytes, so that the engine's own session
// window is never exceeded. Further calls wait in line, in order; one that has waited for the group's patience fails as
// overloaded. The group's mutex guards it.
type window struct {
	maxCalls int
	maxBytes int

	calls int
	bytes int
	head  *Call // all calls let in and not released, in no particular order
	line  []*Call
	first int  // of line: those before it have left
	shut  bool // nothing is let in
}

// admit lets the call in, or puts it in line and returns false.
func (w *window) admit(c *Call) bool {
	if w.first < len(w.line) || !w.fits(c) {
		c.inLine = true
		w.line = append(w.line, c)
		return false
	}
	w.take(c)
	return true
}

func (w *window) fits(c *Call) bool {
	return !w.shut && w.calls < w.maxCalls && (w.bytes+len(c.Payload) <= w.maxBytes || w.calls == 0)
}

func (w *window) take(c *Call) {
	w.calls++
	c.weight = len(c.Payload)
	w.bytes += c.weight
	c.held = true
	c.prev, c.next = nil, w.head
	if w.head != nil {
		w.head.prev = c
	}
	w.head = c
}

// release takes a call out whose work has ended. It must come before the call is settled, because its owner may use it
// again at once.
func (w *window) release(c *Call) {
	if !c.held {
		return // drained
	}
	c.held = false
	w.calls--
	w.bytes -= c.weight
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		w.head = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// advance lets in as many of those in line as fit and appends them to out. Calls that were given up meanwhile are
// dropped.
func (w *window) advance(out []*Call) []*Call {
	for w.first < len(w.line) {
		c := w.line[w.first]
		if !c.settled.Load() {
			if !w.fits(c) {
				break
			}
			w.take(c)
			out = append(out, c)
		}
		w.pop()
	}
	return out
}

func (w *window) pop() {
	w.line[w.first].inLine = false
	w.line[w.first] = nil
	w.first++
	if w.first == len(w.line) {
		w.line, w.first = recycle(w.line), 0
	} else if w.first > 1024 && w.first > len(w.line)/2 {
		n := copy(w.line, w.line[w.first:])
		clear(w.line[n:])
		w.line, w.first = w.line[:n], 0
	}
}

// expire removes from the line those that have waited since before the given clock reading and appends them to out.
func (w *window) expire(before time.Duration, out []*Call) []*Call {
	for w.first < len(w.line) {
		c := w.line[w.first]
		if !c.settled.Load() {
			if c.queued > before {
				break
			}
			out = append(out, c)
		}
		w.pop()
	}
	return out
}

// since returns the calls in the window that were made before the given clock reading, or then.
func (w *window) since(before time.Duration) (out []*Call) {
	for c := w.head; c != nil; c = c.next {
		if c.queued <= before {
			out = append(out, c)
		}
	}
	return out
}

// drain empties the window and the line: everything in it is appended to in and waiting.
func (w *window) drain() (in, waiting []*Call) {
	for c := w.head; c != nil; c = c.next {
		in = append(in, c)
	}
	for _, c := range in {
		c.prev, c.next, c.held = nil, nil, false
	}
	waiting = append(waiting, w.line[w.first:]...)
	*w = window{maxCalls: w.maxCalls, maxBytes: w.maxBytes}
	return in, waiting
}
