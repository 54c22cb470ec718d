package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

var quiet = Network{Delay: time.Millisecond}

func dump(t *testing.T, w *World) {
	t.Helper()
	for _, n := range w.Nodes() {
		if n.Status != nil {
			t.Logf("n%d.%d alive=%v role=%d term=%d online=%v reason=%q members=%d voters=%d applied=%d fatal=%v",
				n.Index, n.Life, n.Alive, n.Status.Role, n.Status.Term, n.Status.Online, n.Status.Reason, len(n.Status.Members), n.Status.Voters, n.Applied, n.Fatal)
		}
	}
	tr := w.Trace()
	t.Log("\n" + strings.Join(tr[max(0, len(tr)-60):], "\n"))
}

func (w *World) formed(n int) func() bool {
	return func() bool {
		alive := 0
		for _, x := range w.nodes {
			if x.Alive {
				alive++
				if x.Status == nil || !x.Status.Online || len(x.Status.Members) != n {
					return false
				}
			}
		}
		return alive == n
	}
}

func TestFoundJoinExecuteRead(t *testing.T) {
	t.Parallel()
	w := New(1, quiet)
	for i := range 3 {
		w.Start(i, core.Normal, 1)
	}
	if !w.Until(10*time.Second, w.formed(3)) {
		dump(t, w)
		t.Fatal("no group of three")
	}
	t.Logf("formed after %v", w.Now())
	for i := range 30 {
		n := w.Nodes()[i%3]
		op := w.Execute(n, i, fmt.Sprintf("a x %d", i), nil)
		if !w.Until(time.Second, func() bool { return op.Done }) || !op.OK || op.Index != core.Index(i+1) {
			dump(t, w)
			t.Fatalf("op %d: %+v", i, op)
		}
		rd := w.Read(w.Nodes()[(i+1)%3], i, "x", nil)
		if !w.Until(time.Second, func() bool { return rd.Done }) || !rd.OK || rd.Out != op.Out {
			dump(t, w)
			t.Fatalf("read %d: %+v want %q", i, rd, op.Out)
		}
	}
}

func TestLeaderCrash(t *testing.T) {
	t.Parallel()
	w := New(2, quiet)
	for i := range 3 {
		w.Start(i, core.Normal, 1)
	}
	if !w.Until(10*time.Second, w.formed(3)) {
		dump(t, w)
		t.Fatal("no group")
	}
	w.Run(2 * time.Second)
	var leader *Node
	for _, n := range w.Nodes() {
		if n.Status.Role == core.RoleLeader {
			leader = n
		}
	}
	w.Crash(leader, false)
	begin := w.Now()
	other := w.Nodes()[(leader.Index+1)%3]
	op := w.Execute(other, 0, "a x 1", nil)
	if !w.Until(5*time.Second, func() bool { return op.Done }) || !op.OK {
		dump(t, w)
		t.Fatalf("op %+v", op)
	}
	if took := w.Now() - begin; took > time.Second {
		t.Errorf("next command after %v", took)
	}
	w.Start(leader.Index, core.Normal, 1)
	if !w.Until(30*time.Second, w.formed(3)) {
		dump(t, w)
		t.Fatal("the group does not heal")
	}
}
