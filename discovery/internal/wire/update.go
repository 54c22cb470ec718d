package wire

import "github.com/mosaik-go/mosaik/id"

// Update is one piece of news about one peer: an entry with or without its latest beat, a beat alone, or a departure.
// Either Depart is set, or at least one of Entry and Beat, which then speak of the same peer and incarnation.
type Update struct {
	Entry  *Signed
	Beat   *Beat
	Depart *Depart
}

// Peer returns whom the update is about.
func (u Update) Peer() id.PeerID {
	switch {
	case u.Depart != nil:
		return u.Depart.Peer
	case u.Entry != nil:
		return u.Entry.Peer
	default:
		return u.Beat.Peer
	}
}

// Start returns the incarnation that the update is about.
func (u Update) Start() int64 {
	switch {
	case u.Depart != nil:
		return u.Depart.Start
	case u.Entry != nil:
		return u.Entry.Start
	default:
		return u.Beat.Start
	}
}

// Verify checks all signatures. The network of an entry must have been compared before.
func (u Update) Verify(network id.ID) error {
	if u.Depart != nil {
		return u.Depart.Verify(network)
	}
	if u.Entry != nil {
		if err := u.Entry.Verify(); err != nil {
			return err
		}
	}
	if u.Beat != nil {
		return u.Beat.Verify(network)
	}
	return nil
}

// Kinds of updates on the wire.
const (
	kindEntry         = 1
	kindBeat          = 2
	kindDepart        = 3
	kindEntryWithBeat = 4
)

// Append appends the encoding to dst.
func (u Update) Append(dst []byte) []byte {
	switch {
	case u.Depart != nil:
		return u.Depart.append(append(dst, kindDepart))
	case u.Entry == nil:
		return u.Beat.append(append(dst, kindBeat))
	case u.Beat == nil:
		return u.Entry.Append(append(dst, kindEntry))
	default:
		return u.Beat.append(u.Entry.Append(append(dst, kindEntryWithBeat)))
	}
}

// Size returns an upper bound of the encoded size.
func (u Update) Size() int {
	const small = 1 + id.Size + 3*8 + len(Signature{})
	if u.Entry == nil {
		return small
	}
	return small + 4 + len(u.Entry.Body) + len(Signature{})
}

func (r *reader) update() (u Update) {
	switch kind := r.byte("update"); kind {
	case kindEntry:
		u.Entry = r.signed()
	case kindBeat:
		u.Beat = r.beat()
	case kindDepart:
		u.Depart = r.depart()
	case kindEntryWithBeat:
		u.Entry = r.signed()
		u.Beat = r.beat()
		if r.err == nil && (u.Beat.Peer != u.Entry.Peer || u.Beat.Start != u.Entry.Start) {
			r.fail("update: beat and entry of different peers or incarnations")
		}
	default:
		r.fail("update: unknown kind %d", kind)
	}
	return u
}
