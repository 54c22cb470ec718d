package host

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/snap"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Times and bounds of the streams on which state travels.
const (
	bulkIdle     = 30 * time.Second // a stream without a question
	bulkWrite    = 20 * time.Second // one answer
	bulkStreams  = 64               // answered at a time, by a node
	bulkFromPeer = 8                // by one peer
)

// bulkServer answers questions for state, for all groups of a node.
type bulkServer struct {
	svc    *Service
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // guards all following fields
	streams map[id.PeerID]int
	total   int
	wg      sync.WaitGroup
	closed  bool
}

func startBulkServer(s *Service) *bulkServer {
	b := &bulkServer{svc: s, streams: make(map[id.PeerID]int)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	s.node.Host.Handle(snap.Protocol, b.handle)
	return b
}

// close ends all streams and waits for their handlers.
func (b *bulkServer) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.svc.node.Host.Handle(snap.Protocol, transport.Refuse)
	b.cancel()
	b.wg.Wait()
}

func (b *bulkServer) enter(peer id.PeerID) link.Code {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return link.CodeShutdown
	case b.total >= bulkStreams || b.streams[peer] >= bulkFromPeer:
		return link.CodeOverloaded
	}
	b.total++
	b.streams[peer]++
	b.wg.Add(1)
	return 0
}

func (b *bulkServer) leave(peer id.PeerID) {
	b.mu.Lock()
	b.total--
	if b.streams[peer]--; b.streams[peer] == 0 {
		delete(b.streams, peer)
	}
	b.mu.Unlock()
	b.wg.Done()
}

// handle answers the questions of one stream.
func (b *bulkServer) handle(s transport.Stream) {
	if code := b.enter(s.Peer()); code != 0 {
		s.Abort(code)
		return
	}
	defer b.leave(s.Peer())
	stop := context.AfterFunc(b.ctx, func() { s.Abort(link.CodeShutdown) })
	defer stop()
	if err := b.answer(s); err != io.EOF {
		s.Abort(link.CodeOf(err))
		return
	}
	s.Close()
}

// answer returns why the stream ended.
func (b *bulkServer) answer(s transport.Stream) error {
	var question, answer []byte
	var open openImage
	defer open.close()
	for {
		var err error
		s.SetReadDeadline(time.Now().Add(bulkIdle))
		if question, err = readFrame(s, question[:0], questionFrame); err != nil {
			return err
		}
		q, err := snap.DecodeQuestion(question)
		if err != nil {
			return violated(err)
		}
		if answer, err = b.lookUp(answer[:0], s.Peer(), q, &open); err != nil {
			return err
		}
		s.SetWriteDeadline(time.Now().Add(bulkWrite))
		if _, err := s.Write(answer); err != nil {
			return err
		}
	}
}

// openImage is the image that a stream read last.
type openImage struct {
	group  *Group
	reader *imageReader
}

func (o *openImage) close() {
	if o.reader != nil {
		o.reader.close()
		o.reader = nil
	}
}

// turn makes it the image with a root.
func (o *openImage) turn(g *Group, root id.ID) (reply snap.Reply) {
	if o.reader != nil && o.group == g && o.reader.root == root && o.reader.current() {
		return snap.Here
	}
	o.close()
	o.group = g
	o.reader, reply = g.images.open(root)
	return reply
}

// questionFrame bounds the frames of questions.
const questionFrame = 128

// lookUp appends the frame that answers a question. Only a peer that is bonded, so one that has proven to know the
// group's key, is told anything.
func (b *bulkServer) lookUp(dst []byte, peer id.PeerID, q snap.Question, open *openImage) ([]byte, error) {
	short := func(r snap.Reply) ([]byte, error) { return append(dst, 0, 0, 0, 1, byte(r)), nil }
	g := b.svc.lookUp(q.Group)
	if g == nil || !g.State().bonded(peer) {
		return short(snap.Refused)
	}
	if reply := open.turn(g, q.Root); reply != snap.Here {
		return short(reply)
	}
	r := open.reader
	dst = append(dst, 0, 0, 0, 0, byte(snap.Here))
	if q.Manifest {
		dst = append(dst, r.raw...)
	} else {
		if q.Chunk >= len(r.manifest.Hashes) {
			return nil, violated(fmt.Errorf("chunk %d of %d", q.Chunk, len(r.manifest.Hashes)))
		}
		var err error
		if dst, err = r.chunk(q.Chunk, slices.Grow(dst, r.manifest.ChunkSize(q.Chunk))); err != nil {
			return nil, fmt.Errorf("groups: read an image: %w", err)
		}
	}
	binary.BigEndian.PutUint32(dst, uint32(len(dst)-link.HeaderSize))
	g.meter.stateSent.Add(float64(len(dst) - link.HeaderSize - 1))
	if now := int64(b.svc.now()); now-r.told.Load() >= int64(usedEvery) {
		r.told.Store(now)
		g.tellBulk(bulkEvent{kind: bulkUsed, id: r.mark})
	}
	return dst, nil
}

// bonded reports whether there is a bond to the peer.
func (s *State) bonded(peer id.PeerID) bool {
	for i := range s.Bonds {
		if s.Bonds[i].Peer == peer {
			return true
		}
	}
	return false
}

// lookUp returns a group of the node, nil if there is none.
func (s *Service) lookUp(group id.ID) *Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.groups[group]; m != nil {
		return m.group
	}
	return nil
}

// readFrame reads a frame into buf, which it grows as needed, after it has seen that the frame is not too long.
func readFrame(r io.Reader, buf []byte, most int) ([]byte, error) {
	var head [link.HeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(most) {
		return buf, &link.CloseError{Code: link.CodeFrameTooLarge}
	}
	if cap(buf) < int(n) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return buf, err
	}
	return buf, nil
}

// violated makes an error one of a peer that breaks the protocol.
func violated(err error) error {
	return fmt.Errorf("%w: %w", &link.CloseError{Code: link.CodeProtocolViolation}, err)
}
