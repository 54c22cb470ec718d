package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
)

// Members that join come to vote while commands flow. A leader that votes alone commits at once, so what it has just
// committed is never with the others yet; they must not have to hold that.
func TestPromotionUnderLoad(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		s := emptyStage(t, seed)
		first := s.Start(0, core.Normal, 1)
		s.within(5*time.Second, "founder", func() bool { return first.Status != nil && first.Status.Online })
		var load func()
		load = func() {
			s.calls++
			s.Submit(first, &Op{ID: s.calls, Name: "x", Call: fmt.Sprintf("%d:a x 1", s.calls)}, nil)
			s.After(200*time.Microsecond, load)
		}
		load()
		s.Start(1, core.Normal, 1)
		s.Start(2, core.Normal, 1)
		s.within(2*time.Second, "three voters", func() bool { return first.Status.Voters == 3 })
	}
}
