package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/streams"
)

// journal is where everything goes that is not an item. It is safe for concurrent use.
type journal struct {
	mu  sync.Mutex
	out io.Writer
}

func (j *journal) say(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(j.out, format+"\n", args...)
}

// lookAfter is how often a watcher looks.
const lookAfter = 200 * time.Millisecond

// watcher tells what a person must know to see why nothing flows.
type watcher struct {
	journal *journal
	format  Format
	online  bool // as was said last
	told    map[refusal]bool
	strange map[streams.PeerID]bool // peers with another secret that were told of
	failed  map[streams.PeerID]bool // contacts that were told of
}

type refusal struct {
	peer   streams.PeerID
	reason streams.Reason
}

// watch tells of what changes until the function that it returns is called, which waits for the end. That a producer waits
// for consumers at first has been told.
func watch(j *journal, net *mosaik.Network, format Format, status func() streams.Status) (stop func()) {
	w := &watcher{journal: j, format: format, told: make(map[refusal]bool), strange: make(map[streams.PeerID]bool), failed: make(map[streams.PeerID]bool)}
	look := func() {
		w.look(status())
		s := net.Discovery().Status()
		w.strangers(s.Strangers)
		w.contacts(s.Contacts)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(lookAfter)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				look()
				return
			case <-t.C:
				look()
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
}

func (w *watcher) look(s streams.Status) {
	for _, r := range s.Refused {
		w.refused(r, s.Producer)
	}
	if !s.Producer || s.Online == w.online {
		return
	}
	w.online = s.Online
	if s.Online {
		w.journal.say("a consumer is there")
	} else {
		w.journal.say("waiting for a consumer: the last one has gone")
	}
}

// refused tells of a refusal, once. Those that nodes settle between them are not worth telling.
func (w *watcher) refused(r streams.Refusal, producer bool) {
	hint := ""
	switch r.Reason {
	case streams.SchemaMismatch:
		hint = fmt.Sprintf("; both ends must use the same --format, here it is %s", w.format)
	case streams.NoKeys:
		hint = "; the producer needs --key for consumers with --key"
	case streams.NotAllowed, streams.NoCapacity, streams.DifferentNetwork, streams.TooSlow:
	default:
		return
	}
	key := refusal{r.Peer, r.Reason}
	if w.told[key] {
		return
	}
	w.told[key] = true
	r.Tries = 0
	if producer {
		w.journal.say("a consumer was refused: %v%s", r, hint)
	} else {
		w.journal.say("no items from a producer: %v%s", r, hint)
	}
}

// failsQuiet is how often in a row a peer may be out of reach before that is told: it may just have ended.
const failsQuiet = 2

// contacts tells of peers that this node knows of and cannot connect to, each of them once.
func (w *watcher) contacts(all []discovery.ContactStatus) {
	for _, c := range all {
		if c.Err == nil || c.Known {
			delete(w.failed, c.Addr.ID)
			continue
		}
		if errors.Is(c.Err, &link.CloseError{Code: link.CodeBadProof}) {
			continue // strangers tells
		}
		if w.failed[c.Addr.ID] || w.strange[c.Addr.ID] || c.Fails < failsQuiet {
			continue
		}
		w.failed[c.Addr.ID] = true
		w.journal.say("no connection: peer %s cannot be reached: %v", c.Addr.ID.Short(), c.Err)
	}
}

// strangers tells of peers with another network secret, each of them once.
func (w *watcher) strangers(all []discovery.StrangerStatus) {
	now := make(map[streams.PeerID]bool, len(all))
	for _, s := range all {
		now[s.Peer] = true
		if !w.strange[s.Peer] {
			w.journal.say("no connection: peer %s has another network secret, or only one of the two has one: "+
				"both ends need the same --secret", s.Peer.Short())
		}
	}
	w.strange = now
}
