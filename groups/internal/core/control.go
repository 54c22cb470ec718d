package core

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/mosaik-go/mosaik/groups/internal/genesis"
)

// A control entry is a normal entry of the log that carries no commands and counts no user index: a zero, where a run has
// its session, the kind, and what the kind needs.

// Kinds of control entries. The numbers are part of the protocol.
const (
	controlMark     byte = 1 // about snapshots
	controlFreeze        = genesis.Freeze
	controlDissolve      = genesis.Dissolve
)

// errControl reports a control entry that this version does not know. It cannot be skipped: replicas would differ.
var errControl = errors.New("core: unknown control entry in the log, written by a newer version of this program")

func isControl(data []byte) bool { return len(data) > 0 && data[0] == 0 }

// control returns the data of a control entry.
func control(kind byte, payload []byte) []byte {
	return append([]byte{0, kind}, payload...)
}

// controlOK reports whether a control entry can be read. One of a kind that this program does not know can: it ends this
// member, and not those that run a newer program.
func controlOK(data []byte) bool {
	kind, payload, err := splitControl(data)
	switch {
	case err != nil:
		return false
	case kind == controlMark:
		_, err := decodeMark(payload)
		return err == nil
	case kind >= controlFreeze && kind <= controlDissolve:
		_, err := genesis.Decode(kind, payload)
		return err == nil
	default:
		return true
	}
}

// splitControl returns the kind and payload of a control entry.
func splitControl(data []byte) (kind byte, payload []byte, err error) {
	if len(data) < 2 {
		return 0, nil, errControl
	}
	return data[1], data[2:], nil
}

// commitControl follows a control entry that is committed. out is the run that it ends.
func (r *Replica) commitControl(e *raftpb.Entry, out *Apply) error {
	kind, payload, err := splitControl(e.Data)
	if err != nil {
		return err
	}
	switch {
	case kind == controlMark:
		return r.commitMark(e, payload, out)
	case kind >= controlFreeze && kind <= controlDissolve:
		return r.commitMerge(e.GetIndex(), kind, payload)
	default:
		return fmt.Errorf("%w: kind %d", errControl, kind)
	}
}

// followControl keeps what a leader knows of the end of its log in step with a control entry there.
func (l *leading) followControl(data []byte) error {
	kind, payload, err := splitControl(data)
	if err != nil {
		return err
	}
	switch {
	case kind == controlMark:
		return nil
	case kind >= controlFreeze && kind <= controlDissolve:
		x, err := genesis.Decode(kind, payload)
		if err != nil {
			return err
		}
		l.line.Apply(&x)
		return nil
	default:
		return fmt.Errorf("%w: kind %d", errControl, kind)
	}
}

// proposeControl puts a control entry into the log. It reports whether it did.
func (r *Replica) proposeControl(kind byte, payload []byte) bool {
	r.drainRaft() // so that the log shows where the entry will be
	l := &r.leader
	if !r.isLeader() || l.fresh || r.fatal != nil {
		return false
	}
	last, err := r.log.LastIndex()
	if err != nil {
		return false
	}
	data := control(kind, payload)
	if err := r.rn.Propose(data); err != nil {
		return false
	}
	r.stirred = true
	if err := l.followControl(data); err != nil {
		r.fatal = err
		return false
	}
	l.controlAt = last + 1
	return true
}
