package discovery

import (
	"testing"
	"time"
)

func TestTwoNodesMeetThroughABootstrapAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.node()
	b := w.node(a)
	began := time.Now()
	meet(t, 5*time.Second, a, b)
	t.Log(time.Since(began))
}
