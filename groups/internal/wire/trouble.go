package wire

import "encoding/binary"

const kindTrouble byte = 21

// TroubleMost bounds the text of a Trouble, in bytes.
const TroubleMost = 256

// Trouble says why the sender could not write out its state, which somebody needs. Drivers send it, engines do not.
type Trouble struct{ Text string }

func (*Trouble) kind() byte { return kindTrouble }

func (m *Trouble) append(b []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(m.Text))), m.Text...)
}

func (r *reader) trouble() *Trouble {
	text := r.bytes()
	if len(text) > TroubleMost {
		r.bad = true
		return &Trouble{}
	}
	return &Trouble{Text: string(text)}
}
