package core

import (
	"encoding/binary"
	"errors"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
	"github.com/mosaik-go/mosaik/groups/internal/member"
	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// State is the engine's part of a snapshot: everything that it has derived from the log up to some position. It depends
// on the log alone, so all members have the same bytes for the same position.
type State struct {
	Origin wire.Origin
	Line   genesis.Line
	Index  uint64 // raft index
	Term   uint64 // of that entry
	Conf   *raftpb.ConfState
	User   Index         // commands up to here
	Table  *member.Table // with the position of each member's session
}

const stateVersion = 1

var errState = errors.New("core: malformed state in a snapshot")

// Encode returns the state as bytes:
//
//	version, origin, line, index, term, configuration, user index, table
func (s *State) Encode() []byte {
	b := append(make([]byte, 0, 256+64*s.Table.Len()), stateVersion)
	b = wire.AppendOrigin(b, &s.Origin)
	b = s.Line.Append(b)
	b = binary.AppendUvarint(b, s.Index)
	b = binary.AppendUvarint(b, s.Term)
	b = wire.AppendConf(b, s.Conf)
	b = binary.AppendUvarint(b, s.User)
	return member.AppendTable(b, s.Table)
}

// DecodeState reads what Encode wrote.
func DecodeState(b []byte) (*State, error) {
	if len(b) == 0 || b[0] != stateVersion {
		return nil, errState
	}
	s := new(State)
	var err error
	if s.Origin, b, err = wire.DecodeOrigin(b[1:]); err != nil || !validOrigin(&s.Origin) {
		return nil, errState
	}
	if s.Line, b, err = genesis.DecodeLine(b); err != nil {
		return nil, errState
	}
	bad := false
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	s.Index, s.Term = uvarint(), uvarint()
	if s.Conf, b, err = wire.DecodeConf(b); err != nil {
		return nil, errState
	}
	s.User = uvarint()
	if s.Table, b, err = member.DecodeTable(b); err != nil {
		return nil, errState
	}
	if bad || len(b) > 0 || s.Index == 0 || s.Term == 0 || len(s.Conf.Voters) == 0 {
		return nil, errState
	}
	return s, nil
}

// stateAt returns the state after everything that was handed out and the entry at the given position, which carries
// nothing.
func (r *Replica) stateAt(index, term uint64) *State {
	return &State{
		Origin: r.origin, Line: r.line, Index: index, Term: term, Conf: r.conf, User: r.index, Table: r.table,
	}
}

// inherited returns the state that a history has which was forked off behind this one.
func (s *State) inherited(by wire.Origin) *State {
	return &State{
		Origin: by, Line: s.Line, Index: s.Index, Term: s.Term, Conf: founding(by.Founders), User: s.User,
		Table: member.NewTable(by.Founders, s.Table.Sessions),
	}
}

// adopt takes over the state of a snapshot in place of what was derived from the log so far.
func (r *Replica) adopt(s *State) {
	r.origin, r.line = s.Origin, s.Line
	r.table, r.conf, r.index, r.handed = s.Table, s.Conf, s.User, s.Index
	r.dirty = true
}

// fits reports whether the table and the configuration have the same members with the same votes.
func (s *State) fits() bool {
	if s.Table.Len() != len(s.Conf.GetVoters())+len(s.Conf.GetLearners()) {
		return false
	}
	for _, row := range s.Table.All() {
		if slices.Contains(s.Conf.GetVoters(), row.ID) != row.Voter || !knows(s.Conf, row.ID) {
			return false
		}
	}
	return true
}

// confOK reports whether a configuration can be one of this engine's, which changes one member at a time. The library
// does not survive others.
func confOK(c *raftpb.ConfState) bool {
	if len(c.GetVoters()) == 0 || len(c.GetVotersOutgoing()) > 0 || len(c.GetLearnersNext()) > 0 || c.GetAutoLeave() {
		return false
	}
	seen := make(map[uint64]bool)
	for _, list := range [][]uint64{c.GetVoters(), c.GetLearners()} {
		for _, m := range list {
			if !validMember(m) || seen[m] {
				return false
			}
			seen[m] = true
		}
	}
	return true
}
