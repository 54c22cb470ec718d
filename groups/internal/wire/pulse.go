package wire

import "encoding/binary"

const (
	kindPulse  byte = 24
	kindPulsed byte = 25
)

// Pulse is the heartbeat of a leader that has nothing to tell: no entry, commit or read goes with it. Drivers carry the
// pulses of many groups in one frame.
type Pulse struct {
	Member uint64 // the leader
	Term   uint64
}

// Pulsed answers a Pulse of the term.
type Pulsed struct{ Term uint64 }

func (*Pulse) kind() byte  { return kindPulse }
func (*Pulsed) kind() byte { return kindPulsed }

func (m *Pulse) append(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, m.Member), m.Term)
}

func (m *Pulsed) append(b []byte) []byte { return binary.AppendUvarint(b, m.Term) }
