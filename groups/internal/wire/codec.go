package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed reports bytes that are no message.
var ErrMalformed = errors.New("wire: malformed message")

// Append appends the encoded message to dst.
func Append(dst []byte, m Message) []byte { return m.append(append(dst, m.kind())) }

// Decode reads a message. It keeps nothing of src. The error wraps [ErrMalformed].
func Decode(src []byte) (Message, error) {
	if len(src) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	kind := src[0]
	r := reader{b: src[1:]}
	var m Message
	switch kind {
	case kindHello:
		m = &Hello{
			Seq: r.uint(), Heard: r.uint(), Ask: r.bool(),
			Genesis: r.genesis(), Nonce: r.uint(), Member: r.uint(), Preference: r.preference(),
			Leaving: r.bool(), Joining: r.bool(), Leader: r.peer(), Commands: r.uint(), Forced: r.uint(), Cut: r.uint(), Parents: r.parents(), Frozen: r.bool(),
			Gone: r.gone(), Committed: r.uint(), CommittedTerm: r.uint(),
		}
	case kindJoin:
		m = &Join{Genesis: r.genesis(), Member: r.uint(), Nonce: r.uint(), Preference: r.preference(), Durable: r.bool()}
	case kindAccept:
		m = &Accept{Origin: r.origin(), Member: r.uint()}
	case kindRemoved:
		m = &Removed{Genesis: r.genesis(), Member: r.uint()}
	case kindLeave:
		m = &Leave{Genesis: r.genesis(), Member: r.uint()}
	case kindLeft:
		m = &Left{Genesis: r.genesis(), Member: r.uint()}
	case kindForward:
		r.own()
		m = &Forward{Genesis: r.genesis(), Member: r.uint(), Session: r.uint(), First: r.uint(), Ack: r.bool(), Items: r.items()}
	case kindAck:
		m = &Ack{Genesis: r.genesis(), First: r.uint(), Calls: r.uint(), Index: r.uint()}
	case kindExpect:
		m = &Expect{Genesis: r.genesis(), Next: r.uint()}
	case kindRead:
		m = &Read{Genesis: r.genesis(), ID: r.uint()}
	case kindReadIndex:
		m = &ReadIndex{Genesis: r.genesis(), ID: r.uint(), Index: r.uint()}
	case kindRaft:
		m = r.raft()
	case kindFetching:
		m = r.fetching()
	case kindTrouble:
		m = r.trouble()
	case kindPulse:
		m = &Pulse{Member: r.uint(), Term: r.uint()}
	case kindPulsed:
		m = &Pulsed{Term: r.uint()}
	default:
		m = r.rival(kind)
	}
	if m == nil {
		return nil, fmt.Errorf("%w: unknown kind %d", ErrMalformed, kind)
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: kind %d", ErrMalformed, kind)
	}
	return m, nil
}

func (m *Hello) append(b []byte) []byte {
	b = binary.AppendUvarint(b, m.Seq)
	b = binary.AppendUvarint(b, m.Heard)
	b = appendBool(b, m.Ask)
	b = append(b, m.Genesis[:]...)
	b = binary.AppendUvarint(b, m.Nonce)
	b = binary.AppendUvarint(b, m.Member)
	b = appendBool(appendBool(append(b, m.Preference), m.Leaving), m.Joining)
	b = append(b, m.Leader[:]...)
	b = binary.AppendUvarint(b, m.Commands)
	b = binary.AppendUvarint(b, m.Forced)
	b = binary.AppendUvarint(b, m.Cut)
	b = appendBool(appendParents(b, m.Parents), m.Frozen)
	b = binary.AppendUvarint(AppendGone(b, m.Gone), m.Committed)
	return binary.AppendUvarint(b, m.CommittedTerm)
}

func (m *Join) append(b []byte) []byte {
	b = append(b, m.Genesis[:]...)
	b = binary.AppendUvarint(b, m.Member)
	b = binary.AppendUvarint(b, m.Nonce)
	return appendBool(append(b, m.Preference), m.Durable)
}

func (m *Accept) append(b []byte) []byte {
	return binary.AppendUvarint(appendOrigin(b, &m.Origin), m.Member)
}

func (m *Removed) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.Member)
}

func (m *Leave) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.Member)
}

func (m *Left) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.Member)
}

func (m *Forward) append(b []byte) []byte {
	b = append(b, m.Genesis[:]...)
	b = binary.AppendUvarint(b, m.Member)
	b = binary.AppendUvarint(b, m.Session)
	b = binary.AppendUvarint(b, m.First)
	b = appendBool(b, m.Ack)
	b = binary.AppendUvarint(b, uint64(len(m.Items)))
	for i := range m.Items {
		b = binary.AppendUvarint(b, uint64(m.Items[i].Count))
		b = binary.AppendUvarint(b, uint64(len(m.Items[i].Payload)))
		b = append(b, m.Items[i].Payload...)
	}
	return b
}

func (m *Ack) append(b []byte) []byte {
	b = append(b, m.Genesis[:]...)
	b = binary.AppendUvarint(b, m.First)
	b = binary.AppendUvarint(b, m.Calls)
	return binary.AppendUvarint(b, m.Index)
}

func (m *Expect) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.Next)
}

func (m *Read) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.ID)
}

func (m *ReadIndex) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, m.Genesis[:]...), m.ID)
	return binary.AppendUvarint(b, m.Index)
}

func (m *Raft) append(b []byte) []byte { return appendRaft(append(b, m.Genesis[:]...), m.Msg) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendMember(b []byte, m *Member) []byte {
	b = binary.AppendUvarint(b, m.ID)
	b = append(b, m.Peer[:]...)
	b = binary.AppendUvarint(b, m.Nonce)
	return appendBool(append(b, m.Preference), m.Durable)
}
