package host

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/metric"
)

// metrics are the series of all groups of a node. Every series has the constant label network. Those of a group are plain
// numbers until they are read, see collector: a node may have thousands of groups.
type metrics struct {
	active      prometheus.Gauge
	resting     prometheus.Gauge
	pulses      prometheus.Counter
	pulseFrames prometheus.Counter
	handedOver  prometheus.Counter
	refused     *prometheus.CounterVec // by group and code; few groups ever refuse anybody
	groups      *collector
}

func newMetrics(reg prometheus.Registerer, network id.ID) (*metrics, error) {
	part := metric.Of(reg, "groups", network)
	m := &metrics{
		active:      part.Gauge("active", "Groups that this process takes part in."),
		resting:     part.Gauge("resting", "Groups of this process in which nothing goes on, so that only pulses are exchanged."),
		pulses:      part.Counter("pulses_sent", "Heartbeats of groups at rest, and answers to them."),
		pulseFrames: part.Counter("pulse_frames_sent", "Frames that carried the heartbeats of groups at rest and the answers to them, one per peer and time."),
		handedOver:  part.Counter("leaderships_handed_over", "Groups whose leadership this process gave away since it led too many."),
		refused:     part.CounterVec("bonds_refused", "Bonds refused, by reason.", "group", "reason"),
		groups:      metric.Register(part, newCollector(part)),
	}
	return m, part.Err()
}

// group returns the numbers of a group, which are shown until forget.
func (m *metrics) group(group id.ID) *groupMetrics {
	g := &groupMetrics{label: group.Short(), refusals: m.refused}
	m.groups.add(g)
	return g
}

// forget drops the series of a group that is over.
func (m *metrics) forget(g *groupMetrics) {
	m.groups.remove(g)
	m.refused.DeletePartialMatch(prometheus.Labels{"group": g.label})
}

// groupMetrics are the numbers of one group.
type groupMetrics struct {
	label    string
	refusals *prometheus.CounterVec

	bonds, committed, voters, nonVoters, size, online number
	logEntries, logBytes, quorumLost                  number

	sent, sentBytes, received, receivedBytes number
	elections, leaders, commands, dropped    number
	images, imagesFailed                     number
	installed, fetchesFailed                 number
	stateSent, stateReceived                 number
	diverged, merges, forks, untaken, stuck  number
	unwelcome, broken                        number
	slow                                     number // seconds

	calls     [len(outcomes)]number
	latency   histogram
	fetchTime histogram
}

// outcomes of calls.
var outcomes = [...]struct {
	failure core.Failure
	label   string
}{
	{0, "applied"},
	{core.FailedOffline, "offline"},
	{core.FailedTooLarge, "too_large"},
	{core.FailedOverloaded, "overloaded"},
	{core.FailedCancelled, "cancelled"},
	{core.FailedClosed, "closed"},
	{core.FailedUnknown, "unknown"},
	{Rejected, "rejected"},
	{StuckCall, "stuck"},
}

func (m *groupMetrics) traffic() bond.Traffic {
	return bond.Traffic{Sent: &m.sent, SentBytes: &m.sentBytes, Received: &m.received, ReceivedBytes: &m.receivedBytes}
}

// refused counts a bond that was.
func (m *groupMetrics) refused(reason string) { m.refusals.WithLabelValues(m.label, reason).Inc() }

// applied counts commands that the machine has applied, up to the index.
func (m *groupMetrics) applied(commands int, index core.Index) {
	m.commands.Add(float64(commands))
	m.committed.Set(float64(index))
}

// done counts a call that was applied here.
func (m *groupMetrics) done(d time.Duration) {
	m.failed(0)
	m.latency.observe(d, callFirst)
}

// failed counts a call that was not.
func (m *groupMetrics) failed(f core.Failure) {
	for i := range outcomes {
		if outcomes[i].failure == f {
			m.calls[i].Inc()
		}
	}
}

// end shows that the group is over, for a cause other than ErrClosed because it failed.
func (m *groupMetrics) end(cause error) {
	for _, n := range []*number{&m.online, &m.bonds, &m.quorumLost, &m.stuck, &m.unwelcome, &m.slow} {
		n.Set(0)
	}
	m.broken.Set(oneIf(cause != ErrClosed))
}

// status follows the engine.
func (m *groupMetrics) status(before, after *core.Status) {
	if before.Leader != after.Leader && !after.Leader.IsZero() {
		m.leaders.Inc()
	}
	if after.Role == core.RoleCandidate && (before.Role != core.RoleCandidate || before.Term != after.Term) {
		m.elections.Inc()
	}
	m.voters.Set(float64(after.Voters))
	m.nonVoters.Set(float64(len(after.Members) - after.Voters))
	m.size.Set(float64(len(after.Members)))
	m.logEntries.Set(float64(after.LogLast + 1 - after.LogFirst))
	m.logBytes.Set(float64(after.LogBytes))
	m.online.Set(oneIf(after.Online))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
