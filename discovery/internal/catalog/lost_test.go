package catalog

import (
	"testing"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
)

func TestLost(t *testing.T) {
	t.Parallel()
	p := peer(1)
	known := func() *Core {
		c := newCore()
		c.Apply(says(p, t0, t0), t0)
		if c.Lose(p, t0+5000) == nil || c.Losses() != 1 || c.LostSince(p) != t0+5000 {
			t.Fatal("the peer is not lost")
		}
		return c
	}
	c := known()
	if c.Lose(p, t0+6000) != nil || c.LostSince(p) != t0+5000 {
		t.Error("it was lost twice")
	}
	if c.Len() != 1 || c.Get(p) == nil {
		t.Error("its record is gone")
	}
	if c.Lose(peer(9), t0) != nil || c.Find(peer(9)) != nil || c.LostSince(peer(9)) != 0 {
		t.Error("a peer that nobody knows was lost or found")
	}
	if c.Find(p) == nil || c.Losses() != 0 || c.LostSince(p) != 0 || c.Find(p) != nil {
		t.Error("it was not found")
	}

	old := says(p, t0, t0)
	old.Beat = beats(p, t0, t0, t0+7000).Beat
	for name, test := range map[string]struct {
		u     wire.Update
		still bool
	}{
		"a late sign of life":             {beats(p, t0, t0, t0+5500), true},
		"a fresh sign of life":            {beats(p, t0, t0, t0+5000+LateNews), false},
		"a late change":                   {says(p, t0, t0+5500), true},
		"a fresh change":                  {says(p, t0, t0+6000), false},
		"a fresh sign of life with entry": {old, false},
		"another life":                    {says(p, t0+1, t0+1), false},
	} {
		c := known()
		out := c.Apply(test.u, t0+7000)
		if !out.Verdict.Changed() || !out.WasLost || out.Lost != test.still || (c.LostSince(p) != 0) != test.still {
			t.Errorf("%s: %+v, still lost: %v, want %v", name, out, out.Lost, test.still)
		}
	}

	c = known()
	if out := c.Apply(leaves(p, t0, t0+6000), t0+6000); out.Verdict != Departed || !out.WasLost || out.Lost || c.Losses() != 0 {
		t.Errorf("departed while lost: %+v", out)
	}
	c = known()
	if x := c.Expire(t0 + purge + 1); len(x) != 1 || !x[0].WasLost || c.Losses() != 0 {
		t.Errorf("expired while lost: %+v", x)
	}
}
