package snap

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
)

const second = time.Second

func peer(n byte) id.PeerID { return id.PeerID{n} }

// state is something to fetch.
type state struct {
	data []byte
	m    *Manifest
	raw  []byte
}

func newState(t testing.TB, size, chunk int) *state {
	data := noise(size)
	m, _ := cutUp(t, data, chunk, size+1)
	return &state{data, m, m.Encode()}
}

func (s *state) root() id.ID { return RootOf(s.raw) }

// answer is what an honest source answers.
func (s *state) answer(r Request) []byte {
	if r.Manifest {
		return bytes.Clone(s.raw)
	}
	return bytes.Clone(s.data[r.Chunk*s.m.Chunk:][:s.m.ChunkSize(r.Chunk)])
}

func (s *state) plan(sources int, leader byte) *Plan {
	p := NewPlan(0, s.root(), Limits{Window: 4})
	var peers []id.PeerID
	for i := range sources {
		peers = append(peers, peer(byte(i+1)))
	}
	p.SetSources(peers, peer(leader))
	return p
}

// give answers asks honestly.
func (s *state) give(p *Plan, now time.Duration, asks ...Ask) {
	for _, a := range asks {
		p.Answer(now, a.Peer, a.Request, Here, s.answer(a.Request))
	}
}

func asked(asks []Ask) string {
	var out []string
	for _, a := range asks {
		what := fmt.Sprint(a.Chunk)
		if a.Manifest {
			what = "m"
		}
		out = append(out, fmt.Sprintf("%d:%s", a.Peer[0], what))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func wantAsks(t *testing.T, what string, got []Ask, want string) []Ask {
	t.Helper()
	if asked(got) != want {
		t.Fatalf("%s: asks %q, want %q", what, asked(got), want)
	}
	return got
}

// Chunks come from all but the leader, one at a time from each, in order, and no further ahead than the window.
func TestPlanSharesTheWork(t *testing.T) {
	t.Parallel()
	s := newState(t, 1000, 100)
	p := s.plan(3, 1)
	s.give(p, 0, wantAsks(t, "first", p.Next(0), "2:m")...)
	asks := wantAsks(t, "chunks", p.Next(0), "2:0 3:1")
	wantAsks(t, "while both are busy", p.Next(0), "")
	s.give(p, 0, asks[1])
	s.give(p, 0, wantAsks(t, "the quicker one goes on", p.Next(0), "3:2")...)
	if p.Take() != nil {
		t.Fatal("took a chunk before the first")
	}
	s.give(p, 0, wantAsks(t, "to the end of the window", p.Next(0), "3:3")...)
	wantAsks(t, "beyond the window", p.Next(0), "")
	s.give(p, 0, asks[0])
	wantAsks(t, "the window is full", p.Next(0), "")
	if got := p.Take(); !bytes.Equal(got, s.data[:100]) {
		t.Fatal("the first chunk is another")
	}
	wantAsks(t, "after a chunk was taken", p.Next(0), "2:4")
}

// With one other member only, the leader helps; alone, it does everything.
func TestPlanAsksTheLeaderLast(t *testing.T) {
	t.Parallel()
	s := newState(t, 1000, 100)
	p := s.plan(2, 1)
	s.give(p, 0, wantAsks(t, "first", p.Next(0), "2:m")...)
	wantAsks(t, "both", p.Next(0), "1:1 2:0")

	p = s.plan(1, 1)
	s.give(p, 0, wantAsks(t, "first", p.Next(0), "1:m")...)
	wantAsks(t, "the leader alone", p.Next(0), "1:0")

	p = s.plan(3, 1)
	s.give(p, 0, p.Next(0)...)
	asks := wantAsks(t, "not the leader", p.Next(0), "2:0 3:1")
	p.Answer(0, asks[0].Peer, asks[0].Request, Unknown, nil)
	wantAsks(t, "the leader steps in", p.Next(0), "1:0")
}

// Each kind of failure has its consequence, and what one could not give another is asked for.
func TestPlanCopesWithSources(t *testing.T) {
	t.Parallel()
	s := newState(t, 1000, 100)
	begin := func() (*Plan, []Ask) {
		p := s.plan(2, 9)
		s.give(p, 0, p.Next(0)...)
		return p, wantAsks(t, "chunks", p.Next(0), "1:0 2:1")
	}
	t.Run("silent", func(t *testing.T) {
		p, asks := begin()
		s.give(p, 0, asks[1])
		s.give(p, 0, wantAsks(t, "the other", p.Next(0), "2:2")...)
		s.give(p, 0, wantAsks(t, "the other", p.Next(0), "2:3")...)
		wantAsks(t, "waits", p.Next(9*second), "")
		wantAsks(t, "asks elsewhere", p.Next(10*second), "2:0")
		s.give(p, 10*second, asks[0]) // too late
		if p.Take() != nil {
			t.Fatal("took an answer that had been given up")
		}
		s.give(p, 10*second, Ask{peer(2), Request{Chunk: 0}})
		for range 4 {
			p.Take()
		}
		wantAsks(t, "asked again later", p.Next(12*second), "1:4 2:5")
	})
	t.Run("unknown", func(t *testing.T) {
		p, asks := begin()
		p.Answer(0, asks[0].Peer, asks[0].Request, Unknown, nil)
		s.give(p, 0, asks[1])
		s.give(p, 0, wantAsks(t, "elsewhere", p.Next(0), "2:0")...)
		wantAsks(t, "not before its pause is over", p.Next(second/4), "2:2")
		wantAsks(t, "again", p.Next(second), "1:3")
	})
	t.Run("not yet", func(t *testing.T) {
		p, asks := begin()
		p.Answer(0, asks[0].Peer, asks[0].Request, NotYet, nil)
		wantAsks(t, "nobody is free", p.Next(0), "")
		wantAsks(t, "soon", p.Next(second/4), "1:0")
	})
	t.Run("wrong", func(t *testing.T) {
		p, asks := begin()
		bad := s.answer(asks[0].Request)
		bad[5] ^= 1
		p.Answer(0, asks[0].Peer, asks[0].Request, Here, bad)
		s.give(p, 0, asks[1])
		s.give(p, 0, wantAsks(t, "elsewhere", p.Next(0), "2:0")...)
		wantAsks(t, "never again", p.Next(25*second), "2:2")
	})
	t.Run("short", func(t *testing.T) {
		p, asks := begin()
		p.Answer(0, asks[0].Peer, asks[0].Request, Here, s.answer(asks[0].Request)[:99])
		s.give(p, 0, asks[1])
		wantAsks(t, "elsewhere", p.Next(0), "2:0")
	})
	t.Run("gone and back", func(t *testing.T) {
		p, asks := begin()
		p.SetSources([]id.PeerID{peer(2)}, peer(9))
		p.Fail(0, asks[0].Peer, asks[0].Request, "the stream broke")
		s.give(p, 0, asks[1])
		s.give(p, 0, wantAsks(t, "elsewhere", p.Next(2*second), "2:0")...)
		p.SetSources([]id.PeerID{peer(1), peer(2)}, peer(9))
		wantAsks(t, "both again", p.Next(2*second), "1:2 2:3")
	})
	t.Run("wrong manifest", func(t *testing.T) {
		p := s.plan(2, 9)
		other := newState(t, 1000, 50)
		a := wantAsks(t, "first", p.Next(0), "1:m")[0]
		p.Answer(0, a.Peer, a.Request, Here, other.raw)
		s.give(p, 0, wantAsks(t, "the other", p.Next(0), "2:m")...)
		wantAsks(t, "without the first", p.Next(0), "2:0")
	})
	t.Run("unasked", func(t *testing.T) {
		p, _ := begin()
		p.Answer(0, peer(1), Request{Chunk: 7}, Here, s.answer(Request{Chunk: 7}))
		p.Answer(0, peer(7), Request{Chunk: 0}, Here, s.answer(Request{Chunk: 0}))
		p.Answer(0, peer(2), Request{Manifest: true}, Here, s.raw)
		p.Fail(0, peer(7), Request{Chunk: 0}, "never was")
		if done, _ := p.Progress(); done != 0 {
			t.Fatalf("took %d bytes that nobody had asked for", done)
		}
	})
}

// A fetch ends when nothing comes any more, with the reasons, and not before.
func TestPlanGivesUp(t *testing.T) {
	t.Parallel()
	s := newState(t, 1000, 100)
	p := s.plan(2, 1)
	for now := time.Duration(0); p.Err() == nil; now += second / 10 {
		for _, a := range p.Next(now) {
			if a.Peer == peer(1) {
				p.Answer(now, a.Peer, a.Request, Refused, nil)
			}
		}
		if now < 30*second && p.Err() != nil {
			t.Fatalf("after %v: %v", now, p.Err())
		}
		if now > 31*second {
			t.Fatal("never gives up")
		}
	}
	for _, part := range []string{"0100000000 refuses", "0200000000 no answer in time"} {
		if !strings.Contains(p.Err().Error(), part) {
			t.Errorf("%q does not say %q", p.Err(), part)
		}
	}
	if asks := p.Next(32 * second); asks != nil {
		t.Error("asks after the end", asks)
	}

	p = s.plan(1, 1)
	a := p.Next(0)[0]
	p.Answer(0, a.Peer, a.Request, Here, []byte("nonsense"))
	if p.Next(0); p.Err() == nil {
		t.Error("goes on when everybody lies")
	}
}

func TestPlanOfNothing(t *testing.T) {
	t.Parallel()
	s := newState(t, 0, 100)
	p := s.plan(1, 1)
	s.give(p, 0, p.Next(0)...)
	if !p.Complete() || p.Take() != nil || p.Next(0) != nil {
		t.Error("an empty state is not complete")
	}
}

// TestPlanProperties runs plans against sources that come, go, stall, refuse and lie at random; one of them stays and is
// honest, though slow. The plan must finish with the right bytes in order, with one request per source under way and no
// more than a window of chunks in memory.
func TestPlanProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		chunk := rapid.IntRange(1, 50).Draw(t, "chunk")
		data := noise(rapid.IntRange(0, 2000).Draw(t, "size"))
		var out bytes.Buffer
		c := NewCutter(&out, chunk, nil)
		c.Write(data)
		m, _ := c.Manifest()
		s := &state{data, m, m.Encode()}
		window := rapid.IntRange(1, 40).Draw(t, "window")
		n := rapid.IntRange(1, 5).Draw(t, "sources")
		leader := peer(byte(rapid.IntRange(1, n).Draw(t, "leader")))
		p := NewPlan(0, s.root(), Limits{Window: window})
		here := make([]bool, n+1)
		here[1] = true
		set := func() {
			var peers []id.PeerID
			for i := 1; i <= n; i++ {
				if here[i] {
					peers = append(peers, peer(byte(i)))
				}
			}
			p.SetSources(peers, leader)
		}
		set()
		busy := make(map[id.PeerID]Request)
		var got []byte
		now := time.Duration(0)
		for step := 0; !p.Complete(); step++ {
			if step > 20000 {
				t.Fatal("does not end")
			}
			now += time.Duration(rapid.IntRange(0, 200).Draw(t, "ms")) * time.Millisecond
			for _, a := range p.Next(now) {
				if _, is := busy[a.Peer]; is && now < 9*second {
					t.Fatalf("asks %v twice", a.Peer)
				}
				busy[a.Peer] = a.Request
			}
			if err := p.Err(); err != nil {
				t.Fatal(err)
			}
			if len(p.arrived) > window {
				t.Fatalf("%d chunks in memory", len(p.arrived))
			}
			if rapid.Bool().Draw(t, "take") {
				for c := p.Take(); c != nil; c = p.Take() {
					got = append(got, c...)
				}
			}
			i := rapid.IntRange(1, n).Draw(t, "who")
			r, is := busy[peer(byte(i))]
			if i == 1 {
				if is {
					delete(busy, peer(1))
					s.give(p, now, Ask{peer(1), r})
				}
				continue
			}
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				here[i] = !here[i]
				set()
				if is && !here[i] {
					delete(busy, peer(byte(i)))
					p.Fail(now, peer(byte(i)), r, "gone")
				}
			case 1:
				if is {
					delete(busy, peer(byte(i)))
					p.Answer(now, peer(byte(i)), r, Reply(rapid.IntRange(1, 3).Draw(t, "reply")), nil)
				}
			case 2:
				if is && rapid.IntRange(0, 9).Draw(t, "lie") == 0 {
					delete(busy, peer(byte(i)))
					p.Answer(now, peer(byte(i)), r, Here, append(s.answer(r), 1))
				}
			case 3: // silence
			default:
				if is {
					delete(busy, peer(byte(i)))
					s.give(p, now, Ask{peer(byte(i)), r})
				}
			}
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%d bytes arrived, and not those that were sent", len(got))
		}
	})
}
