package core

import (
	"encoding/binary"
	"fmt"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

// The record is what a member with a durable log must remember beside it: who it is, how its history began, which
// histories are over, and, while it is blank, what it has promised to those that want to found one.
//
//	version, flags, member and nonce of 8 bytes each, histories that are over, and what the flags say follows
const (
	recordVersion = 2
	recordHead    = 1 + 1 + 8 + 8
)

// Flags of a record, in the order in which what they stand for follows.
const (
	recordFormer   byte = 1 << iota // was part of a history that took it out
	recordOrigin                    // of its history; otherwise the member is blank
	recordHeirloom                  // genesis, raft index
	recordBallot                    // ballots promised and voted in, the vote
)

func (r *Replica) record() []byte {
	var flags byte
	if r.former {
		flags |= recordFormer
	}
	blank, h := r.genesis.IsZero(), r.heirloom()
	if !blank {
		flags |= recordOrigin
	}
	if h.index != 0 {
		flags |= recordHeirloom
	}
	promised := blank && r.ballot.Promised != (wire.Ballot{}) && !r.cfg.Flaws.ForgetBallot
	if promised {
		flags |= recordBallot
	}
	b := append(make([]byte, 0, 256), recordVersion, flags)
	b = binary.BigEndian.AppendUint64(b, r.self)
	b = binary.BigEndian.AppendUint64(b, r.cfg.BootNonce)
	b = wire.AppendGone(b, r.gone)
	if !blank {
		b = wire.AppendOrigin(b, &r.origin)
	}
	if h.index != 0 {
		b = binary.AppendUvarint(append(b, h.of[:]...), h.index)
	}
	if promised {
		b = wire.AppendBallot(b, r.ballot.Promised)
		b = wire.AppendBallot(b, r.ballot.Voted)
		b = wire.AppendOrigin(b, &r.ballot.Value)
	}
	return b
}

// remember reads a record. It leaves the genesis zero if the member is blank.
func (r *Replica) remember(b []byte) (h heirloom, err error) {
	if b[0] != recordVersion {
		return h, fmt.Errorf("core: resume: the log was written by another version of this program (record version %d, want %d)", b[0], recordVersion)
	}
	bad := func(what string) (heirloom, error) {
		return heirloom{}, fmt.Errorf("core: resume: the record %s: %w", what, logstore.ErrCorrupt)
	}
	if len(b) < recordHead {
		return bad(fmt.Sprintf("has %d bytes", len(b)))
	}
	flags := b[1]
	self, nonce := binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])
	gone, b, err := wire.DecodeGone(b[recordHead:])
	if err != nil || !validMember(self) {
		return bad("does not say who the member is")
	}
	var origin wire.Origin
	var ballot genesis.Ballot
	if flags&recordOrigin != 0 {
		if origin, b, err = wire.DecodeOrigin(b); err != nil || !validOrigin(&origin) {
			return bad("does not say of which history")
		}
	}
	if flags&recordHeirloom != 0 {
		if len(b) < len(h.of) {
			return bad("was cut")
		}
		b = b[copy(h.of[:], b):]
		n := 0
		if h.index, n = binary.Uvarint(b); n <= 0 {
			return bad("was cut")
		}
		b = b[n:]
	}
	if flags&recordBallot != 0 {
		if ballot.Promised, b, err = wire.DecodeBallot(b); err == nil {
			ballot.Voted, b, err = wire.DecodeBallot(b)
		}
		if err == nil {
			ballot.Value, b, err = wire.DecodeOrigin(b)
		}
		if err != nil {
			return bad("does not say what was promised")
		}
	}
	if len(b) > 0 || flags >= recordBallot<<1 {
		return bad("has more than it should")
	}
	r.former = flags&recordFormer != 0
	r.self, r.cfg.BootNonce, r.gone, r.ballot = self, nonce, gone, ballot
	r.bound = binding{of: ballot.Value.Genesis, at: -1} // all bonds will be younger
	r.genesis, r.origin = origin.Genesis, origin
	return h, nil
}

// pledge is what a member does once its record is safe.
type pledge struct {
	seq uint64
	do  func()
}

// keepRecord writes the record, and does what follows from it once that is safe.
func (r *Replica) keepRecord(do func()) {
	if !r.cfg.Durable {
		do()
		return
	}
	seq, safe, ok := r.submit(logstore.Batch{Record: r.record()})
	switch {
	case !ok:
	case safe:
		do()
	default:
		r.pledges = append(r.pledges, pledge{seq, do})
	}
}

// onceKept does something once the records that are being written are safe.
func (r *Replica) onceKept(do func()) {
	if n := len(r.pledges); n > 0 {
		r.pledges = append(r.pledges, pledge{r.pledges[n-1].seq, do})
		return
	}
	do()
}

// kept does what waited for the log up to seq.
func (r *Replica) kept(seq uint64) {
	for len(r.pledges) > 0 && r.pledges[0].seq <= seq {
		do := r.pledges[0].do
		r.pledges = r.pledges[1:]
		do()
	}
}
