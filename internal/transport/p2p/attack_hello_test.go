package p2p

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
	"github.com/mosaik-go/mosaik/internal/transport"
)

// Whatever a stranger says instead of a hello, the connection is closed with a reason that both sides can read, and soon.
func TestHelloAttacks(t *testing.T) {
	wrong := func(change func(*hello)) func(id.ID) []byte {
		return func(net id.ID) []byte {
			m := helloOf(net)
			change(&m)
			return framed(m.encode())
		}
	}
	zeroProof := framed(append([]byte{frameProof}, make([]byte, handshake.ProofSize)...))
	for _, c := range []struct {
		name   string
		secret string
		say    func(net id.ID) []byte // on the control stream; nil: there is none
		end    bool                   // then end the stream
		code   link.Code
	}{
		{"silent connection", "", nil, false, link.CodeTimeout},
		{"silent control stream", "", func(id.ID) []byte { return nil }, false, link.CodeTimeout},
		{"half a hello", "", func(net id.ID) []byte { return wrong(func(*hello) {})(net)[:20] }, false, link.CodeTimeout},
		{"half a hello, then the end", "", func(net id.ID) []byte { return wrong(func(*hello) {})(net)[:20] }, true, link.CodeProtocolViolation},
		{"oversize frame", "", func(id.ID) []byte { return framed(make([]byte, controlFrameMax+1)) }, false, link.CodeFrameTooLarge},
		{"4 GiB frame", "", func(id.ID) []byte { return []byte{255, 255, 255, 255} }, false, link.CodeFrameTooLarge},
		{"empty frame", "", func(id.ID) []byte { return framed(nil) }, false, link.CodeProtocolViolation},
		{"frame of zeros", "", func(id.ID) []byte { return framed(make([]byte, helloSize)) }, false, link.CodeProtocolViolation},
		{"random frame", "", func(id.ID) []byte { return framed(random(helloSize)) }, false, 0},
		{"ping first", "", func(id.ID) []byte { return framed(append([]byte{framePing}, random(pingSize-1)...)) }, false, link.CodeProtocolViolation},
		{"hello that is too long", "", func(net id.ID) []byte {
			m := helloOf(net)
			return framed(append(m.encode(), 0))
		}, false, link.CodeProtocolViolation},
		{"foreign network", "", wrong(func(m *hello) { m.network = id.Random() }), false, link.CodeDifferentNetwork},
		{"future version", "", wrong(func(m *hello) { m.min, m.max = 200, 201 }), false, link.CodeIncompatibleVersion},
		{"versions upside down", "", wrong(func(m *hello) { m.min, m.max = 1, 0 }), false, link.CodeIncompatibleVersion},
		{"incarnation zero", "", wrong(func(m *hello) { m.incarnation = 0 }), false, link.CodeProtocolViolation},
		{"negative incarnation", "", wrong(func(m *hello) { m.incarnation = -1 }), false, link.CodeProtocolViolation},
		{"two hellos", "", func(net id.ID) []byte {
			b := wrong(func(*hello) {})(net)
			return append(b, b...)
		}, false, link.CodeProtocolViolation},
		{"no proof", "", wrong(func(*hello) {}), false, link.CodeTimeout},
		{"a proof where none is asked", "", func(net id.ID) []byte {
			return append(wrong(func(*hello) {})(net), framed(append([]byte{frameProof}, random(handshake.ProofSize)...))...)
		}, false, link.CodeBadProof},
		{"no proof where one is asked", "secret", func(net id.ID) []byte {
			return append(wrong(func(*hello) {})(net), zeroProof...)
		}, false, link.CodeBadProof},
		{"a random proof", "secret", func(net id.ID) []byte {
			return append(wrong(func(*hello) {})(net), framed(append([]byte{frameProof}, random(handshake.ProofSize)...))...)
		}, false, link.CodeBadProof},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, listen string) {
				v := newVictim(t, listen, c.secret)
				a := newAttacker(t, listen)
				raw := a.dial(v.host)
				start := time.Now()
				var s network.Stream
				if c.say == nil {
					s = silentWatch(a, raw)
				} else {
					s = a.open(raw, append(header(controlProtocol), c.say(v.network)...)...)
				}
				if c.end {
					s.CloseWrite()
				}
				got := told(s)
				if took := time.Since(start); took > helloTimeout+slack {
					t.Errorf("closed after %v, want %v at most", took, helloTimeout)
				}
				want := c.code
				if want == 0 { // several are right
					want = got
					if got != link.CodeProtocolViolation && got != link.CodeDifferentNetwork {
						t.Errorf("the attacker is told %v", got)
					}
				}
				// Who opens no control stream is told nothing on it, and the connection's own reason can be lost.
				if got != want && (c.say != nil || got != link.CodeUnexpectedClose) {
					t.Errorf("the attacker is told %v, want %v", got, want)
				}
				v.wantRefused(a, want)
				eventually(t, "the refusal is counted", func() bool {
					return v.counted("mosaik_network_refused", want.String()) >= 1
				})
				v.checkHonest("after the attack")
			})
		})
	}
}

// silentWatch opens a stream that says nothing, to see why the connection ends. It is not a control stream.
func silentWatch(a *attacker, c network.Conn) network.Stream { return a.open(c) }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// A hello in drops, each in time for an idle limit, must still be over in time.
func TestHelloInDrops(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		v := newVictim(t, listen, "")
		a := newAttacker(t, listen)
		s := a.open(a.dial(v.host))
		start := time.Now()
		m := helloOf(v.network)
		go func() {
			for _, b := range append(header(controlProtocol), framed(m.encode())...) {
				if _, err := s.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(200 * time.Millisecond)
			}
		}()
		if got := told(s); got != link.CodeTimeout {
			t.Errorf("the attacker is told %v, want %v", got, link.CodeTimeout)
		}
		if took := time.Since(start); took > helloTimeout+slack {
			t.Errorf("closed after %v", took)
		}
		v.wantRefused(a, link.CodeTimeout)
	})
}

// Once in, a peer that breaks the rules of the control stream is out again, and others do not notice.
func TestControlAttacks(t *testing.T) {
	ping := framed(append([]byte{framePing}, make([]byte, pingSize-1)...))
	for _, c := range []struct {
		name string
		say  []byte
		end  bool
		code link.Code
	}{
		{"oversize frame", framed(make([]byte, controlFrameMax+1)), false, link.CodeFrameTooLarge},
		{"4 GiB frame", []byte{255, 255, 255, 255, 0}, false, link.CodeFrameTooLarge},
		{"truncated frame", ping[:7], true, link.CodeProtocolViolation},
		{"empty frame", framed(nil), false, link.CodeProtocolViolation},
		{"short ping", framed([]byte{framePing, 1, 2}), false, link.CodeProtocolViolation},
		{"unknown frame", framed([]byte{200, 1, 2, 3}), false, link.CodeProtocolViolation},
		{"random frame", framed(append([]byte{99}, random(200)...)), false, link.CodeProtocolViolation},
		{"hello again", framed(func() []byte { m := helloOf(id.Random()); return m.encode() }()), false, link.CodeProtocolViolation},
		{"silence", nil, false, link.CodeTimeout},
		{"half a frame, then silence", ping[:7], false, link.CodeTimeout},
		{"goodbye", framed(goodbye(link.CodeShutdown)), false, link.CodeShutdown},
		{"goodbye without a reason", framed([]byte{frameGoodbye}), false, link.CodeProtocolViolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, listen string) {
				v := newVictim(t, listen, "")
				a := newAttacker(t, listen)
				s := a.join(a.dial(v.host), v.network)
				eventually(t, "the attacker is in", func() bool { return v.Connected(a.id) })
				start := time.Now()
				s.Write(c.say)
				if c.end {
					s.CloseWrite()
				}
				if got := told(s); got != c.code {
					t.Errorf("the attacker is told %v, want %v", got, c.code)
				}
				if took := time.Since(start); took > transport.DefaultDeadAfter+slack {
					t.Errorf("closed after %v", took)
				}
				eventually(t, "the attacker is out", func() bool { return !v.Connected(a.id) })
				v.wantClosed(c.code)
				v.checkHonest("after the attack")
			})
		})
	}
}

// Whatever numbers peers give as their reasons to close, there is one series for all that mean nothing here.
func TestMadeUpReasons(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		v := newVictim(t, listen, "")
		for i := range 3 {
			a := newAttacker(t, listen)
			s := a.join(a.dial(v.host), v.network)
			eventually(t, "the attacker is in", func() bool { return v.Connected(a.id) })
			s.Write(framed(goodbye(link.Code(70_000 + i))))
			told(s)
			eventually(t, "the attacker is out", func() bool { return !v.Connected(a.id) })
		}
		eventually(t, "three connections count as closed for another reason", func() bool {
			return v.counted("mosaik_network_connections_closed", link.Code(70_000).Label()) == 3
		})
		v.checkHonest("after the attack")
	})
}

// A flood of pings is not answered for ever.
func TestPingFlood(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		v := newVictim(t, listen, "")
		a := newAttacker(t, listen)
		s := a.join(a.dial(v.host), v.network)
		go func() {
			ping := framed(append([]byte{framePing}, make([]byte, pingSize-1)...))
			for {
				if _, err := s.Write(ping); err != nil {
					return
				}
			}
		}()
		// Who floods may not find the reason behind its own flood.
		if got := told(s); got != link.CodeOverloaded && got != link.CodeUnexpectedClose {
			t.Errorf("the attacker is told %v, want %v", got, link.CodeOverloaded)
		}
		v.wantClosed(link.CodeOverloaded)
		v.checkHonest("after the flood")
	})
}

// Only one control stream: a second one could replace the heartbeat, or be a second opinion on who the peer is.
func TestSecondControlStream(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		v := newVictim(t, listen, "")
		a := newAttacker(t, listen)
		raw := a.dial(v.host)
		s := a.join(raw, v.network)
		m := helloOf(v.network)
		a.open(raw, append(header(controlProtocol), framed(m.encode())...)...)
		if got := told(s); got != link.CodeProtocolViolation {
			t.Errorf("the attacker is told %v, want %v", got, link.CodeProtocolViolation)
		}
		v.checkHonest("after the attack")
	})
}

// A pong with any number but the latest ping's cannot change the round-trip time.
func TestForgedPong(t *testing.T) {
	t.Parallel()
	v := newVictim(t, overTCP, "")
	a := newAttacker(t, overTCP)
	s := a.join(a.dial(v.host), v.network)
	eventually(t, "the attacker is in", func() bool { return v.Connected(a.id) })
	before, ok := v.RTT(a.id)
	if !ok {
		t.Fatal("the hello did not measure a round trip")
	}
	for _, n := range []uint64{0, 1000, math.MaxUint64} {
		if _, err := s.Write(framed(append(binary.BigEndian.AppendUint64([]byte{framePong}, n), make([]byte, pingSize-9)...))); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond) // they are read by now; if not, the test is only weaker
	if after, _ := v.RTT(a.id); after != before {
		t.Errorf("the round-trip time went from %v to %v", before, after)
	}
	if !v.Connected(a.id) {
		t.Error("a late pong is no reason to disconnect")
	}
}

// A node that does not know the secret learns nothing that lets it in: neither by sending back what it was sent, nor by
// repeating what it saw another peer say.
func TestSecretReflectedAndReplayed(t *testing.T) {
	onBoth(t, func(t *testing.T, listen string) {
		v := newVictim(t, listen, "secret")
		a := newAttacker(t, listen)
		recorded := make(chan [2][]byte, 1)
		a.stack.swarm.SetStreamHandler(func(s network.Stream) {
			if name, err := readHeader(s); err != nil || name != controlProtocol {
				return
			}
			r := link.NewReader(s, controlFrameMax)
			theirs, err := r.Next()
			if err != nil {
				return
			}
			first := append([]byte(nil), theirs...)
			s.Write(framed(first)) // their own hello, nonce included
			proof, err := r.Next()
			if err != nil {
				return
			}
			second := append([]byte(nil), proof...)
			s.Write(framed(second)) // their own proof
			recorded <- [2][]byte{first, second}
		})
		addr := id.PeerAddr{ID: a.id}
		for _, m := range a.stack.swarm.ListenAddresses() {
			addr.Addrs = append(addr.Addrs, m.String())
		}
		if err := v.Connect(t.Context(), addr); link.CodeOf(err) != link.CodeBadProof {
			t.Fatalf("the victim's dial ends with %v, want a bad proof", err)
		}
		said := <-recorded

		// The victim's own proof, as initiator towards the attacker, played to another member.
		b := newAttacker(t, listen)
		s := b.open(b.dial(v.honest), append(header(controlProtocol), append(framed(said[0]), framed(said[1])...)...)...)
		if got := told(s); got != link.CodeBadProof {
			t.Errorf("the replay is told %v, want %v", got, link.CodeBadProof)
		}
		v.checkHonest("after the attack")
	})
}
