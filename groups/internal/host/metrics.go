package host

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

// metrics are the series of all groups of a node. Every series has the constant label network.
type metrics struct {
	active      prometheus.Gauge
	resting     prometheus.Gauge
	pulses      prometheus.Counter
	pulseFrames prometheus.Counter
	handedOver  prometheus.Counter

	bonds     *prometheus.GaugeVec
	sent      *prometheus.CounterVec
	received  *prometheus.CounterVec
	bytesOut  *prometheus.CounterVec
	bytesIn   *prometheus.CounterVec
	elections *prometheus.CounterVec
	leaders   *prometheus.CounterVec
	committed *prometheus.GaugeVec
	voters    *prometheus.GaugeVec
	nonVoters *prometheus.GaugeVec
	size      *prometheus.GaugeVec
	online    *prometheus.GaugeVec
	applied   *prometheus.CounterVec
	calls     *prometheus.CounterVec // by outcome
	latency   *prometheus.HistogramVec
	dropped   *prometheus.CounterVec
	refused   *prometheus.CounterVec // by code

	logEntries    *prometheus.GaugeVec
	logBytes      *prometheus.GaugeVec
	images        *prometheus.CounterVec // by outcome
	installed     *prometheus.CounterVec
	fetchesFailed *prometheus.CounterVec
	fetchTime     *prometheus.HistogramVec
	stateSent     *prometheus.CounterVec
	stateReceived *prometheus.CounterVec
	diverged      *prometheus.CounterVec
	merges        *prometheus.CounterVec
	forks         *prometheus.CounterVec
	untaken       *prometheus.CounterVec
	lost          *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, network id.ID) *metrics {
	constant := prometheus.Labels{"network": network.Short()}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mosaik_groups_" + name, Help: help, ConstLabels: constant,
		}, labels))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mosaik_groups_" + name, Help: help, ConstLabels: constant,
		}, labels))
	}
	return &metrics{
		active:  gauge("active", "Groups that this process takes part in.").WithLabelValues(),
		resting: gauge("resting", "Groups of this process in which nothing goes on, so that only pulses are exchanged.").WithLabelValues(),

		pulses:      counter("pulses_sent", "Heartbeats of groups at rest, and answers to them.").WithLabelValues(),
		pulseFrames: counter("pulse_frames_sent", "Frames that carried the heartbeats of groups at rest and the answers to them, one per peer and time.").WithLabelValues(),

		handedOver: counter("leaderships_handed_over", "Groups whose leadership this process gave away since it led too many.").WithLabelValues(),

		bonds:     gauge("bonds_active", "Peers of the group with a proven link.", "group"),
		sent:      counter("bonds_messages_sent", "Group messages sent.", "group"),
		received:  counter("bonds_messages_received", "Group messages received.", "group"),
		bytesOut:  counter("bonds_bytes_sent", "Bytes of group messages sent.", "group"),
		bytesIn:   counter("bonds_bytes_received", "Bytes of group messages received.", "group"),
		elections: counter("raft_elections", "Candidacies of this member.", "group"),
		leaders:   counter("raft_leader_changes", "Changes of the leader as seen by this member.", "group"),
		committed: gauge("raft_committed", "Index of the last command applied here.", "group"),
		voters:    gauge("raft_committee_voters", "Voting members.", "group"),
		nonVoters: gauge("raft_committee_non_voters", "Members without a vote.", "group"),
		size:      gauge("raft_committee_size", "Members.", "group"),
		online:    gauge("online", "1 while the group takes commands here.", "group"),
		applied:   counter("commands_applied", "Commands applied here, whoever proposed them.", "group"),
		calls:     counter("calls", "Calls of this member by outcome.", "group", "outcome"),
		latency: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "mosaik_groups_call_seconds",
			Help:        "Time from submitting a call to its commands being applied here.",
			ConstLabels: constant,
			Buckets:     prometheus.ExponentialBuckets(25e-6, 2, 20),
		}, []string{"group"})),
		dropped: counter("messages_dropped", "Messages not sent because the link was full or gone.", "group"),
		refused: counter("bonds_refused", "Bonds refused, by reason.", "group", "reason"),

		logEntries:    gauge("log_entries", "Entries in the log.", "group"),
		logBytes:      gauge("log_bytes", "Bytes of the entries in the log.", "group"),
		images:        counter("images", "Images of the state written for members that may need it, by outcome.", "group", "outcome"),
		installed:     counter("states_installed", "States fetched from other members and taken over.", "group"),
		fetchesFailed: counter("fetches_failed", "Fetches of the state that failed.", "group"),
		fetchTime: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "mosaik_groups_fetch_seconds",
			Help:        "Time from the beginning of a fetch of the state to the machine being ready.",
			ConstLabels: constant,
			Buckets:     prometheus.ExponentialBuckets(1e-3, 2, 18),
		}, []string{"group"})),
		stateSent:     counter("state_bytes_sent", "Bytes of state sent to members that fetch it.", "group"),
		stateReceived: counter("state_bytes_received", "Bytes of state fetched from other members.", "group"),
		diverged:      counter("states_diverged", "Images that differ from what the group agreed on.", "group"),
		merges:        counter("merges", "Histories of the group that became one, as seen by this member.", "group"),
		forks:         counter("forks", "Times that this member went on without a lost majority.", "group"),
		untaken:       counter("diverged_commands", "Commands of merged histories that were not taken over as they are.", "group"),
		lost:          gauge("quorum_lost", "1 while there is no majority of voters.", "group"),
	}
}

// register registers c, or returns the collector that was registered under its name before: several networks of one name
// in a process share their series.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := already.ExistingCollector.(C); ok {
			return old
		}
	}
	return c
}

// forget drops the series of a group that is over.
func (m *metrics) forget(group id.ID) {
	labels := prometheus.Labels{"group": group.Short()}
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.bonds, m.sent, m.received, m.bytesOut, m.bytesIn, m.elections, m.leaders, m.committed, m.voters, m.nonVoters,
		m.size, m.online, m.applied, m.calls, m.latency, m.dropped, m.refused, m.logEntries, m.logBytes, m.images,
		m.installed, m.fetchesFailed, m.fetchTime, m.stateSent, m.stateReceived, m.diverged, m.merges, m.forks, m.untaken,
		m.lost,
	} {
		v.DeletePartialMatch(labels)
	}
}

// groupMetrics are the series of one group, looked up once.
type groupMetrics struct {
	bonds     prometheus.Gauge
	elections prometheus.Counter
	leaders   prometheus.Counter
	committed prometheus.Gauge
	voters    prometheus.Gauge
	nonVoters prometheus.Gauge
	size      prometheus.Gauge
	online    prometheus.Gauge
	commands  prometheus.Counter
	ok        prometheus.Counter
	latency   prometheus.Observer
	dropped   prometheus.Counter
	calls     *prometheus.CounterVec
	refused   *prometheus.CounterVec

	logEntries    prometheus.Gauge
	logBytes      prometheus.Gauge
	images        prometheus.Counter
	imagesFailed  prometheus.Counter
	installed     prometheus.Counter
	fetchesFailed prometheus.Counter
	fetchTime     prometheus.Observer
	stateSent     prometheus.Counter
	stateReceived prometheus.Counter
	diverged      prometheus.Counter
	merges        prometheus.Counter
	forks         prometheus.Counter
	untaken       prometheus.Counter
	quorumLost    prometheus.Gauge
}

func (m *metrics) group(group id.ID) *groupMetrics {
	g := group.Short()
	return &groupMetrics{
		bonds:     m.bonds.WithLabelValues(g),
		elections: m.elections.WithLabelValues(g),
		leaders:   m.leaders.WithLabelValues(g),
		committed: m.committed.WithLabelValues(g),
		voters:    m.voters.WithLabelValues(g),
		nonVoters: m.nonVoters.WithLabelValues(g),
		size:      m.size.WithLabelValues(g),
		online:    m.online.WithLabelValues(g),
		commands:  m.applied.WithLabelValues(g),
		ok:        m.calls.WithLabelValues(g, "applied"),
		latency:   m.latency.WithLabelValues(g),
		dropped:   m.dropped.WithLabelValues(g),
		calls:     m.calls.MustCurryWith(prometheus.Labels{"group": g}),
		refused:   m.refused.MustCurryWith(prometheus.Labels{"group": g}),

		logEntries:    m.logEntries.WithLabelValues(g),
		logBytes:      m.logBytes.WithLabelValues(g),
		images:        m.images.WithLabelValues(g, "written"),
		imagesFailed:  m.images.WithLabelValues(g, "failed"),
		installed:     m.installed.WithLabelValues(g),
		fetchesFailed: m.fetchesFailed.WithLabelValues(g),
		fetchTime:     m.fetchTime.WithLabelValues(g),
		stateSent:     m.stateSent.WithLabelValues(g),
		stateReceived: m.stateReceived.WithLabelValues(g),
		diverged:      m.diverged.WithLabelValues(g),
		merges:        m.merges.WithLabelValues(g),
		forks:         m.forks.WithLabelValues(g),
		untaken:       m.untaken.WithLabelValues(g),
		quorumLost:    m.lost.WithLabelValues(g),
	}
}

func (m *metrics) traffic(group id.ID) bond.Traffic {
	g := group.Short()
	return bond.Traffic{
		Sent:          m.sent.WithLabelValues(g),
		SentBytes:     m.bytesOut.WithLabelValues(g),
		Received:      m.received.WithLabelValues(g),
		ReceivedBytes: m.bytesIn.WithLabelValues(g),
	}
}

// applied counts commands that the machine has applied, up to the index.
func (m *groupMetrics) applied(commands int, index core.Index) {
	m.commands.Add(float64(commands))
	m.committed.Set(float64(index))
}

// done counts a call that was applied here.
func (m *groupMetrics) done(d time.Duration) {
	m.ok.Inc()
	m.latency.Observe(d.Seconds())
}

var outcomes = map[core.Failure]string{
	core.FailedOffline:    "offline",
	core.FailedTooLarge:   "too_large",
	core.FailedOverloaded: "overloaded",
	core.FailedCancelled:  "cancelled",
	core.FailedClosed:     "closed",
	core.FailedUnknown:    "unknown",
	Rejected:              "rejected",
}

// failed counts a call that was not.
func (m *groupMetrics) failed(f core.Failure) { m.calls.WithLabelValues(outcomes[f]).Inc() }

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
	if after.Online {
		m.online.Set(1)
	} else {
		m.online.Set(0)
	}
}
