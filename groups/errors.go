package groups

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
)

// Outcomes of a call. Every error of Execute, ExecuteMany, Feed and FeedMany wraps [ErrNotApplied] or
// [ErrOutcomeUnknown], never both, so that a caller always knows whether the commands took effect. If the context ended
// the wait, its error is wrapped too.
var (
	// ErrNotApplied reports that the commands had no effect and never will: the call may be repeated.
	ErrNotApplied = errors.New("groups: not applied")

	// ErrOutcomeUnknown reports that the commands were sent and the wait for them ended: they may have been applied, or
	// be applied later, but at most once.
	ErrOutcomeUnknown = errors.New("groups: outcome unknown")
)

// Reasons why a call was not applied; each wraps [ErrNotApplied].
var (
	// ErrOffline reports that no leader could be reached within the patience of the group.
	ErrOffline = fmt.Errorf("%w: no leader could be reached", ErrNotApplied)

	// ErrNoCommands reports a call without commands.
	ErrNoCommands = fmt.Errorf("%w: no commands", ErrNotApplied)

	// ErrTooLarge reports that the encoded commands of one call exceed [MaxCallBytes].
	ErrTooLarge = fmt.Errorf("%w: larger than a call may be", ErrNotApplied)

	// ErrOverloaded reports that too many calls of this member were waiting for too long.
	ErrOverloaded = fmt.Errorf("%w: too many calls are waiting", ErrNotApplied)
)

var (
	// ErrClosed reports that the handle or the group on this node is closed.
	ErrClosed = host.ErrClosed

	// ErrStuck reports that this member cannot get the state of the group: its machine's Restore fails, or no other
	// member can write out its own. It goes with [ErrNotApplied] or [ErrOutcomeUnknown], and, if the member's own machine
	// is to blame, with the error of that. Other members serve as before; this one goes on trying.
	ErrStuck = host.ErrStuck

	// ErrMachineBusy reports that the group on this node is over, but that a method of its machine has not returned, or
	// one of a view. Its log, and one goroutine or two, are released when it does; until then Join fails with it too.
	ErrMachineBusy = host.ErrMachineBusy

	// ErrSchemaMismatch reports that the store has the group's log with other commands than those of the program: another
	// codec, or a type that cannot be read as that of the program. [Join] fails with it, and the store is as it was. See
	// "Changing a machine" in docs/groups.md for what may change.
	ErrSchemaMismatch = errors.New("groups: the commands in the log are of another type")

	// ErrTypeMismatch reports that this node already takes part in the group with another machine type, codec or
	// storage: the handles of one node share one machine.
	ErrTypeMismatch = errors.New("groups: the group is already joined on this node with different types")
)

// MaxCallBytes is the limit for the encoded commands of one call, which are atomic in the log.
const MaxCallBytes = 1 << 20

// PanicError is wrapped by the errors of a group that failed because its machine panicked, usually in Apply. The panic does
// not reach the program: the group stops on this node, its Status says why, and every call that waited fails. Since all
// members apply the same command, all of them usually fail alike. It is found with [errors.As], has the fields
//
//	Value   any    // what was passed to panic
//	Stack   []byte // of the goroutine that panicked, as [runtime/debug.Stack] writes it
//	Index   uint64 // of the command; zero if it was not Apply or ApplyBatch that panicked
//	Count   int    // 1; after a panic of ApplyBatch the number of its commands: it is one of those from Index on
//	Command any    // the command, of the machine's command type C; a []C if Count is not 1; nil if it cannot be decoded
//
// and unwraps to Value if that is an error. The commands before Index were applied. The node's log shows Index and Stack,
// not the command.
type PanicError = host.PanicError

// callError is why a call failed: its outcome, and the cause when there is one.
type callError struct {
	op      string
	outcome error // wraps ErrNotApplied or is ErrOutcomeUnknown
	cause   error // may be nil
	note    string
}

func (e *callError) Error() string {
	text := e.op + ": " + strings.TrimPrefix(e.outcome.Error(), "groups: ")
	if e.cause != nil {
		text += ": " + strings.TrimPrefix(e.cause.Error(), "groups: ")
	}
	if e.note != "" {
		text += " (" + e.note + ")"
	}
	return text
}

func (e *callError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.outcome}
	}
	return []error{e.outcome, e.cause}
}

func notApplied(op string, cause error) error {
	return &callError{op: op, outcome: ErrNotApplied, cause: cause}
}

// failure turns the engine's verdict on a call into an error.
func failure(op string, f core.Failure, cause error) error {
	e := &callError{op: op, cause: cause}
	switch f {
	case host.Rejected, host.StuckCall:
		e.outcome = ErrNotApplied
	case core.FailedOffline:
		e.outcome = ErrOffline
	case core.FailedTooLarge:
		e.outcome = ErrTooLarge
	case core.FailedOverloaded:
		e.outcome = ErrOverloaded
	case core.FailedCancelled:
		e.outcome = ErrNotApplied
	case core.FailedClosed:
		e.outcome = ErrNotApplied
		if cause == nil {
			e.cause = ErrClosed
		}
	default:
		e.outcome = ErrOutcomeUnknown
	}
	return e
}
