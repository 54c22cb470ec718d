package testnet

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/node"
	"github.com/mosaik-go/mosaik/internal/transport/simnet"
)

// SeedEnv is the environment variable that sets the seed of simulated networks without a [Seed] option, to replay a
// failure that a random seed has found.
const SeedEnv = "MOSAIK_TESTNET_SEED"

// Sim is a [Net] in memory, whose links can be cut, delayed and broken.
//
// The links behave like reliable connections over a bad network. Traffic that runs into a partition stalls, without an
// error, until the partition heals, or until the heartbeats (2 s, dead after 6 s) give the connection up. Every fault is
// noted with its time, and the notes are printed when the test fails.
type Sim struct {
	*Net
	fabric *simnet.Fabric
	start  time.Time

	mu     sync.Mutex
	faults []string     // what was done to the network, oldest first; at most maxFaults
	off    map[int]bool // nodes without power
}

// maxFaults is how many faults are remembered for the failure message.
const maxFaults = 1000

// Link is the quality of the direction from one node to another.
type Link struct {
	// Delay is the one-way delay.
	Delay time.Duration
	// Jitter is the upper end of a random addition to the delay. What is sent on one connection stays in order.
	Jitter time.Duration
	// Bandwidth in bytes per second; zero means without limit.
	Bandwidth int
	// Loss is the probability, from 0 to 1, that a packet is lost. A lost packet is sent again after 200 ms, then 400 ms
	// and so on, as TCP does, and holds up what was sent after it.
	Loss float64
}

// defaultLink is a local network.
var defaultLink = Link{Delay: time.Millisecond, Jitter: time.Millisecond / 2}

// Seed fixes the seed of a simulated network: of its identities, delays, losses and fault schedules. The default is the
// value of the environment variable MOSAIK_TESTNET_SEED, or else random, and printed when the test fails.
func Seed(seed uint64) Option {
	return func(s *settings) { s.seed, s.simOnly = seed, "Seed" }
}

// Links sets the quality of all links of a simulated network. The default is 1 ms with up to 0.5 ms of jitter.
func Links(l Link) Option {
	return func(s *settings) { s.link, s.simOnly = &l, "Links" }
}

// Simulated returns a network of n nodes in memory. They are the nodes that mosaik.New makes, on a simulated transport.
// They do not know each other yet, see [Net.DiscoverAll].
//
// Call it inside testing/synctest.Test, with the T of the bubble, to run in virtual time; outside of a bubble it runs in
// real time. All nodes of one network share the bubble it was made in.
func Simulated(t testing.TB, n int, opts ...Option) *Sim {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(SeedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("testnet: environment variable %s: %v", SeedEnv, err)
		}
	}
	s := &Sim{Net: newNet(t, seed, opts), start: time.Now(), off: make(map[int]bool)}
	s.fabric = simnet.New(simnet.Options{Seed: s.settings.seed, Link: simnet.Link(s.usual())})
	s.under = append(s.under, func(c *node.Config) error {
		c.NewHost = s.fabric.NewHost
		return nil
	})
	s.explain = s.explainFaults
	s.grow(n)
	return s
}

// Seed returns the seed of the network.
func (s *Sim) Seed() uint64 { return s.settings.seed }

// Partition splits the network: traffic between nodes of different groups stalls. Nodes named in no group, those that
// are added later included, form one more group. It replaces an earlier partition.
//
//	net.Partition([]int{0, 1})           // 0 and 1 against the rest
//	net.Partition([]int{0}, []int{1, 2}) // 0, 1 with 2, and the rest
func (s *Sim) Partition(groups ...[]int) {
	s.t.Helper()
	peers := make([][]id.PeerID, len(groups))
	for i, g := range groups {
		for _, node := range g {
			peers[i] = append(peers[i], s.peerID(node))
		}
	}
	s.note("partition %v", groups)
	s.fabric.Partition(peers...)
}

// Isolate stalls all traffic from and to the nodes, between them too.
func (s *Sim) Isolate(nodes ...int) {
	s.t.Helper()
	s.note("isolate %v", nodes)
	for _, i := range nodes {
		s.fabric.Isolate(s.peerID(i))
	}
}

// Cut stalls the traffic between two nodes, in both directions. Others still reach both: a partial partition.
func (s *Sim) Cut(a, b int) {
	s.t.Helper()
	s.note("cut %d and %d", a, b)
	s.fabric.Block(s.peerID(a), s.peerID(b))
	s.fabric.Block(s.peerID(b), s.peerID(a))
}

// CutOneWay stalls the traffic from one node to another, but not the other way: an asymmetric partition.
func (s *Sim) CutOneWay(from, to int) {
	s.t.Helper()
	s.note("cut %d to %d", from, to)
	s.fabric.Block(s.peerID(from), s.peerID(to))
}

// Mend ends what Cut and CutOneWay did between two nodes.
func (s *Sim) Mend(a, b int) {
	s.t.Helper()
	s.note("mend %d and %d", a, b)
	s.fabric.Unblock(s.peerID(a), s.peerID(b))
	s.fabric.Unblock(s.peerID(b), s.peerID(a))
}

// Heal ends all partitions, isolations and cuts. What was stalled on connections that still live goes on.
func (s *Sim) Heal() {
	s.note("heal")
	s.fabric.Heal()
}

// Reset breaks the connections between two nodes at once; both see it. They may connect again.
func (s *Sim) Reset(a, b int) {
	s.t.Helper()
	s.note("reset %d and %d", a, b)
	s.fabric.Reset(s.peerID(a), s.peerID(b))
}

// Pause freezes a node's transport: nothing leaves or reaches it, and its own reads and writes wait, until [Sim.Resume].
// It comes as near to SIGSTOP as is possible inside one process: goroutines of the node that compute or wait for timers
// go on.
func (s *Sim) Pause(i int) {
	s.t.Helper()
	s.note("pause %d", i)
	s.fabric.Pause(s.peerID(i))
}

// Resume ends [Sim.Pause].
func (s *Sim) Resume(i int) {
	s.t.Helper()
	s.note("resume %d", i)
	s.fabric.Resume(s.peerID(i))
}

// PowerOff ends a node so that not even its connections break: its peers hear nothing any more, until [Sim.Restart] or
// [Sim.Heal].
func (s *Sim) PowerOff(i int) {
	s.t.Helper()
	s.note("power off %d", i)
	s.fabric.Isolate(s.peerID(i))
	s.Net.Kill(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off[i] = true
}

// Kill is [Net.Kill], and notes it.
func (s *Sim) Kill(i int) {
	s.t.Helper()
	s.note("kill %d", i)
	s.Net.Kill(i)
}

// Close is [Net.Close], and notes it.
func (s *Sim) Close(i int) {
	s.t.Helper()
	s.note("close %d", i)
	s.Net.Close(i)
}

// Restart is [Net.Restart], and notes it. A node whose power was off has power again.
func (s *Sim) Restart(i int) *mosaik.Network {
	s.t.Helper()
	s.note("restart %d", i)
	s.mu.Lock()
	off := s.off[i]
	delete(s.off, i)
	s.mu.Unlock()
	if off {
		s.fabric.Rejoin(s.peerID(i))
	}
	return s.Net.Restart(i)
}

// SetLinks changes the quality of all links.
func (s *Sim) SetLinks(l Link) {
	s.note("all links %+v", l)
	s.fabric.SetLinks(simnet.Link(l))
}

// SetLink changes the quality of the link between two nodes, in both directions.
func (s *Sim) SetLink(a, b int, l Link) {
	s.t.Helper()
	s.note("link %d and %d %+v", a, b, l)
	s.fabric.SetLink(s.peerID(a), s.peerID(b), simnet.Link(l))
	s.fabric.SetLink(s.peerID(b), s.peerID(a), simnet.Link(l))
}

// note remembers a fault for the failure message.
func (s *Sim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf("  %v ", time.Since(s.start).Round(time.Millisecond)) + fmt.Sprintf(format, args...)
	if len(s.faults) == maxFaults {
		s.faults = slices.Delete(s.faults, 0, 1)
	}
	s.faults = append(s.faults, line)
}

func (s *Sim) explainFaults() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("seed %d (replay with %s=%d); now %v; faults:\n%s\n", s.settings.seed, SeedEnv, s.settings.seed,
		time.Since(s.start).Round(time.Millisecond), strings.Join(s.faults, "\n"))
}

// usual is the quality that links have when no fault changes it.
func (s *Sim) usual() Link {
	if l := s.settings.link; l != nil {
		return *l
	}
	return defaultLink
}
