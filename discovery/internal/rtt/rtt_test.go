package rtt

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

// discovery: rtt/first_sample
func TestFirstSample(t *testing.T) {
	t.Parallel()
	var e Estimate
	if _, known := e.Known(); known {
		t.Error("known before the first sample")
	}
	e = e.Add(100 * ms)
	if got, known := e.Known(); !known || got != 100*ms {
		t.Errorf("after a first sample of 100 ms: %v, %v", got, known)
	}
	if e.Variation != 50*ms {
		t.Errorf("the variation begins with %v, want half the sample", e.Variation)
	}
}

// discovery: rtt/ewma_converges
func TestConverges(t *testing.T) {
	t.Parallel()
	var e Estimate
	e = e.Add(100 * ms)
	for range 50 {
		e = e.Add(200 * ms)
	}
	if got, _ := e.Known(); got <= 195*ms || got > 200*ms {
		t.Errorf("100 ms and 50 times 200 ms give %v, want more than 195 ms", got)
	}
	if e.Samples != 51 {
		t.Errorf("%d samples, want 51", e.Samples)
	}
}

// The recurrence of RFC 6298: the variation uses the mean before the sample.
func TestRecurrence(t *testing.T) {
	t.Parallel()
	e := Estimate{}.Add(80 * ms).Add(160 * ms)
	if want := (7*80 + 160) * ms / 8; e.Smoothed != want {
		t.Errorf("mean %v, want %v", e.Smoothed, want)
	}
	if want := (3*40 + 80) * ms / 4; e.Variation != want {
		t.Errorf("variation %v, want %v", e.Variation, want)
	}
	if e.Add(-ms) != e {
		t.Error("a negative sample counted")
	}
}

// discovery: rtt/remove_clears_state
func TestRemoveClearsState(t *testing.T) {
	t.Parallel()
	p := id.PeerID{1}
	table := make(Table)
	table.Add(p, 100*ms)
	if _, known := table[p].Known(); !known {
		t.Fatal("unknown after a sample")
	}
	table.Remove(p)
	if _, known := table[p].Known(); known || len(table) != 0 {
		t.Error("known after removal")
	}
	table.Add(p, 30*ms)
	if got, _ := table[p].Known(); got != 30*ms {
		t.Errorf("the first sample after removal reads back as %v", got)
	}
}
