//go:build linux

package faultrun

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
)

// This file is what runs in the process of a node: requests come in as lines of JSON, and are answered as soon as they are done.

// spec says to a process which node it is.
type spec struct {
	Network   string
	Index     int
	Members   int
	Store     string   // directory; empty: in memory
	Listen    string   // empty: loopback, and peers are found in the registry
	Bootstrap []string // peers
	Settings  settings
}

// Entries that groups with images keep of their logs.
const keptLeast, keptMost = 200, 2000

// settings are those of the groups.
type settings struct {
	Images             bool          // the counter and the map write out their state, and their logs are cut early
	Available          time.Duration // AvailabilityFirst
	Surface            bool          // the counter's merges do not propose again
	RemoveAfter        time.Duration // zero: the default
	RemoveDurableAfter time.Duration // likewise
	Patience           time.Duration // likewise
	Expect             int           // ExpectMembers
}

// request is a line to a process.
type request struct {
	N       uint64
	Ask     string // do, read, all, status, transfer, close
	Group   int
	Command command       `json:",omitzero"`
	Key     uint32        `json:",omitempty"`
	Pad     int           `json:",omitempty"` // bytes that make the command long
	Within  time.Duration `json:",omitempty"`
	To      mosaik.PeerID `json:",omitzero"`
}

// Outcomes of requests.
const (
	yes     = "yes"
	no      = "no"      // no effect, now or later
	unknown = "unknown" // perhaps
)

// reply is a line from a process: the answer to request N, or, if N is zero, news.
type reply struct {
	N       uint64        `json:",omitempty"`
	Outcome string        `json:",omitempty"`
	Err     string        `json:",omitempty"`
	Answer  answer        `json:",omitzero"`
	Index   uint64        `json:",omitempty"`
	Status  []groupStatus `json:",omitempty"`
	Clock   time.Time     `json:",omitzero"` // with the status: what time it is there

	Up       bool          `json:",omitempty"` // the node is open
	ID       mosaik.PeerID `json:",omitzero"`
	Corrupt  bool          `json:",omitempty"` // the store is damaged, and the process ends
	Group    int           `json:",omitempty"` // of what follows
	Diverged []uint64      `json:",omitempty"` // commands that a merge did not take over
	Event    string        `json:",omitempty"`
}

// groupStatus is what the driver wants to know of a group.
type groupStatus struct {
	Online    bool
	Leads     bool
	Leader    mosaik.PeerID
	Term      uint64
	Genesis   string
	Voters    int
	Members   int
	Committed uint64
	Failed    string
	LogCut    bool
	Lossy     bool // some ancestor is
	Forks     int
	Merges    int
	Text      string
}

type group = groups.Group[command, question, answer]

// nodeMain runs a node until its input ends, or until it is told to close.
func nodeMain(text string) int {
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	say := func(r reply) {
		mu.Lock()
		defer mu.Unlock()
		out.Encode(r)
	}
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := serve(&s, say); err != nil {
		say(reply{Err: err.Error(), Corrupt: errors.Is(err, logstore.ErrCorrupt)})
		return 1
	}
	return 0
}

// seed is what the identity of a node is made of.
func (s *spec) seed(i int) string { return fmt.Sprint(s.Network, " node ", i) }

func serve(s *spec, say func(reply)) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	opts := []mosaik.Option{mosaik.WithSeed(s.seed(s.Index)), mosaik.WithLogger(log)}
	if s.Listen != "" {
		opts = append(opts, mosaik.WithListen(s.Listen), mosaik.WithReach(mosaik.LAN), mosaik.WithoutRegistry())
	}
	for _, b := range s.Bootstrap {
		p, err := mosaik.ParsePeerAddr(b)
		if err != nil {
			return err
		}
		opts = append(opts, mosaik.WithBootstrap(p))
	}
	if s.Store != "" {
		store, err := pebble.Open(s.Store, pebble.WithLogger(log))
		if err != nil {
			return err
		}
		defer store.Close()
		opts = append(opts, mosaik.WithStorage(store))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	net, err := mosaik.New(ctx, s.Network, opts...)
	if err != nil {
		return err
	}
	defer net.Close()
	n := &server{say: say}
	for kind := range kinds {
		g, err := s.join(net, kind)
		if err != nil {
			return err
		}
		n.groups = append(n.groups, g)
		go n.watch(ctx, kind, g)
	}
	say(reply{Up: true, ID: net.ID()})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q request
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		if q.Ask == "close" {
			err := net.Close()
			say(reply{N: q.N, Outcome: yes})
			return err
		}
		go n.serve(ctx, q)
	}
	return nil
}

// join joins the group of a machine.
func (s *spec) join(net *mosaik.Network, kind int) (*group, error) {
	set := &s.Settings
	opts := []groups.Option{
		groups.ExpectMembers(max(1, set.Expect)),
		groups.WithConsensus(groups.Consensus{
			BootstrapDelay: 500 * time.Millisecond, RemoveAfter: set.RemoveAfter, RemoveDurableAfter: set.RemoveDurableAfter, Patience: set.Patience,
		}),
	}
	if set.Available > 0 {
		opts = append(opts, groups.AvailabilityFirst(set.Available))
	}
	if set.Surface && kind == counter {
		opts = append(opts, groups.MergeSurface())
	}
	key := groups.KeyFrom("the key of the " + kindNames[kind] + " of " + s.Network)
	if set.Images && kind != register {
		opts = append(opts, groups.WithRetention(groups.Retention{Keep: keptLeast, Most: keptMost, Chunk: 16 << 10}))
		return groups.Join(net, key, newImaged(kind), opts...)
	}
	return groups.Join(net, key, newMachine(kind), opts...)
}

// server answers requests.
type server struct {
	say    func(reply)
	groups []*group
}

// watch tells of what happens to a group. Commands that a merge did not take over are told with their ids.
func (n *server) watch(ctx context.Context, kind int, g *group) {
	for ev := range g.Events(ctx) {
		r := reply{Group: kind, Event: ev.Kind.String()}
		switch ev.Kind {
		case groups.Merged, groups.Forked, groups.Diverged:
			r.Event = fmt.Sprintf("%v: %d commands of %s into %s", ev.Kind, ev.Commands, ev.From, ev.Into)
		case groups.StateReset, groups.StateFetched, groups.StateDiverged, groups.FetchFailed, groups.GroupEnded, groups.QuorumLost, groups.Lagged:
		default:
			continue
		}
		if ev.Reason != "" {
			r.Event += ": " + ev.Reason
		}
		if ev.Lossy {
			r.Event += " (lossy)"
		}
		if ev.Kind == groups.Diverged || ev.Kind == groups.Lagged {
			for _, d := range g.Divergences() {
				for _, c := range d.Commands {
					r.Diverged = append(r.Diverged, c.ID)
				}
			}
		}
		n.say(r)
	}
}

func (n *server) serve(ctx context.Context, q request) {
	if q.Within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.Within)
		defer cancel()
	}
	r := reply{N: q.N, Outcome: yes}
	g := n.groups[q.Group]
	var err error
	var res groups.Result[answer]
	switch q.Ask {
	case "do":
		q.Command.Pad = make([]byte, q.Pad)
		res, err = g.Execute(ctx, q.Command)
	case "read":
		res, err = g.Query(ctx, question{Key: q.Key}, groups.Strong)
	case "all":
		res, err = g.Query(ctx, question{All: true}, groups.Strong)
	case "transfer":
		err = g.LeadershipTransfer(ctx, q.To)
	case "status":
		r.Clock = time.Now()
		for _, g := range n.groups {
			r.Status = append(r.Status, statusOf(g))
		}
	}
	r.Answer, r.Index = res.Value, uint64(res.Index)
	if err != nil {
		r.Err = err.Error()
		if r.Outcome = unknown; errors.Is(err, groups.ErrNotApplied) {
			r.Outcome = no
		}
	}
	n.say(r)
}

func statusOf(g *group) groupStatus {
	st := g.Status()
	out := groupStatus{
		Online: st.Online, Leads: st.Leader == st.Self, Leader: st.Leader, Term: st.Term, Genesis: st.Genesis, Voters: st.Voters,
		Members: len(st.Members), Committed: uint64(st.Committed), LogCut: st.LogCut, Text: st.String(),
	}
	if st.Failed != nil {
		out.Failed = st.Failed.Error()
	}
	for _, a := range st.Lineage {
		out.Lossy = out.Lossy || a.Lossy
		if a.How == groups.MergedInto {
			out.Merges++
		} else {
			out.Forks++
		}
	}
	return out
}
