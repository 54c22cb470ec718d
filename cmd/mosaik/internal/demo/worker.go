package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
)

// WorkerCommand is the name of the hidden subcommand that runs one worker process.
const WorkerCommand = "demo-worker"

const (
	callTimeout   = 15 * time.Second       // of one command
	statusEvery   = 100 * time.Millisecond // between status reports
	sendersPerOne = 4                      // concurrent senders of one worker
	maxAmount     = 9
)

// worker is one process of the demo: a node that joins the group and sends commands when told.
type worker struct {
	name  string
	net   *mosaik.Network
	group *groups.Group[add, string, tally]

	out struct {
		sync.Mutex
		*json.Encoder
	}

	senders sync.WaitGroup
	pause   context.CancelFunc // ends the senders; nil while paused

	mu      sync.Mutex // guards all following fields
	counts  report
	latency *hdrhistogram.Histogram
	lastAck time.Time
}

// RunWorker opens a node on the network and does what the orders on in say, reporting to out, until in
// ends.
func RunWorker(ctx context.Context, network, name string, in io.Reader, out io.Writer) error {
	net, err := mosaik.New(ctx, network, mosaik.WithReach(mosaik.Host), mosaik.WithTags(name))
	if err != nil {
		return err
	}
	defer net.Close()
	group, err := groups.Join(net, groups.KeyFrom(network), newLedger)
	if err != nil {
		return err
	}
	defer group.Close()

	w := &worker{name: name, net: net, group: group, latency: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)}
	w.out.Encoder = json.NewEncoder(out)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var reporter sync.WaitGroup
	reporter.Go(func() { w.reportStatus(ctx) })
	defer reporter.Wait()
	defer cancel()
	defer w.stopSenders()

	orders := bufio.NewScanner(in)
	for orders.Scan() {
		word, rest, _ := strings.Cut(orders.Text(), " ")
		switch word {
		case orderGo:
			w.startSenders(ctx)
		case orderPause:
			w.stopSenders()
			w.say(report{Kind: "paused"})
		case orderAudit:
			w.audit(ctx, strings.Fields(rest))
		default:
			return fmt.Errorf("unknown order %q", word)
		}
	}
	return orders.Err()
}

func (w *worker) startSenders(ctx context.Context) {
	if w.pause != nil {
		return
	}
	ctx, w.pause = context.WithCancel(ctx)
	w.mu.Lock()
	w.lastAck = time.Now()
	w.mu.Unlock()
	for range sendersPerOne {
		w.senders.Go(func() {
			for ctx.Err() == nil {
				w.send()
			}
		})
	}
}

// stopSenders lets the commands under way end and waits for them.
func (w *worker) stopSenders() {
	if w.pause == nil {
		return
	}
	w.pause()
	w.senders.Wait()
	w.pause = nil
}

// send executes one command and books its outcome. The call has a context of its own: a pause must not turn commands
// under way into unknown outcomes.
func (w *worker) send() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	amount := 1 + rand.Int64N(maxAmount)

	begin := time.Now()
	_, err := w.group.Execute(ctx, add{By: w.name, Amount: amount})
	now := time.Now()

	w.mu.Lock()
	switch {
	case err == nil:
		w.counts.Acked += amount
		w.counts.Calls++
		w.latency.RecordValue(max(1, now.Sub(begin).Microseconds())) // beyond the range: not recorded
		w.counts.Gap = max(w.counts.Gap, now.Sub(w.lastAck).Milliseconds())
		w.lastAck = now
	case errors.Is(err, groups.ErrNotApplied):
		// It is not in the sum and never will be.
	default:
		w.counts.Unknown += amount
	}
	w.mu.Unlock()
	if err != nil {
		time.Sleep(50 * time.Millisecond) // a closed group fails at once; do not spin
	}
}

// audit reports what the group holds for each name, by strong reads.
func (w *worker) audit(ctx context.Context, names []string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := report{Kind: "audit", Tallies: make(map[string]int64)}
	for _, name := range names {
		res, err := w.group.Query(ctx, name, groups.Strong)
		if err != nil {
			r.Error = err.Error()
			break
		}
		r.Tallies[name] = res.Value.Of
	}
	w.say(r)
}

func (w *worker) reportStatus(ctx context.Context) {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		w.say(report{Kind: "status"})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// say completes r with the present status and writes it.
func (w *worker) say(r report) {
	kind, tallies, failure := r.Kind, r.Tallies, r.Error
	w.mu.Lock()
	r = w.counts
	r.P50, r.P99 = w.latency.ValueAtQuantile(50), w.latency.ValueAtQuantile(99)
	w.mu.Unlock()
	r.Kind, r.Tallies, r.Error = kind, tallies, failure

	r.Peer = w.net.ID().Short()
	r.Peers = w.net.Discovery().Catalog().Len()
	if leader, ok := w.group.Leader(); ok {
		r.Leader = leader.Short()
	}
	r.Leading = w.group.IsLeader()
	r.Members = len(w.group.Members())
	st := w.group.Status()
	r.Online, r.Why, r.Voters = st.Online, st.Reason, st.Voters
	r.Committed = uint64(w.group.Committed())
	if res, err := w.group.Query(context.Background(), w.name, groups.Weak); err == nil {
		r.Total = res.Value.Total
	}

	w.out.Lock()
	defer w.out.Unlock()
	w.out.Encode(r) // the demo is gone when this fails; the end of standard input stops the worker
}
