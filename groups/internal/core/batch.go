package core

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
)

// A log entry that carries commands is a list of runs. A run is calls of one session with consecutive numbers:
//
//	session, number of the first call, number of calls, then for each call: commands, length, payload
//
// all integers as unsigned varints. An entry of the raft library's own, made when a leader is elected, is empty; one that
// begins with a zero is not a run, see control.go.

// errEntry reports an entry that cannot be read. Entries come from leaders, which write them with appendRun, so this is
// a broken invariant.
var errEntry = errors.New("core: malformed entry in the log")

// run is calls of one session.
type run struct {
	session uint64
	first   uint64 // number of the first call
	items   []wire.Item
}

// last returns the number of the last call.
func (r *run) last() uint64 { return r.first + uint64(len(r.items)) - 1 }

// runOverhead is more than a run, or an item, takes beside its payloads.
const runOverhead = 32

func appendRun(b []byte, r *run) []byte {
	b = binary.AppendUvarint(b, r.session)
	b = binary.AppendUvarint(b, r.first)
	b = binary.AppendUvarint(b, uint64(len(r.items)))
	for i := range r.items {
		b = binary.AppendUvarint(b, uint64(r.items[i].Count))
		b = binary.AppendUvarint(b, uint64(len(r.items[i].Payload)))
		b = append(b, r.items[i].Payload...)
	}
	return b
}

// eachItem calls begin for each run, with the number of its calls, and item for each of them; payloads point into data.
func eachItem(data []byte, begin func(session uint64, calls int), item func(number uint64, count int, payload []byte)) error {
	uvarint := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			data = nil
			return 0
		}
		data = data[n:]
		return v
	}
	for len(data) > 0 {
		session, number, calls := uvarint(), uvarint(), uvarint()
		if session == 0 || calls == 0 || calls > uint64(len(data))/2 {
			return errEntry // a call takes two bytes at least
		}
		begin(session, int(calls))
		for range calls {
			count, size := uvarint(), uvarint()
			if count == 0 || count > math.MaxUint32 || size > uint64(len(data)) {
				return errEntry
			}
			item(number, int(count), data[:size:size])
			data = data[size:]
			number++
		}
	}
	return nil
}
