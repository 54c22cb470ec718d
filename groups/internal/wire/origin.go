package wire

import "encoding/binary"

// Origin says how a history began. All members of the history know it, in the same words.
type Origin struct {
	Genesis  Genesis
	Founders []Member // its first voters
	Forced   uint64   // forks that were forced on the way here
	Parents  []Parent // histories it was forked off from, the nearest first; empty if it was founded
}

// Parent is a history that another one was forked off from.
type Parent struct {
	Genesis  Genesis
	Raft     uint64 // raft index up to which both have the same log for sure
	Last     uint64 // raft index of the last entry that was taken over, and its term
	Term     uint64
	Commands uint64 // user index at the fork
	Reason   Reason // of the fork
	Lossy    bool   // commands that were acknowledged in the parent may be missing
}

// Reason is why a history was forked off.
type Reason uint8

const (
	Proven       Reason = iota + 1 // the voters that are missing were proven never to come back
	Ordered                        // an operator wanted it
	Availability                   // the group prefers to go on, see the group's settings
)

// parentsMost bounds the parents in an Origin; the farthest are dropped.
const parentsMost = 64

// Fork returns the origin of a history that the founder forks off from o.
func (o *Origin) Fork(g Genesis, founder Member, p Parent) Origin {
	child := Origin{Genesis: g, Founders: []Member{founder}, Forced: o.Forced}
	if p.Reason != Proven {
		child.Forced++
	}
	p.Genesis = o.Genesis
	child.Parents = append([]Parent{p}, o.Parents...)
	if len(child.Parents) > parentsMost {
		child.Parents = child.Parents[:parentsMost]
	}
	return child
}

// Common returns the raft index up to which two histories have the same log, zero if they have nothing in common.
func Common(a, b *Origin) uint64 {
	common := uint64(0)
	const end = ^uint64(0)
	reach := end // how far the log of a is that of the history at hand
	for i := -1; i < len(a.Parents); i++ {
		g := a.Genesis
		if i >= 0 {
			g, reach = a.Parents[i].Genesis, min(reach, a.Parents[i].Raft)
		}
		other := end
		for j := -1; j < len(b.Parents); j++ {
			h := b.Genesis
			if j >= 0 {
				h, other = b.Parents[j].Genesis, min(other, b.Parents[j].Raft)
			}
			if g == h {
				common = max(common, min(reach, other))
			}
		}
	}
	return common
}

func appendOrigin(b []byte, o *Origin) []byte {
	b = append(b, o.Genesis[:]...)
	b = binary.AppendUvarint(b, o.Forced)
	b = binary.AppendUvarint(b, uint64(len(o.Founders)))
	for i := range o.Founders {
		b = appendMember(b, &o.Founders[i])
	}
	return appendParents(b, o.Parents)
}

// Least sizes of what is counted in messages.
const (
	memberMin = 1 + 32 + 1 + 1
	parentMin = 16 + 1 + 1 + 1 + 1 + 1 + 1
	goneMin   = 16 + 16 + 1 + 1
)

func (r *reader) origin() Origin {
	o := Origin{Genesis: r.genesis(), Forced: r.uint()}
	if n := r.count(memberMin); n > 0 {
		o.Founders = make([]Member, n)
		for i := range o.Founders {
			o.Founders[i] = r.member()
		}
	}
	o.Parents = r.parents()
	return o
}

func (r *reader) parents() []Parent {
	n := r.count(parentMin)
	if n > parentsMost {
		r.bad = true
	}
	if n == 0 || r.bad {
		return nil
	}
	out := make([]Parent, n)
	for i := range out {
		out[i] = Parent{
			Genesis: r.genesis(), Raft: r.uint(), Last: r.uint(), Term: r.uint(), Commands: r.uint(), Reason: Reason(r.byte()), Lossy: r.bool(),
		}
	}
	return out
}

func (r *reader) gone() []Gone {
	n := r.count(goneMin)
	if n == 0 || r.bad {
		return nil
	}
	out := make([]Gone, n)
	for i := range out {
		out[i] = Gone{From: r.genesis(), Into: r.genesis(), Round: r.uint(), Lost: r.bool()}
	}
	return out
}

// AppendOrigin appends an encoded origin.
func AppendOrigin(b []byte, o *Origin) []byte { return appendOrigin(b, o) }

// DecodeOrigin reads what AppendOrigin wrote and returns what follows it.
func DecodeOrigin(b []byte) (o Origin, rest []byte, err error) {
	r := reader{b: b}
	o = r.origin()
	if r.bad {
		return Origin{}, nil, ErrMalformed
	}
	return o, r.b, nil
}

// AppendGone appends encoded histories that are over.
func AppendGone(b []byte, gone []Gone) []byte {
	b = binary.AppendUvarint(b, uint64(len(gone)))
	for _, g := range gone {
		b = append(append(b, g.From[:]...), g.Into[:]...)
		b = appendBool(binary.AppendUvarint(b, g.Round), g.Lost)
	}
	return b
}

// DecodeGone reads what AppendGone wrote and returns what follows it.
func DecodeGone(b []byte) (gone []Gone, rest []byte, err error) {
	r := reader{b: b}
	gone = r.gone()
	if r.bad {
		return nil, nil, ErrMalformed
	}
	return gone, r.b, nil
}

// AppendBallot appends an encoded ballot.
func AppendBallot(b []byte, x Ballot) []byte { return appendBallot(b, x) }

// DecodeBallot reads what AppendBallot wrote and returns what follows it.
func DecodeBallot(b []byte) (x Ballot, rest []byte, err error) {
	r := reader{b: b}
	x = r.ballot()
	if r.bad {
		return Ballot{}, nil, ErrMalformed
	}
	return x, r.b, nil
}
