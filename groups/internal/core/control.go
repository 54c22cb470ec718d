package core

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// A control entry is an entry of the engine's own in the log: a zero byte, where an entry with commands has a member's
// id, then its kind and what belongs to it. It counts no command.

// Kinds of control entries. The numbers are part of the log's format.
const (
	controlMark byte = 1 // about snapshots
)

// control returns the data of a control entry.
func control(kind byte, payload []byte) []byte {
	return append([]byte{0, kind}, payload...)
}

// isControl reports whether the data of a normal entry is that of a control entry.
func isControl(data []byte) bool { return len(data) > 0 && data[0] == 0 }

// controlOK reports whether a control entry can be read. One of a kind that this program does not know can: it ends this
// member, and not those that run a newer program.
func controlOK(data []byte) bool {
	switch {
	case len(data) < 2:
		return false
	case data[1] == controlMark:
		_, err := decodeMark(data[2:])
		return err == nil
	default:
		return true
	}
}

// commitControl carries out a committed control entry. out is the run that it ends.
func (r *Replica) commitControl(e *raftpb.Entry, out *Apply) error {
	if len(e.Data) < 2 {
		return errEntry
	}
	switch kind, payload := e.Data[1], e.Data[2:]; kind {
	case controlMark:
		return r.commitMark(e, payload, out)
	default:
		return fmt.Errorf("core: control entry of unknown kind %d: written by a newer version of this program", kind)
	}
}
