package groups

import (
	"io"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// Snapshotter is an optional interface of a [Machine]. A group whose machine has it cuts its log, and gives members that
// join late the state instead; see [Retention]. Without it every member keeps the whole log in memory for as long as the
// group lives, and a member that joins applies all commands there ever were. All members must run machines that have it,
// or none: a member whose machine cannot read a state cannot join a group that has cut its log.
//
// The state must be written canonically: two machines that went through the same commands must write the same bytes,
// in particular not in the iteration order of a Go map. All members write out the state at the same position of the log,
// and the group agrees on its hash, so a member that joins can fetch parts from several of them at once and knows that
// they fit. A member whose bytes have another hash is left out and reports [StateDiverged]: either its machine is not
// deterministic, so that its answers are wrong as well, or equal states are written in different ways. Then there may be
// only the leader to fetch from.
type Snapshotter interface {
	// Snapshot returns a view of the state as it is now. The group calls it between two calls of Apply, and neither
	// applies nor answers queries meanwhile, so it should not copy a large state: keep it in a structure that can be
	// copied on write. A state of up to a few MiB can be encoded at once, see [BytesView].
	//
	// If it returns an error, or panics, the group goes on without, and asks again every second while a member needs the
	// state. Status of both members says why. A member that gets the state from nobody is stuck, see [ErrStuck].
	Snapshot() (View, error)

	// Restore reads what a View has written. It is called on a machine that newMachine has just made, in a goroutine of
	// its own while the data arrives, and the machine is used only if it returns nil. What it leaves unread is skipped.
	// It must return when reading fails. If it returns an error, or panics, it is called again, on another machine, with
	// pauses up to half a minute; until it succeeds the member is stuck, see [ErrStuck]. Data that comes from members of the
	// group is what they wrote: it has been checked against its hash.
	Restore(r io.Reader) error
}

// View is the state of a machine at one moment. It must not change, whatever the machine applies meanwhile.
type View interface {
	// WriteTo writes the whole state to w, the same bytes each time. A state of more than 8 MiB is not kept as bytes:
	// the group has it written once to hash it, and again for each member that fetches it. So WriteTo may be called any
	// number of times, concurrently with itself and with everything the machine does. Writes to w may take long; WriteTo
	// must return soon once one has failed.
	WriteTo(w io.Writer) (int64, error)

	// Release says that the view is needed no longer. It is called exactly once, when no WriteTo is under way.
	Release()
}

// BytesView returns a view of a state that is encoded already. data must not be changed any more.
func BytesView(data []byte) View { return bytesView(data) }

type bytesView []byte

func (v bytesView) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(v)
	return int64(n), err
}

func (bytesView) Release() {}

// View implements host.Snapshotter.
func (a *adapter[C, Q, R]) View() (host.View, error) {
	a.mu.lock() // a snapshot may mark what is shared from now on
	defer a.mu.unlock()
	a.doing.Set(host.Viewing, core.Index(a.index))
	defer a.doing.Done()
	return a.machine.(Snapshotter).Snapshot()
}

// Prepare implements host.Snapshotter.
func (a *adapter[C, Q, R]) Prepare(r io.Reader) (any, error) {
	m := a.fresh()
	if err := any(m).(Snapshotter).Restore(r); err != nil {
		return nil, err
	}
	return m, nil
}

// Install implements host.Snapshotter.
func (a *adapter[C, Q, R]) Install(prepared any, index core.Index) {
	a.mu.lock()
	defer a.mu.unlock()
	a.install(prepared.(Machine[C, Q, R]))
	a.index = Index(index)
}
