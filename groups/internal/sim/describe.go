package sim

import (
	"fmt"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// describe prints a message for the trace.
type describe struct{ m wire.Message }

func (d describe) String() string {
	switch m := d.m.(type) {
	case *wire.Raft:
		x := m.Msg
		if x.Snapshot != nil {
			return fmt.Sprintf("%v term=%d snapshot=%d", x.GetType(), x.GetTerm(), x.Snapshot.GetMetadata().GetIndex())
		}
		return fmt.Sprintf("%v term=%d logterm=%d index=%d commit=%d entries=%d reject=%v", x.GetType(), x.GetTerm(), x.GetLogTerm(),
			x.GetIndex(), x.GetCommit(), len(x.Entries), x.GetReject())
	case *wire.Forward:
		return fmt.Sprintf("forward from call %d on, %d calls", m.First, len(m.Items))
	default:
		return fmt.Sprintf("%T%+v", m, m)
	}
}
