package discovery

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/discovery/internal/wire"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// attacker speaks the protocols of discovery by hand. Its connections and its identity are in order.
type attacker struct {
	t    *testing.T
	w    *world
	host transport.Host
	key  ed25519.PrivateKey
	self PeerID
}

func (w *world) attacker(t *testing.T) *attacker {
	key := w.newKey()
	h := w.raw(key)
	return &attacker{t, w, h, key, h.ID()}
}

// entry returns an entry of the attacker's, signed.
func (a *attacker) entry(change func(e *wire.Entry)) *wire.Signed {
	start := int64(a.host.Incarnation())
	e := &wire.Entry{Network: a.w.network, Peer: a.self, Start: start, Update: start, Addrs: a.host.Addr().Addrs}
	if change != nil {
		change(e)
	}
	e.Sort()
	return wire.SignEntry(e, a.key)
}

// open opens a stream to a victim.
func (a *attacker) open(victim *testNode, protocol string) transport.Stream {
	a.t.Helper()
	a.host.Learn(victim.host.Addr())
	s, err := a.host.Open(context.Background(), victim.self, protocol)
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

// frame frames a body.
func frame(body []byte) []byte {
	n := len(body)
	return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

func framed(f wire.Frame) []byte { return frame(f.Append(nil)) }

// verdict reads a stream until the victim ends it, and returns with which code.
func verdict(t *testing.T, s transport.Stream) link.Code {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(2 * time.Minute))
	_, err := io.Copy(io.Discard, s)
	if err == nil {
		t.Error("the stream ended as if all were well")
	}
	return link.CodeOf(err)
}

// unharmed checks that honest nodes see each other, not the attacker, and still talk.
func unharmed(t *testing.T, nodes []*testNode, a *attacker) {
	t.Helper()
	meet(t, time.Second, nodes...)
	tag := "still talking " + id.Random().Short()
	if err := nodes[0].AddTags(tag); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Second, "the honest nodes talk", func() bool {
		for _, n := range nodes {
			if p, _ := n.Catalog().Get(nodes[0].self); !p.HasTag(tag) {
				return false
			}
		}
		return true
	})
	for _, n := range nodes {
		if _, ok := n.Catalog().Get(a.self); ok {
			t.Error("the attacker is in a catalog")
		}
	}
}

// A signature that is not valid is never an accident: the peer is banned at once.
func TestBadSignatures(t *testing.T) {
	forge := func(s *wire.Signed) *wire.Signed {
		bad := *s
		bad.Sig[3] ^= 1
		return &bad
	}
	for name, attack := range map[string]func(a *attacker, victim *testNode) transport.Stream{
		"of the own entry in a greeting": func(a *attacker, victim *testNode) transport.Stream {
			s := a.open(victim, protocolGossip)
			s.Write(framed(&wire.Greet{Self: wire.Update{Entry: forge(a.entry(nil))}}))
			return s
		},
		"of another's entry in gossip": func(a *attacker, victim *testNode) transport.Stream {
			s := a.open(victim, protocolGossip)
			other := numberedKey(1)
			now := time.Now().UnixMilli()
			e := wire.SignEntry(&wire.Entry{Network: a.w.network, Peer: id.PeerIDOf(other), Start: now, Update: now}, other)
			s.Write(framed(&wire.Greet{Self: wire.Update{Entry: a.entry(nil)}}))
			s.Write(framed(wire.Updates{{Entry: forge(e)}}))
			return s
		},
		"of a sign of life": func(a *attacker, victim *testNode) transport.Stream {
			s := a.open(victim, protocolGossip)
			e := a.entry(nil)
			b := &wire.Beat{Peer: a.self, Start: e.Start, Content: e.Entry.Update, At: e.Entry.Update + 1000}
			b.Sign(id.Of("another network"), a.key)
			s.Write(framed(&wire.Greet{Self: wire.Update{Entry: e}}))
			s.Write(framed(wire.Updates{{Beat: b}}))
			return s
		},
		"of a departure of another": func(a *attacker, victim *testNode) transport.Stream {
			s := a.open(victim, protocolGossip)
			var someone *wire.Entry
			for p := range victim.Catalog().Peers() {
				someone = p.e
			}
			d := &wire.Depart{Peer: someone.Peer, Start: someone.Start, At: time.Now().UnixMilli()}
			d.Sign(a.w.network, a.key) // signed, but not by the one who departs
			s.Write(framed(&wire.Greet{Self: wire.Update{Entry: a.entry(nil)}}))
			s.Write(framed(wire.Updates{{Depart: d}}))
			return s
		},
		"in a comparison": func(a *attacker, victim *testNode) transport.Stream {
			s := a.open(victim, protocolSync)
			s.Write(framed(&wire.Open{Step: 1000, Digests: make([]uint64, 16), Self: wire.Update{Entry: forge(a.entry(nil))}}))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				nodes := w.nodes(3, nodeOptions{})
				events := nodes[2].listen(t)
				a := w.attacker(t)
				if code := verdict(t, attack(a, nodes[0])); code != link.CodeProtocolViolation && code != link.CodeBanned {
					t.Errorf("the stream ended with %v", code)
				}
				err := a.host.Connect(context.Background(), nodes[0].host.Addr())
				if !errors.Is(err, &link.CloseError{Code: link.CodeBanned}) {
					t.Errorf("another connection ends with %v", err)
				}
				if got := nodes[0].Status().Refused; got["banned"] != 1 || got["signature"] != 1 {
					t.Errorf("refused: %v", got)
				}
				if !nodes[0].log.has("peer banned") {
					t.Error("it is not in the log")
				}
				meet(t, time.Second, nodes...)
				if n := events.count(func(e Event) bool { return e.Kind == Departed && e.Peer != a.self }); n != 0 {
					t.Errorf("honest peers departed: %v", events)
				}
			})
		})
	}
}

// What no correct peer says ends the link with a reason, and the third time within ten minutes the peer is banned.
func TestViolations(t *testing.T) {
	greet := func(a *attacker) []byte { return framed(&wire.Greet{Self: wire.Update{Entry: a.entry(nil)}}) }
	other := func(a *attacker) wire.Update {
		key := numberedKey(1)
		now := time.Now().UnixMilli()
		return wire.Update{Entry: wire.SignEntry(&wire.Entry{Network: a.w.network, Peer: id.PeerIDOf(key), Start: now, Update: now}, key)}
	}
	oversize := func(a *attacker) *wire.Signed {
		return a.entry(func(e *wire.Entry) { // every part is within its limit, the whole is not
			for n := range byte(wire.MaxGroups / 256) {
				for m := range 256 {
					e.Groups = append(e.Groups, id.ID{n, byte(m), 1})
					e.Streams = append(e.Streams, id.ID{n, byte(m), 2})
				}
			}
		})
	}
	for name, c := range map[string]struct {
		protocol string
		say      func(a *attacker) []byte
		code     link.Code
	}{
		"no greeting":              {protocolGossip, func(a *attacker) []byte { return framed(wire.Alive{}) }, link.CodeProtocolViolation},
		"random bytes":             {protocolGossip, func(*attacker) []byte { return frame(bytes.Repeat([]byte{0xa5}, 500)) }, link.CodeProtocolViolation},
		"an empty frame":           {protocolGossip, func(*attacker) []byte { return frame(nil) }, link.CodeProtocolViolation},
		"a frame that is too long": {protocolGossip, func(*attacker) []byte { return []byte{0x7f, 0xff, 0xff, 0xff, 1} }, link.CodeFrameTooLarge},
		"somebody else's entry":    {protocolGossip, func(a *attacker) []byte { return framed(&wire.Greet{Self: other(a)}) }, link.CodeProtocolViolation},
		"garbage after a greeting": {protocolGossip, func(a *attacker) []byte { return append(greet(a), frame([]byte{99})...) }, link.CodeProtocolViolation},
		"a frame of the other protocol": {protocolGossip, func(a *attacker) []byte {
			return append(greet(a), framed(wire.Done{})...)
		}, link.CodeProtocolViolation},
		"an oversize entry": {protocolGossip, func(a *attacker) []byte { return framed(&wire.Greet{Self: wire.Update{Entry: oversize(a)}}) }, link.CodeFrameTooLarge},
		"an entry with too many tags": {protocolGossip, func(a *attacker) []byte {
			return framed(&wire.Greet{Self: wire.Update{Entry: a.entry(func(e *wire.Entry) {
				for n := range wire.MaxTags + 1 {
					e.Tags = append(e.Tags, id.ID{byte(n >> 8), byte(n), 1})
				}
			})}})
		}, link.CodeProtocolViolation},
		"an oversize entry in a comparison":  {protocolSync, func(a *attacker) []byte { return framed(wire.Updates{{Entry: oversize(a)}}) }, link.CodeProtocolViolation},
		"a comparison that begins with rows": {protocolSync, func(a *attacker) []byte { return framed(&wire.Rows{}) }, link.CodeProtocolViolation},
		"half a frame":                       {protocolSync, func(a *attacker) []byte { return greet(a)[:20] }, link.CodeTimeout},
		"nothing at all":                     {protocolGossip, func(*attacker) []byte { return []byte{0} }, link.CodeTimeout},
		"an entry of another network": {protocolGossip, func(a *attacker) []byte {
			return framed(&wire.Greet{Self: wire.Update{Entry: a.entry(func(e *wire.Entry) { e.Network = id.Of("another") })}})
		}, link.CodeDifferentNetwork},
		"an entry from the future": {protocolGossip, func(a *attacker) []byte {
			return framed(&wire.Greet{Self: wire.Update{Entry: a.entry(func(e *wire.Entry) { e.Update += 3_600_000 })}})
		}, link.CodeClockDrift},
		"an entry of long ago": {protocolGossip, func(a *attacker) []byte {
			return framed(&wire.Greet{Self: wire.Update{Entry: a.entry(func(e *wire.Entry) { e.Start -= 3_600_000; e.Update = e.Start })}})
		}, link.CodeClockDrift},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				nodes := w.nodes(3, nodeOptions{})
				a := w.attacker(t)
				attempt := func() link.Code {
					s := a.open(nodes[0], c.protocol)
					s.Write(c.say(a))
					return verdict(t, s)
				}
				blamed := c.code == link.CodeProtocolViolation || c.code == link.CodeFrameTooLarge
				if code := attempt(); code != c.code && !(blamed && code == link.CodeProtocolViolation) {
					t.Errorf("the stream ended with %v, want %v", code, c.code)
				}
				if got := nodes[0].Status().Refused["violation"]; (got == 1) != blamed {
					t.Errorf("%d violations were counted", got)
				}
				if blamed {
					attempt()
					if code := attempt(); code != link.CodeBanned && code != link.CodeProtocolViolation {
						t.Errorf("the third time the stream ended with %v", code)
					}
					err := a.host.Connect(context.Background(), nodes[0].host.Addr())
					if !errors.Is(err, &link.CloseError{Code: link.CodeBanned}) {
						t.Errorf("another connection ends with %v", err)
					}
				}
				meet(t, time.Second, nodes...)
			})
		})
	}
}

// Peers cannot replace what a node says of itself, not even with its key; the node notices and says so.
func TestOwnEntryIsNeverReplaced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{tags: []string{"mine"}})
		victim := nodes[0]
		events := victim.listen(t)
		a := w.attacker(t)
		stolen := wire.SignEntry(&wire.Entry{
			Network: w.network, Peer: victim.self, Start: time.Now().UnixMilli() + 1000, Update: time.Now().UnixMilli() + 1000,
			Tags: []id.ID{id.Of("stolen")},
		}, victim.key)
		before := victim.Me()
		s := a.open(victim, protocolSync)
		s.Write(framed(wire.Updates{{Entry: stolen}}))
		s.CloseWrite()
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if reply, err := io.ReadAll(s); err != nil || !bytes.Equal(reply, framed(wire.Done{})) {
			t.Errorf("the notice was answered with %x, %v", reply, err)
		}
		if !victim.Me().Equal(before) {
			t.Errorf("the own entry is now %v", victim.Me())
		}
		if got := victim.Feed(SignedPeerEntry{stolen}); got != FeedSelf {
			t.Errorf("fed by hand it was %v", got)
		}
		events.got(t, time.Second, DuplicateIdentity, victim)
		if d := victim.Status().Duplicate; d == nil || d.Start.UnixMilli() != stolen.Start {
			t.Errorf("status: %+v", d)
		}
		if got := victim.Status().Refused["conflict"]; got != 1 {
			t.Errorf("%d conflicts were counted, want 1", got)
		}
	})
}

// A thousand streams on which a peer says half a word cost the others nothing.
func TestSilentStreams(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		a := w.attacker(t)
		var streams []transport.Stream
		for range 500 {
			s := a.open(nodes[0], protocolSync)
			s.Write([]byte{0, 0})
			streams = append(streams, s)
		}
		for range 500 {
			s := a.open(nodes[0], protocolGossip)
			s.Write([]byte{0, 0})
			streams = append(streams, s)
		}
		began := time.Now()
		if err := nodes[1].SyncWith(context.Background(), nodes[0].host.Addr()); err != nil {
			t.Errorf("an honest comparison meanwhile: %v", err)
		}
		unharmed(t, nodes, a)
		if took := time.Since(began); took > time.Second {
			t.Errorf("the honest peers needed %v", took)
		}
		codes := map[link.Code]int{}
		for _, s := range streams {
			codes[verdict(t, s)]++
		}
		if codes[link.CodeOverloaded] < 900 || codes[link.CodeTimeout] < maxStreamsPerPeer-1 {
			t.Errorf("the streams ended with %v", codes)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the last stream ended after %v", took)
		}
	})
}

// A peer that changes its entry without end is held back, and costs its neighbours' neighbours nothing.
func TestFloodOfChanges(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		events := nodes[2].listen(t)
		a := w.attacker(t)
		s := a.open(nodes[0], protocolGossip)
		defer s.Abort(link.CodeCancelled)
		s.Write(framed(&wire.Greet{Self: wire.Update{Entry: a.entry(nil)}}))
		go io.Copy(io.Discard, s)
		for n := range int64(2000) {
			s.Write(framed(wire.Updates{{Entry: a.entry(func(e *wire.Entry) { e.Update += n + 1 })}}))
		}
		time.Sleep(5 * time.Second)
		if n := events.count(func(e Event) bool { return e.Peer == a.self }); n > contentBurst+6 {
			t.Errorf("%d of 2000 changes reached another node", n)
		}
		if nodes[0].Status().Refused["held"] < 1000 {
			t.Errorf("refused: %v", nodes[0].Status().Refused)
		}
		meet(t, time.Second, nodes...)
	})
}

// A peer that asks for entries or makes signs of life up gets only its share of work done.
func TestFloodOfQuestions(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		a := w.attacker(t)
		s := a.open(nodes[0], protocolGossip)
		defer s.Abort(link.CodeCancelled)
		s.Write(framed(&wire.Greet{Self: wire.Update{Entry: a.entry(nil)}}))
		go io.Copy(io.Discard, s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			wants := make(wire.Wants, wire.MaxWants)
			for i := range wants {
				wants[i] = nodes[1].self
			}
			s.SetWriteDeadline(time.Now().Add(10 * time.Second))
			for range 100_000 { // it is made to wait
				if _, err := s.Write(framed(wants)); err != nil {
					return
				}
			}
			t.Error("6,400,000 questions were taken in ten seconds")
		}()
		for range 5 {
			time.Sleep(time.Second)
			meet(t, time.Second, nodes...)
		}
		<-done
	})
}

// Whatever numbers peers give as their reasons to turn a node down, they count as one.
func TestMadeUpReasons(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		a := w.attacker(t)
		for i := range 3 {
			s := a.open(nodes[0], protocolGossip)
			s.Write([]byte{0})
			time.Sleep(time.Second)
			s.Abort(link.Code(70_000 + i))
			time.Sleep(time.Second)
		}
		if got := nodes[0].Status().RefusedBy; len(got) != 1 || got[link.Code(70_000).Label()] != 3 {
			t.Errorf("refused by peers: %v", got)
		}
		unharmed(t, nodes, a)
	})
}

// However many peers misbehave, they cannot fill the log.
func TestManyViolators(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		const many = 100
		for range many {
			s := w.attacker(t).open(nodes[0], protocolGossip)
			s.Write(framed(wire.Alive{}))
			if got := verdict(t, s); got != link.CodeProtocolViolation {
				t.Errorf("refused with %v", got)
			}
		}
		if got := nodes[0].Status().Refused["violation"]; got != many {
			t.Errorf("%d violations were counted, want %d", got, many)
		}
		warned := nodes[0].log.count(`level=WARN msg="peer disconnected"`)
		if warned < scoldBurst || warned > scoldBurst+10 {
			t.Errorf("%d warnings about %d peers", warned, many)
		}
	})
}

// A comparison that does not end is ended.
func TestEndlessComparison(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(2, nodeOptions{})
		a := w.attacker(t)
		s := a.open(nodes[0], protocolSync)
		s.Write(framed(&wire.Open{Step: 1000, Digests: make([]uint64, 16), Self: wire.Update{Entry: a.entry(nil)}}))
		go io.Copy(io.Discard, s)
		big := frame(append([]byte{7, 0x80, 0x20}, bytes.Repeat([]byte{1}, 8*4096+1)...)) // prefixes: 4096 entries, no beats
		big[len(big)-1] = 0
		var sent int
		var err error
		for err == nil && sent < 64<<20 {
			var n int
			n, err = s.Write(big)
			sent += n
		}
		if err == nil || sent > 24<<20 {
			t.Errorf("%d bytes were taken in one comparison: %v", sent, err)
		}
		if got := nodes[0].Status().Refused["violation"]; got != 1 {
			t.Errorf("%d violations", got)
		}
	})
}

// Random frames, in random order, of random length, never do more than end the stream.
func TestRandomFrames(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		rng := rand.New(rand.NewPCG(1, 2))
		for range 60 {
			a := w.attacker(t)
			protocol := protocolGossip
			if rng.IntN(2) == 0 {
				protocol = protocolSync
			}
			s := a.open(nodes[0], protocol)
			say := []byte{}
			if rng.IntN(2) == 0 && protocol == protocolGossip {
				say = framed(&wire.Greet{Self: wire.Update{Entry: a.entry(nil)}})
			}
			for range rng.IntN(5) {
				body := make([]byte, rng.IntN(3000))
				for i := range body {
					body[i] = byte(rng.Uint32())
				}
				if len(body) > 0 {
					body[0] = byte(rng.IntN(10))
				}
				say = append(say, frame(body)...)
			}
			s.Write(say)
			s.CloseWrite()
			s.SetReadDeadline(time.Now().Add(time.Minute))
			io.Copy(io.Discard, s)
			s.Abort(link.CodeCancelled)
			a.host.Close()
		}
		meet(t, time.Second, nodes...)
		for _, n := range nodes {
			if strings.Contains(n.Status().String(), "no neighbour") {
				t.Error("an honest node lost its neighbours")
			}
		}
	})
}
