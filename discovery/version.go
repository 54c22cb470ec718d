package discovery

import (
	"cmp"
	"fmt"
	"strconv"
	"time"
)

// Version orders the entries of one peer: first by incarnation, then by change. Both parts are milliseconds since the
// Unix epoch by the peer's own clock.
type Version struct {
	Start  int64 // when the node was opened
	Update int64 // when its entry last changed
}

// Compare returns -1, 0 or +1.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Start, o.Start), cmp.Compare(v.Update, o.Update))
}

// NewerThan reports whether v is strictly newer than o.
func (v Version) NewerThan(o Version) bool { return v.Compare(o) > 0 }

// String returns start.update in milliseconds.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Start, v.Update) }

// Short returns the change part modulo one week, which is enough to tell versions apart in logs.
func (v Version) Short() string {
	const week = 7 * 24 * 60 * 60 * 1000
	return strconv.FormatInt(v.Update%week, 10)
}

// next returns the version of a change made at the given time. It is always newer.
func (v Version) next(now time.Time) Version {
	v.Update = max(v.Update, now.UnixMilli()) + 1
	return v
}
