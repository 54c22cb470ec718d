package genesis

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Phase of a history.
type Phase uint8

const (
	Active Phase = iota
	Frozen
	Dissolved
)

// Line is what the log of a history says about merging. The zero value is that of an empty log.
type Line struct {
	Phase    Phase
	Attempt  uint64 // number of the latest freeze
	Into     ID     // where to, while frozen or dissolved
	Key      Key    // when it froze
	Absorbed []Absorption
}

// Absorption is another history that this one took in, or began to.
type Absorption struct {
	From     ID
	Attempt  uint64
	Booked   bool   // all its commands are here
	Commands uint64 // of From, once booked
	Lost     bool   // none of its commands are here: its log was cut
}

// absorbedMost bounds what is remembered of other histories. One that is forgotten while it merges is granted anew.
const absorbedMost = 64

// Clone returns a copy.
func (l *Line) Clone() Line {
	c := *l
	c.Absorbed = slices.Clone(l.Absorbed)
	return c
}

// Grant returns the attempt of a history that this one has agreed to take in, zero if none.
func (l *Line) Grant(from ID) uint64 {
	for _, a := range l.Absorbed {
		if a.From == from {
			return a.Attempt
		}
	}
	return 0
}

// Booked reports whether the attempt of from is booked.
func (l *Line) Booked(from ID, attempt uint64) bool {
	return slices.ContainsFunc(l.Absorbed, func(a Absorption) bool { return a.From == from && a.Attempt == attempt && a.Booked })
}

// Kinds of entries.
const (
	Freeze byte = iota + 2
	Absorb
	Thaw
	Dissolve
)

// Entry is an entry of the log that is about merging.
type Entry struct {
	Kind     byte
	Attempt  uint64
	Other    ID     // where to, for Freeze; whom, for Absorb
	Key      Key    // without its ID, for Freeze
	Booked   bool   // for Absorb
	Lost     bool   // likewise
	Commands uint64 // of the other history, for Absorb; for Dissolve, the raft index up to which both logs are the same
}

// errEntry reports an entry that cannot be read.
var errEntry = errors.New("genesis: malformed entry in the log")

// Append appends the entry as it stands in the log, without its kind.
func (e *Entry) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, e.Attempt)
	b = append(b, e.Other[:]...)
	b = append(b, flags(e.Key.Fixed, e.Booked, e.Lost))
	b = binary.AppendUvarint(b, e.Key.Forced)
	b = binary.AppendUvarint(b, e.Key.Commands)
	return binary.AppendUvarint(b, e.Commands)
}

func flags(all ...bool) (f byte) {
	for i, on := range all {
		if on {
			f |= 1 << i
		}
	}
	return f
}

// Decode reads what Append wrote.
func Decode(kind byte, b []byte) (Entry, error) {
	e := Entry{Kind: kind}
	if kind < Freeze || kind > Dissolve {
		return e, errEntry
	}
	bad := false
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if bad = bad || n <= 0; bad {
			return 0
		}
		b = b[n:]
		return v
	}
	e.Attempt = uvarint()
	if bad || len(b) < len(e.Other)+1 {
		return e, errEntry
	}
	b = b[copy(e.Other[:], b):]
	f := b[0]
	b = b[1:]
	e.Key.Fixed, e.Booked, e.Lost = f&1 != 0, f&2 != 0, f&4 != 0
	e.Key.Forced, e.Key.Commands, e.Commands = uvarint(), uvarint(), uvarint()
	if bad || len(b) > 0 || f > 7 {
		return e, errEntry
	}
	return e, nil
}

// Apply follows an entry. It reports whether the entry had an effect; one that no longer fits has none, on all replicas
// alike.
func (l *Line) Apply(e *Entry) bool {
	switch e.Kind {
	case Freeze:
		if l.Phase != Active || e.Attempt != l.Attempt+1 {
			return false
		}
		l.Phase, l.Attempt, l.Into, l.Key = Frozen, e.Attempt, e.Other, e.Key
	case Thaw:
		if l.Phase != Frozen || e.Attempt != l.Attempt {
			return false
		}
		l.Phase, l.Into, l.Key = Active, ID{}, Key{}
	case Dissolve:
		if l.Phase != Frozen || e.Attempt != l.Attempt {
			return false
		}
		l.Phase = Dissolved
	case Absorb:
		return l.absorb(e)
	}
	return true
}

func (l *Line) absorb(e *Entry) bool {
	if l.Phase != Active {
		return false
	}
	i := slices.IndexFunc(l.Absorbed, func(a Absorption) bool { return a.From == e.Other })
	if i >= 0 && e.Attempt < l.Absorbed[i].Attempt || e.Booked && (i < 0 || e.Attempt != l.Absorbed[i].Attempt) {
		return false
	}
	if i >= 0 {
		l.Absorbed = slices.Delete(slices.Clone(l.Absorbed), i, i+1)
	} else if len(l.Absorbed) >= absorbedMost {
		l.Absorbed = slices.Clone(l.Absorbed[1:])
	}
	l.Absorbed = append(l.Absorbed, Absorption{From: e.Other, Attempt: e.Attempt, Booked: e.Booked, Commands: e.Commands, Lost: e.Lost})
	return true
}

// Append appends the encoded line.
func (l *Line) Append(b []byte) []byte {
	b = append(b, byte(l.Phase))
	freeze := Entry{Attempt: l.Attempt, Other: l.Into, Key: l.Key}
	b = appendSized(b, freeze.Append(nil))
	b = append(b, l.Key.ID[:]...)
	b = binary.AppendUvarint(b, uint64(len(l.Absorbed)))
	for _, a := range l.Absorbed {
		e := Entry{Attempt: a.Attempt, Other: a.From, Booked: a.Booked, Commands: a.Commands, Lost: a.Lost}
		b = appendSized(b, e.Append(nil))
	}
	return b
}

func appendSized(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// DecodeLine reads what Append wrote and returns what follows it.
func DecodeLine(b []byte) (l Line, rest []byte, err error) {
	entry := func(kind byte) (e Entry) {
		size, n := binary.Uvarint(b)
		if err != nil || n <= 0 || size > uint64(len(b)-n) {
			err = errEntry
			return e
		}
		e, err = Decode(kind, b[n:n+int(size)])
		b = b[n+int(size):]
		return e
	}
	if len(b) == 0 || b[0] > byte(Dissolved) {
		return Line{}, nil, errEntry
	}
	l.Phase = Phase(b[0])
	b = b[1:]
	freeze := entry(Freeze)
	l.Attempt, l.Into, l.Key = freeze.Attempt, freeze.Other, freeze.Key
	if err != nil || len(b) < len(l.Key.ID) {
		return Line{}, nil, errEntry
	}
	b = b[copy(l.Key.ID[:], b):]
	count, n := binary.Uvarint(b)
	if n <= 0 || count > absorbedMost {
		return Line{}, nil, errEntry
	}
	b = b[n:]
	for range count {
		e := entry(Absorb)
		l.Absorbed = append(l.Absorbed, Absorption{From: e.Other, Attempt: e.Attempt, Booked: e.Booked, Commands: e.Commands, Lost: e.Lost})
	}
	if err != nil {
		return Line{}, nil, errEntry
	}
	return l, b, nil
}
