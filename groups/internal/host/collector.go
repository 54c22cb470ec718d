package host

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/internal/metric"
)

// number is a counter, or a gauge of whole numbers. The zero value is ready for use.
type number struct{ v atomic.Uint64 }

func (n *number) Inc()          { n.v.Add(1) }
func (n *number) Add(x float64) { n.v.Add(uint64(x)) }
func (n *number) Set(x float64) { n.v.Store(uint64(x)) }

// Histograms have buckets each twice as wide as the one before.
const (
	buckets    = 20
	callFirst  = 25 * time.Microsecond // upper bound of the first bucket of calls
	fetchFirst = time.Millisecond      // and of fetches
)

// histogram counts durations. The zero value is ready for use.
type histogram struct {
	counts [buckets + 1]atomic.Uint64 // the last is for what is beyond all bounds
	sum    atomic.Int64
}

// observe counts a duration. first is the upper bound of the first bucket.
func (h *histogram) observe(d, first time.Duration) {
	i := 0
	if d > first {
		i = min(bits.Len64(uint64((d-1)/first)), buckets)
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// collector shows the numbers of groups. Meters of one label, which several networks of one name in a process may have,
// are added up; of gauges the largest counts.
type collector struct {
	series  []series
	calls   *prometheus.Desc
	latency *prometheus.Desc
	fetches *prometheus.Desc
	images  *prometheus.Desc

	mu     sync.Mutex // guards the following field
	meters map[*groupMetrics]struct{}
}

// series is a number that every group has.
type series struct {
	desc  *prometheus.Desc
	gauge bool
	of    func(*groupMetrics) *number
}

func newCollector(part *metric.Part) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return part.Desc(name, help, append([]string{"group"}, labels...)...)
	}
	c := &collector{
		meters:  make(map[*groupMetrics]struct{}),
		calls:   desc("calls", "Calls of this member by outcome.", "outcome"),
		latency: desc("call_seconds", "Time from submitting a call to its commands being applied here."),
		fetches: desc("fetch_seconds", "Time from the beginning of a fetch of the state to the machine being ready."),
		images:  desc("images", "Images of the state written for members that may need it, by outcome.", "outcome"),
	}
	add := func(gauge bool, name, help string, of func(*groupMetrics) *number) {
		c.series = append(c.series, series{desc(name, help), gauge, of})
	}
	add(true, "bonds_active", "Peers of the group with a proven link.", func(m *groupMetrics) *number { return &m.bonds })
	add(true, "raft_committed", "Index of the last command applied here.", func(m *groupMetrics) *number { return &m.committed })
	add(true, "raft_committee_voters", "Voting members.", func(m *groupMetrics) *number { return &m.voters })
	add(true, "raft_committee_non_voters", "Members without a vote.", func(m *groupMetrics) *number { return &m.nonVoters })
	add(true, "raft_committee_size", "Members.", func(m *groupMetrics) *number { return &m.size })
	add(true, "online", "1 while the group takes commands here.", func(m *groupMetrics) *number { return &m.online })
	add(true, "failed", "1 while the group is over here because it failed and the program still has a handle of it.", func(m *groupMetrics) *number { return &m.broken })
	add(true, "log_entries", "Entries in the log.", func(m *groupMetrics) *number { return &m.logEntries })
	add(true, "log_bytes", "Bytes of the entries in the log.", func(m *groupMetrics) *number { return &m.logBytes })
	add(true, "quorum_lost", "1 while there is no majority of voters.", func(m *groupMetrics) *number { return &m.quorumLost })
	add(true, "stuck", "1 while this member cannot get the state of the group.", func(m *groupMetrics) *number { return &m.stuck })
	add(true, "machine_slow_seconds", "For how long the present call of the state machine has lasted, 0 unless that is longer than 5 s.", func(m *groupMetrics) *number { return &m.slow })
	add(true, "own_ticket_refused", "1 while the validators of the group refuse this node's own ticket.", func(m *groupMetrics) *number { return &m.unwelcome })
	add(false, "bonds_messages_sent", "Group messages sent.", func(m *groupMetrics) *number { return &m.sent })
	add(false, "bonds_messages_received", "Group messages received.", func(m *groupMetrics) *number { return &m.received })
	add(false, "bonds_bytes_sent", "Bytes of group messages sent.", func(m *groupMetrics) *number { return &m.sentBytes })
	add(false, "bonds_bytes_received", "Bytes of group messages received.", func(m *groupMetrics) *number { return &m.receivedBytes })
	add(false, "raft_elections", "Candidacies of this member.", func(m *groupMetrics) *number { return &m.elections })
	add(false, "raft_leader_changes", "Changes of the leader as seen by this member.", func(m *groupMetrics) *number { return &m.leaders })
	add(false, "commands_applied", "Commands applied here, whoever proposed them.", func(m *groupMetrics) *number { return &m.commands })
	add(false, "messages_dropped", "Messages not sent because the link was full or gone.", func(m *groupMetrics) *number { return &m.dropped })
	add(false, "states_installed", "States fetched from other members and taken over.", func(m *groupMetrics) *number { return &m.installed })
	add(false, "fetches_failed", "Fetches of the state that failed.", func(m *groupMetrics) *number { return &m.fetchesFailed })
	add(false, "state_bytes_sent", "Bytes of state sent to members that fetch it.", func(m *groupMetrics) *number { return &m.stateSent })
	add(false, "state_bytes_received", "Bytes of state fetched from other members.", func(m *groupMetrics) *number { return &m.stateReceived })
	add(false, "states_diverged", "Images that differ from what the group agreed on.", func(m *groupMetrics) *number { return &m.diverged })
	add(false, "merges", "Histories of the group that became one, as seen by this member.", func(m *groupMetrics) *number { return &m.merges })
	add(false, "forks", "Times that this member went on without a lost majority.", func(m *groupMetrics) *number { return &m.forks })
	add(false, "diverged_commands", "Commands of merged histories that were not taken over as they are.", func(m *groupMetrics) *number { return &m.untaken })
	return c
}

func (c *collector) add(m *groupMetrics) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meters[m] = struct{}{}
}

func (c *collector) remove(m *groupMetrics) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.meters, m)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, s := range c.series {
		out <- s.desc
	}
	out <- c.calls
	out <- c.latency
	out <- c.fetches
	out <- c.images
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	byLabel := make(map[string][]*groupMetrics, len(c.meters))
	for m := range c.meters {
		byLabel[m.label] = append(byLabel[m.label], m)
	}
	c.mu.Unlock()
	for label, ms := range byLabel {
		sum := func(of func(*groupMetrics) *number) (total float64) {
			for _, m := range ms {
				total += float64(of(m).v.Load())
			}
			return total
		}
		for _, s := range c.series {
			if !s.gauge {
				out <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, sum(s.of), label)
				continue
			}
			most := 0.0
			for _, m := range ms {
				most = max(most, float64(s.of(m).v.Load()))
			}
			out <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, most, label)
		}
		for i, o := range outcomes {
			calls := sum(func(m *groupMetrics) *number { return &m.calls[i] })
			if o.failure == 0 || calls > 0 {
				out <- prometheus.MustNewConstMetric(c.calls, prometheus.CounterValue, calls, label, o.label)
			}
		}
		out <- prometheus.MustNewConstMetric(c.images, prometheus.CounterValue,
			sum(func(m *groupMetrics) *number { return &m.images }), label, "written")
		out <- prometheus.MustNewConstMetric(c.images, prometheus.CounterValue,
			sum(func(m *groupMetrics) *number { return &m.imagesFailed }), label, "failed")
		out <- histogramOf(c.latency, callFirst, label, ms, func(m *groupMetrics) *histogram { return &m.latency })
		out <- histogramOf(c.fetches, fetchFirst, label, ms, func(m *groupMetrics) *histogram { return &m.fetchTime })
	}
}

func histogramOf(desc *prometheus.Desc, first time.Duration, label string, ms []*groupMetrics, of func(*groupMetrics) *histogram) prometheus.Metric {
	bounds := make(map[float64]uint64, buckets)
	var count uint64
	var sum time.Duration
	for i := range buckets + 1 {
		for _, m := range ms {
			count += of(m).counts[i].Load()
		}
		if i < buckets {
			bounds[(first << i).Seconds()] = count
		}
	}
	for _, m := range ms {
		sum += time.Duration(of(m).sum.Load())
	}
	return prometheus.MustNewConstHistogram(desc, count, sum.Seconds(), bounds, label)
}
