package simnet_test

import (
	"os"
	"testing"

	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
	"github.com/mosaik-go/mosaik/internal/transport/transporttest"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// The suite runs in real time, on one fabric, so that its tests disturb each other if they can.
func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, simnet.New(simnet.Options{Seed: 1}).NewHost)
}
