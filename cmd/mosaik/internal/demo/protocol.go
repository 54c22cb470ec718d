package demo

// The demo and its worker processes talk in lines: orders go to a worker's standard input, one word each; reports come
// back from its standard output, one JSON object each. A worker whose standard input ends stops, so that none outlives
// the demo.

// Orders.
const (
	orderGo    = "go"    // start sending commands
	orderPause = "pause" // stop sending, wait for what is under way
	orderAudit = "audit" // report the tallies of all names given after the word, by strong reads
)

// report is what a worker says. Every report carries the full status; Kind tells what caused it.
type report struct {
	Kind string `json:"kind"` // "status", "paused" or "audit"

	Peer      string `json:"peer"`      // short id
	Peers     int    `json:"peers"`     // other nodes in the catalog
	Members   int    `json:"members"`   // of the group
	Voters    int    `json:"voters"`    // of them
	Leader    string `json:"leader"`    // short id, empty if unknown
	Leading   bool   `json:"leading"`   // this worker leads
	Online    bool   `json:"online"`    //
	Why       string `json:"why"`       // not online
	Committed uint64 `json:"committed"` // commands applied here
	Total     int64  `json:"total"`     // local sum

	Acked   int64 `json:"acked"`   // amount of all acknowledged
	Unknown int64 `json:"unknown"` // amount of those whose outcome was not learned
	Calls   int64 `json:"calls"`   // number of acknowledged commands
	P50     int64 `json:"p50"`     // latency of acknowledged commands, microseconds
	P99     int64 `json:"p99"`
	Gap     int64 `json:"gap"` // longest time without an acknowledgement while sending, milliseconds

	Tallies map[string]int64 `json:"tallies,omitempty"` // of an audit: by name
	Error   string           `json:"error,omitempty"`
}
