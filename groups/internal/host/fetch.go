package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/snap"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// fetch brings the state with one root from other members into a fresh machine: it drives a plan, keeps one stream to
// each member that it asks, and has the machine read the chunks as they come, in order.
type fetch struct {
	g      *Group
	order  core.Fetch
	ctx    context.Context
	cancel context.CancelFunc
	done   chan answer // from the streams
	asks   map[id.PeerID]chan snap.Request
	wg     sync.WaitGroup
	free   sync.Pool  // *[]byte of chunks
	given  core.Index // chunks that the machine was given; of the pump

	// Set before the engine is told that it is over; read by the loop after that.
	prepared any
	manifest *snap.Manifest
	raw      []byte
	complete bool // everything was fed
}

// answer is the end of one request.
type answer struct {
	peer  id.PeerID
	what  snap.Request
	reply snap.Reply
	bytes []byte
	err   error
}

// answerMost is how long a stream waits for an answer; the plan gives up sooner.
const answerMost = 15 * time.Second

// followFetch starts what the engine wants to be fetched, in place of what is being fetched.
func (g *Group) followFetch(order *core.Fetch) {
	if order == nil {
		return
	}
	if g.fetch != nil {
		g.fetch.cancel()
		g.fetch = nil
	}
	s, ok := g.machine.(Snapshotter)
	if order.ID == 0 || !ok {
		return
	}
	f := &fetch{g: g, order: *order, done: make(chan answer), asks: make(map[id.PeerID]chan snap.Request)}
	f.ctx, f.cancel = context.WithCancel(g.bulk)
	g.fetch = f
	g.fetchBegins()
	g.log.Info("fetching the state of the group", "root", order.Root.Short())
	g.wg.Go(func() {
		defer f.cancel()
		began := time.Now()
		state, err := f.run(s)
		f.cancel()
		f.wg.Wait()
		f.report(time.Since(began), err)
		if g.bulk.Err() == nil {
			g.tellBulk(bulkEvent{kind: bulkFetched, id: order.ID, state: state, err: err})
		}
	})
}

// report tells people how a fetch ended.
func (f *fetch) report(took time.Duration, err error) {
	g := f.g
	switch {
	case g.bulk.Err() != nil || errors.Is(err, context.Canceled):
	case err != nil:
		g.meter.fetchesFailed.Inc()
		g.events.emit(Event{Kind: FetchFailed, Reason: err.Error()})
		g.log.Warn("could not fetch the state of the group", "err", err)
	default:
		g.meter.fetchTime.observe(took, fetchFirst)
		text := fmt.Sprintf("%.1f MiB from %d members in %v", float64(f.manifest.Size)/(1<<20), len(f.asks), took.Round(time.Millisecond))
		g.events.emit(Event{Kind: StateFetched, Reason: text})
		g.log.Info("fetched the state of the group", "what", text)
	}
}

// sources returns who can be asked, and the leader.
func (f *fetch) sources() (peers []id.PeerID, leader id.PeerID) {
	s := f.g.State()
	for _, b := range s.Bonds {
		peers = append(peers, b.Peer)
	}
	return peers, s.Leader
}

// run fetches everything and returns the engine's part of the state.
func (f *fetch) run(s Snapshotter) ([]byte, error) {
	g := f.g
	plan := snap.NewPlan(g.svc.now(), f.order.Root, snap.Limits{})
	plan.SetSources(f.sources())
	feed, restored := f.restore(s)
	feeding := true
	defer func() {
		if feeding {
			close(feed)
			<-restored
		}
	}()
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	var head []byte
	var told int64
	for {
		for _, a := range plan.Next(g.svc.now()) {
			f.ask(a)
		}
		if err := plan.Err(); err != nil {
			return nil, &unserved{err}
		}
		if f.manifest == nil {
			if f.manifest, f.raw = plan.Manifest(); f.manifest != nil {
				g.log.Debug("fetching chunks", "chunks", len(f.manifest.Hashes), "bytes", f.manifest.Size)
			}
		}
		if head == nil {
			head = plan.Take()
		}
		if head == nil && plan.Complete() {
			f.complete = true
			close(feed)
			feeding = false
			select {
			case err := <-restored:
				return f.manifest.Engine, err
			case <-f.ctx.Done():
				<-restored
				return nil, f.ctx.Err()
			}
		}
		to := feed
		if head == nil {
			to = nil
		}
		select {
		case to <- head:
			head = nil
		case a := <-f.done:
			if a.err != nil {
				plan.Fail(g.svc.now(), a.peer, a.what, a.err.Error())
			} else {
				plan.Answer(g.svc.now(), a.peer, a.what, a.reply, a.bytes)
				g.meter.stateReceived.Add(float64(len(a.bytes)))
			}
		case <-ticker.C:
			plan.SetSources(f.sources())
			if done, total := plan.Progress(); done > told {
				told = done
				g.tellBulk(bulkEvent{kind: bulkProgress, id: f.order.ID, done: done, total: total})
			}
		case err := <-restored:
			feeding = false
			close(feed)
			if err == nil {
				err = errors.New("groups: the state machine did not read all of its state")
			}
			return nil, err
		case <-f.ctx.Done():
			return nil, f.ctx.Err()
		}
	}
}

// restore has a machine read the chunks that come over feed, and stores them as well if images outlive the process.
// restored tells the end, once.
func (f *fetch) restore(s Snapshotter) (feed chan []byte, restored chan error) {
	feed, restored = make(chan []byte, 1), make(chan error, 1)
	r, w := io.Pipe()
	read := make(chan error, 1)
	f.wg.Go(func() {
		var err error
		if p := contain(func() { f.prepared, err = s.Prepare(r) }); p != nil {
			err = p
		}
		if err != nil {
			err = fmt.Errorf("the machine's Restore: %w", err)
			r.CloseWithError(err)
		} else {
			io.Copy(io.Discard, r) // it may have found the end of its own format before the end of the stream
		}
		read <- err
	})
	f.wg.Go(func() {
		err := f.pump(feed, w)
		if err != nil {
			w.CloseWithError(err)
		} else {
			w.Close()
		}
		f.g.reading.Set(Restoring, f.given) // until it has read the last one
		failed := <-read
		f.g.reading.Done()
		if failed != nil {
			err = failed
		}
		restored <- err
		for range feed { // whoever feeds learns of the end from restored
		}
	})
	return feed, restored
}

// pump passes chunks on until feed is closed.
func (f *fetch) pump(feed <-chan []byte, w io.Writer) error {
	store := f.g.images.store
	if !store.Lasting() {
		for chunk := range feed {
			if err := f.give(w, chunk); err != nil {
				return err
			}
			f.free.Put(&chunk)
		}
		return f.fed()
	}
	image, err := store.Create(f.order.Index)
	if err != nil {
		return err
	}
	defer image.Abort()
	for chunk := range feed {
		if _, err := image.Write(chunk); err != nil {
			return err
		}
		if err := f.give(w, chunk); err != nil {
			return err
		}
		f.free.Put(&chunk)
	}
	if err := f.fed(); err != nil {
		return err
	}
	return image.Commit(f.raw)
}

// give hands a chunk to the machine.
func (f *fetch) give(w io.Writer, chunk []byte) error {
	f.given++
	f.g.reading.Set(Restoring, f.given)
	defer f.g.reading.Done()
	_, err := w.Write(chunk)
	return err
}

// fed says what is wrong if not everything was fed when the feed ended.
func (f *fetch) fed() error {
	if !f.complete {
		return errors.New("groups: the fetch of the state was given up")
	}
	return nil
}

// ask hands a request to the stream of its peer.
func (f *fetch) ask(a snap.Ask) {
	requests := f.asks[a.Peer]
	if requests == nil {
		requests = make(chan snap.Request, 1)
		f.asks[a.Peer] = requests
		f.wg.Go(func() { f.converse(a.Peer, requests) })
	}
	select {
	case requests <- a.Request:
	default:
		// It is still busy with what the plan has given up.
		f.wg.Go(func() {
			f.tell(answer{peer: a.Peer, what: a.Request, err: errors.New("is busy with an earlier request")})
		})
	}
}

func (f *fetch) tell(a answer) {
	select {
	case f.done <- a:
	case <-f.ctx.Done():
	}
}

// converse carries out the requests to one peer, one after the other, over one stream as long as it works.
func (f *fetch) converse(peer id.PeerID, requests <-chan snap.Request) {
	var s transport.Stream
	var stop func() bool
	end := func(code link.Code) {
		if s != nil {
			stop()
			s.Abort(code)
			s = nil
		}
	}
	defer end(link.CodeCancelled)
	for {
		var r snap.Request
		select {
		case r = <-requests:
		case <-f.ctx.Done():
			return
		}
		a := answer{peer: peer, what: r}
		if s == nil {
			if s, a.err = f.g.svc.node.Host.Open(f.ctx, peer, snap.Protocol); a.err == nil {
				open := s
				stop = context.AfterFunc(f.ctx, func() { open.Abort(link.CodeCancelled) })
			} else {
				s = nil
			}
		}
		if a.err == nil {
			a.reply, a.bytes, a.err = f.question(s, r)
		}
		if a.err != nil {
			end(link.CodeOf(a.err))
		}
		f.tell(a)
	}
}

// question asks one thing.
func (f *fetch) question(s transport.Stream, r snap.Request) (snap.Reply, []byte, error) {
	q := snap.AppendQuestion(make([]byte, link.HeaderSize, questionFrame), snap.Question{Group: f.g.cfg.ID, Root: f.order.Root, Request: r})
	binary.BigEndian.PutUint32(q, uint32(len(q)-link.HeaderSize))
	deadline := time.Now().Add(answerMost)
	s.SetWriteDeadline(deadline)
	s.SetReadDeadline(deadline)
	if _, err := s.Write(q); err != nil {
		return 0, nil, err
	}
	return f.readAnswer(s)
}

// readAnswer reads the frame of an answer, the bytes of it into a buffer that was used before if there is one.
func (f *fetch) readAnswer(s io.Reader) (snap.Reply, []byte, error) {
	var head [link.HeaderSize + 1]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > snap.FrameMost {
		return 0, nil, &link.CloseError{Code: link.CodeFrameTooLarge}
	}
	reply := snap.Reply(head[link.HeaderSize])
	if n == 0 || reply > snap.Refused || reply != snap.Here && n > 1 {
		return 0, nil, violated(errAnswer)
	}
	n--
	var buf []byte
	if b, ok := f.free.Get().(*[]byte); ok && cap(*b) >= int(n) {
		buf = (*b)[:n]
	} else {
		buf = make([]byte, n)
	}
	if _, err := io.ReadFull(s, buf); err != nil {
		return 0, nil, err
	}
	return reply, buf, nil
}

var errAnswer = errors.New("malformed answer")

// install replaces the machine by a prepared one.
func (g *Group) install(o *order) bool {
	f := o.fetched
	if o.run.Install.Saved != 0 {
		if err := g.readSaved(o.run.Install); err != nil {
			g.fail(err)
			return false
		}
		g.progress.advance(o.run.Install.User, o.epoch, 0)
		g.meter.committed.Set(float64(o.run.Install.User))
		return true
	}
	if f == nil {
		g.fail(errors.New("groups: a snapshot without its state"))
		return false
	}
	if err := contain(func() { g.machine.(Snapshotter).Install(f.prepared, o.run.Install.User) }); err != nil {
		g.fail(err)
		return false
	}
	g.meter.installed.Inc()
	g.progress.advance(o.run.Install.User, o.epoch, 0)
	g.meter.committed.Set(float64(o.run.Install.User))
	if mark := o.run.Install.Mark; mark != 0 {
		g.images.adopt(mark, f)
	}
	return true
}

// adopt makes what was fetched and stored an image that can be served.
func (s *images) adopt(mark uint64, f *fetch) {
	data, err := s.store.Open(f.order.Index)
	if err != nil {
		f.g.log.Warn("cannot open the image that was fetched", "err", err)
		return
	}
	im := &image{
		mark: mark, index: f.order.Index, cancel: func() {},
		root: f.order.Root, manifest: f.manifest, raw: f.raw, data: data,
	}
	if !s.add(im) {
		data.Close()
	}
}
