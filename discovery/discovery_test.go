package discovery

import (
	"context"
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

func TestFiftyNodesFromOneBootstrapAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := []*testNode{w.node()}
	began := time.Now()
	for range 49 {
		nodes = append(nodes, w.node(nodes[0]))
	}
	meet(t, 5*time.Second, nodes...)
	t.Log(time.Since(began))
	for _, n := range nodes[:3] {
		t.Log(n.Status())
	}
	b := time.Now()
	for _, n := range nodes[1:] {
		go n.Close(context.Background())
	}
	eventually(t, 5*time.Second, "all gone", func() bool { return nodes[0].Catalog().Len() == 0 })
	t.Log(time.Since(b))
}
