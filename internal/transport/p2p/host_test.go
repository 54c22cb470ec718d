package p2p_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/mosaik-go/mosaik/internal/transport/p2p"
	"github.com/mosaik-go/mosaik/internal/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) { transporttest.Run(t, p2p.New) }
