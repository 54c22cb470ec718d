package groups

import "fmt"

// Index is a position in the history of a group: the command with index i is the i-th that the group committed. Zero
// is before the first command. Internal entries of the consensus protocol do not count.
type Index uint64

// Range is a run of indices, both ends included. The commands of one call always have a contiguous range.
type Range struct{ First, Last Index }

// Len returns the number of indices in the range, zero for the zero value.
func (r Range) Len() int {
	if r.First == 0 || r.Last < r.First {
		return 0
	}
	return int(r.Last-r.First) + 1
}

// Contains reports whether i lies in the range.
func (r Range) Contains(i Index) bool { return r.First <= i && i <= r.Last }

// String returns "first-last", or the index alone when there is only one.
func (r Range) String() string {
	if r.First == r.Last {
		return fmt.Sprint(uint64(r.First))
	}
	return fmt.Sprintf("%d-%d", uint64(r.First), uint64(r.Last))
}

// Result is an answer of the state machine. For a command, Index is the command's own index; for a query it is the
// number of commands that had been applied to the state that the query saw.
type Result[R any] struct {
	Value R
	Index Index
}

// Batch is what the commands of one ExecuteMany answered, in their order, and the indices they got.
type Batch[R any] struct {
	Values []R
	Range  Range
}

// Consistency says how fresh the answer of a query must be.
type Consistency uint8

const (
	// Weak reads what this member has applied, without asking anyone; it waits only while the machine is at work. It works
	// offline too, and may lag behind other members by any amount, but never behind what this member's own handles have seen.
	Weak Consistency = iota
	// Strong reads are linearizable: the answer reflects every command that was acknowledged to anyone before the query
	// began. The member asks the leader, which confirms with a majority that it still leads (ReadIndex, section 6.4 of
	// Ongaro's dissertation), and then answers from its own state once that is recent enough.
	Strong
)

// String returns "weak" or "strong".
func (c Consistency) String() string {
	switch c {
	case Weak:
		return "weak"
	case Strong:
		return "strong"
	default:
		return fmt.Sprintf("consistency %d", uint8(c))
	}
}
