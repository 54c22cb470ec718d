package wire

import (
	"encoding/binary"

	"github.com/mosaik-go/mosaik/id"
)

// Ballot numbers a try to found a history: first by round, then by who tries.
type Ballot struct {
	Round uint64
	Who   uint64 // of the engine's life
}

// Less orders ballots.
func (b Ballot) Less(o Ballot) bool {
	return b.Round < o.Round || b.Round == o.Round && b.Who < o.Who
}

// Prepare asks a blank member to take part in a ballot, and in no lower one.
type Prepare struct{ Ballot Ballot }

// Promise answers a Prepare. A refusal carries the higher ballot that stands in the way.
type Promise struct {
	Ballot   Ballot
	Refused  bool
	Promised Ballot // when refused
	Voter    Member // as which the member would begin
	Voted    Ballot // the last ballot in which it voted, zero if none
	Value    Origin // what for
}

// Elect asks a member that promised to vote for an origin.
type Elect struct {
	Ballot Ballot
	Value  Origin
}

// Elected is the vote, or the refusal.
type Elected struct {
	Ballot   Ballot
	Refused  bool
	Promised Ballot
}

// Founded announces the origin that a quorum voted for.
type Founded struct{ Value Origin }

// Absorb asks the leader of another history to take in the sender's, which is frozen.
type Absorb struct {
	Genesis  Genesis // asked
	From     Genesis
	Attempt  uint64
	Forced   uint64 // key of From when it froze
	Commands uint64
	Done     bool // all commands are taken in: book it
	Lost     bool // none are: the log that had them was cut
}

// Verdicts on an Absorb.
const (
	Granted byte = iota + 1
	Booked
	Busy  // frozen itself, with the key given
	Moved // over; Into took its place
)

// Verdict answers an Absorb.
type Verdict struct {
	Genesis  Genesis // that asked
	Of       Genesis // that answers
	Attempt  uint64
	Verdict  byte
	Forced   uint64 // key when it froze, for Busy
	Commands uint64
	Into     Genesis  // for Moved
	Lost     bool     // likewise: Into has not taken over what Of held
	Parents  []Parent // of the history that answers, for Granted
}

// Again is one call of another history.
type Again struct {
	Session uint64
	Number  uint64
	Item
}

// Repropose hands calls of a frozen history to the leader of the one that takes them in.
type Repropose struct {
	Genesis Genesis // that takes them in
	From    Genesis
	Attempt uint64
	At      uint64 // how many calls came before
	Items   []Again
}

// Reproposed says that the calls of a Repropose are committed.
type Reproposed struct {
	Genesis Genesis // whose calls they are
	Of      Genesis // that took them in
	Attempt uint64
	At      uint64
}

// Muster asks a member of a history that may have lost its majority to stand still and report, for a fork.
type Muster struct {
	Genesis Genesis
	Round   uint64
	Reason  Reason
	Peek    bool     // report only
	Known   uint64   // raft index up to which the one who asks has followed the log
	Ended   []uint64 // members of which the one who asks knows that they will never act again
}

// Dismiss says that a muster ended without a fork, so that nobody needs to stand still for it.
type Dismiss struct {
	Genesis Genesis
	Round   uint64
}

// Standing answers a Muster.
type Standing struct {
	Genesis  Genesis
	Round    uint64
	Member   uint64
	Term     uint64 // of the last entry
	Last     uint64 // raft index
	Commands uint64 // user index at the end of the log
	Refused  bool   // the member does not see the majority as lost, or recovers the group itself
}

// Fork asks a member to fork off a history that others then join.
type Fork struct {
	Genesis Genesis
	Round   uint64
	Reason  Reason
	Lossy   bool
}

// Expel asks the leader to take out a peer that it has no bond with.
type Expel struct {
	Genesis Genesis
	Peer    id.PeerID
}

// Transfer asks the leader to hand leadership over to a member.
type Transfer struct {
	Genesis Genesis
	Member  uint64
}

// Farewell says that a member has ended and will never act again under its id.
type Farewell struct {
	Genesis Genesis
	Member  uint64
}

func (*Transfer) kind() byte   { return kindTransfer }
func (*Farewell) kind() byte   { return kindFarewell }
func (*Expel) kind() byte      { return kindExpel }
func (*Prepare) kind() byte    { return kindPrepare }
func (*Promise) kind() byte    { return kindPromise }
func (*Elect) kind() byte      { return kindElect }
func (*Elected) kind() byte    { return kindElected }
func (*Founded) kind() byte    { return kindFounded }
func (*Absorb) kind() byte     { return kindAbsorb }
func (*Verdict) kind() byte    { return kindVerdict }
func (*Repropose) kind() byte  { return kindRepropose }
func (*Reproposed) kind() byte { return kindReproposed }
func (*Muster) kind() byte     { return kindMuster }
func (*Dismiss) kind() byte    { return kindDismiss }
func (*Standing) kind() byte   { return kindStanding }
func (*Fork) kind() byte       { return kindFork }

func (r *reader) ballot() Ballot { return Ballot{Round: r.uint(), Who: r.uint()} }

func (r *reader) reason() Reason {
	v := Reason(r.byte())
	if v < Proven || v > Availability {
		r.bad = true
	}
	return v
}

func (r *reader) again() []Again {
	n := r.count(4)
	if n == 0 || r.bad {
		return nil
	}
	items := make([]Again, n)
	for i := range items {
		items[i] = Again{Session: r.uint(), Number: r.uint(), Item: Item{Count: r.uint32(), Payload: r.bytes()}}
		if items[i].Count == 0 || items[i].Session == 0 || items[i].Number == 0 {
			r.bad = true
		}
	}
	return items
}

// rival reads the messages of this file. It returns nil for other kinds.
func (r *reader) rival(kind byte) Message {
	switch kind {
	case kindPrepare:
		return &Prepare{Ballot: r.ballot()}
	case kindPromise:
		return &Promise{
			Ballot: r.ballot(), Refused: r.bool(), Promised: r.ballot(), Voter: r.member(), Voted: r.ballot(), Value: r.origin(),
		}
	case kindElect:
		return &Elect{Ballot: r.ballot(), Value: r.origin()}
	case kindElected:
		return &Elected{Ballot: r.ballot(), Refused: r.bool(), Promised: r.ballot()}
	case kindFounded:
		return &Founded{Value: r.origin()}
	case kindAbsorb:
		return &Absorb{
			Genesis: r.genesis(), From: r.genesis(), Attempt: r.uint(), Forced: r.uint(), Commands: r.uint(), Done: r.bool(), Lost: r.bool(),
		}
	case kindVerdict:
		return &Verdict{
			Genesis: r.genesis(), Of: r.genesis(), Attempt: r.uint(), Verdict: r.byte(), Forced: r.uint(), Commands: r.uint(),
			Into: r.genesis(), Lost: r.bool(), Parents: r.parents(),
		}
	case kindRepropose:
		r.own()
		return &Repropose{Genesis: r.genesis(), From: r.genesis(), Attempt: r.uint(), At: r.uint(), Items: r.again()}
	case kindReproposed:
		return &Reproposed{Genesis: r.genesis(), Of: r.genesis(), Attempt: r.uint(), At: r.uint()}
	case kindMuster:
		return &Muster{Genesis: r.genesis(), Round: r.uint(), Reason: r.reason(), Peek: r.bool(), Known: r.uint(), Ended: r.uints()}
	case kindDismiss:
		return &Dismiss{Genesis: r.genesis(), Round: r.uint()}
	case kindStanding:
		return &Standing{
			Genesis: r.genesis(), Round: r.uint(), Member: r.uint(), Term: r.uint(), Last: r.uint(), Commands: r.uint(),
			Refused: r.bool(),
		}
	case kindFork:
		return &Fork{Genesis: r.genesis(), Round: r.uint(), Reason: r.reason(), Lossy: r.bool()}
	case kindFarewell:
		return &Farewell{Genesis: r.genesis(), Member: r.uint()}
	case kindExpel:
		return &Expel{Genesis: r.genesis(), Peer: r.peer()}
	case kindTransfer:
		return &Transfer{Genesis: r.genesis(), Member: r.uint()}
	}
	return nil
}

func (m *Farewell) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.Member)
}

func (m *Expel) append(b []byte) []byte { return append(append(b, m.Genesis[:]...), m.Peer[:]...) }

func (m *Transfer) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.Member)
}

func appendBallot(b []byte, x Ballot) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, x.Round), x.Who)
}

func (m *Prepare) append(b []byte) []byte { return appendBallot(b, m.Ballot) }

func (m *Promise) append(b []byte) []byte {
	b = appendBallot(appendBool(appendBallot(b, m.Ballot), m.Refused), m.Promised)
	b = appendBallot(appendMember(b, &m.Voter), m.Voted)
	return appendOrigin(b, &m.Value)
}

func (m *Elect) append(b []byte) []byte { return appendOrigin(appendBallot(b, m.Ballot), &m.Value) }

func (m *Elected) append(b []byte) []byte {
	return appendBallot(appendBool(appendBallot(b, m.Ballot), m.Refused), m.Promised)
}

func (m *Founded) append(b []byte) []byte { return appendOrigin(b, &m.Value) }

func (m *Absorb) append(b []byte) []byte {
	b = append(append(b, m.Genesis[:]...), m.From[:]...)
	b = binary.AppendUvarint(b, m.Attempt)
	b = binary.AppendUvarint(b, m.Forced)
	b = binary.AppendUvarint(b, m.Commands)
	return appendBool(appendBool(b, m.Done), m.Lost)
}

func (m *Verdict) append(b []byte) []byte {
	b = append(append(b, m.Genesis[:]...), m.Of[:]...)
	b = append(binary.AppendUvarint(b, m.Attempt), m.Verdict)
	b = binary.AppendUvarint(b, m.Forced)
	b = binary.AppendUvarint(b, m.Commands)
	b = appendBool(append(b, m.Into[:]...), m.Lost)
	return appendParents(b, m.Parents)
}

func appendParents(b []byte, parents []Parent) []byte {
	b = binary.AppendUvarint(b, uint64(len(parents)))
	for i := range parents {
		b = appendParent(b, &parents[i])
	}
	return b
}

func appendParent(b []byte, p *Parent) []byte {
	b = append(b, p.Genesis[:]...)
	b = binary.AppendUvarint(b, p.Raft)
	b = binary.AppendUvarint(b, p.Last)
	b = binary.AppendUvarint(b, p.Term)
	b = binary.AppendUvarint(b, p.Commands)
	return appendBool(append(b, byte(p.Reason)), p.Lossy)
}

func (m *Repropose) append(b []byte) []byte {
	b = append(append(b, m.Genesis[:]...), m.From[:]...)
	b = binary.AppendUvarint(b, m.Attempt)
	b = binary.AppendUvarint(b, m.At)
	b = binary.AppendUvarint(b, uint64(len(m.Items)))
	for i := range m.Items {
		x := &m.Items[i]
		b = binary.AppendUvarint(b, x.Session)
		b = binary.AppendUvarint(b, x.Number)
		b = binary.AppendUvarint(b, uint64(x.Count))
		b = binary.AppendUvarint(b, uint64(len(x.Payload)))
		b = append(b, x.Payload...)
	}
	return b
}

func (m *Reproposed) append(b []byte) []byte {
	b = append(append(b, m.Genesis[:]...), m.Of[:]...)
	return binary.AppendUvarint(binary.AppendUvarint(b, m.Attempt), m.At)
}

func (m *Muster) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, m.Genesis[:]...), m.Round)
	b = binary.AppendUvarint(appendBool(append(b, byte(m.Reason)), m.Peek), m.Known)
	return appendUints(b, m.Ended)
}

func (m *Dismiss) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.Genesis[:]...), m.Round)
}

func (m *Standing) append(b []byte) []byte {
	b = append(b, m.Genesis[:]...)
	for _, v := range []uint64{m.Round, m.Member, m.Term, m.Last, m.Commands} {
		b = binary.AppendUvarint(b, v)
	}
	return appendBool(b, m.Refused)
}

func (m *Fork) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, m.Genesis[:]...), m.Round)
	return appendBool(append(b, byte(m.Reason)), m.Lossy)
}
