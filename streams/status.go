package streams

import (
	"fmt"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/streams/internal/engine"
)

// Refusal says which peer has no channel, and why.
type Refusal struct {
	Peer   PeerID
	Reason Reason    // zero while an attempt is under way
	Detail string    // more than the reason says, in words
	Remote bool      // the other side decided
	Since  time.Time // of the first in a row, zero if not known
	Tries  int       // in a row
	Retry  time.Time // not tried again before, unless something changes; zero: not until then
}

// String returns the refusal in words.
func (r Refusal) String() string {
	var b strings.Builder
	b.WriteString(r.Peer.Short())
	b.WriteString(": ")
	if r.Reason != 0 {
		if r.Remote {
			b.WriteString("refused there: ")
		} else {
			b.WriteString("refused here: ")
		}
		b.WriteString(r.Reason.String())
		if r.Detail != "" {
			b.WriteString(": ")
		}
	}
	b.WriteString(r.Detail)
	if r.Tries > 1 {
		fmt.Fprintf(&b, " (%d times)", r.Tries)
	}
	return b.String()
}

func refusals(in []engine.Refusal) []Refusal {
	out := make([]Refusal, len(in))
	for i, r := range in {
		out[i] = Refusal{
			Peer: r.Peer, Reason: Reason(r.Code), Detail: r.Detail, Remote: r.Remote,
			Since: r.Since, Tries: r.Tries, Retry: r.Retry,
		}
	}
	return out
}

// Status is what a producer or consumer knows about itself at one moment.
type Status struct {
	Name     string
	Stream   id.ID
	Producer bool // of a producer
	Online   bool
	Reason   string // in words, why it is not online, so that Send waits; empty when it is
	Note     string // in words, what else may keep others away while there is no channel, such as another network secret
	Channels []Channel
	Refused  []Refusal
	Stats    Stats
}

// Status returns the state of the producer: its consumers, and who was refused lately.
func (p *Producer[T]) Status() Status {
	s := Status{
		Name: p.name, Stream: p.id, Producer: true, Online: p.IsOnline(),
		Channels: p.Consumers(), Refused: refusals(p.sink.Refusals()), Stats: p.Stats(),
	}
	switch {
	case p.life.Err() != nil:
		s.Reason = "it is closed"
	case !s.Online:
		s.Reason = unmet(len(s.Channels), "consumers")
		if c, at := p.sink.LastEnded(); c != nil {
			code, detail := Channel{c}.Reason()
			s.Reason += fmt.Sprintf("; the channel to %s ended %v ago: %v", c.Consumer.Short(), time.Since(at).Round(time.Second), code)
			if detail != "" {
				s.Reason += ": " + detail
			}
		}
	}
	s.note(p.svc)
	return s
}

// unmet says that the online condition is not met.
func unmet(n int, others string) string {
	return fmt.Sprintf("its online condition is not met with %d %s", n, others)
}

// note fills in the note.
func (s *Status) note(svc *engine.Service) {
	if len(s.Channels) == 0 {
		s.Note = svc.Note()
	}
}

// Status returns the state of the consumer: its producers, and those that it has no subscription with.
func (c *Consumer[T]) Status() Status {
	s := Status{
		Name: c.name, Stream: c.id, Online: c.IsOnline(),
		Channels: c.Producers(), Refused: refusals(c.src.Refusals()), Stats: c.Stats(),
	}
	if !s.Online {
		s.Reason = unmet(len(s.Channels), "producers")
	}
	s.note(c.svc)
	return s
}

// String explains the state in a few lines.
func (s Status) String() string {
	var b strings.Builder
	what, others := "consumer", "producers"
	if s.Producer {
		what, others = "producer", "consumers"
	}
	state := "online"
	if !s.Online {
		state = "offline: " + s.Reason
	}
	fmt.Fprintf(&b, "%s of %q (%s), %s, %d %s", what, s.Name, s.Stream.Short(), state, len(s.Channels), others)
	if len(s.Channels) == 0 && len(s.Refused) == 0 && !s.Producer {
		b.WriteString("; no peer that is known announces the stream")
	}
	if s.Note != "" {
		fmt.Fprintf(&b, "\n  %s", s.Note)
	}
	fmt.Fprintf(&b, "\n  %v", s.Stats)
	for _, c := range s.Channels {
		fmt.Fprintf(&b, "\n  %v", c)
	}
	for _, r := range s.Refused {
		fmt.Fprintf(&b, "\n  no channel with %v", r)
	}
	return b.String()
}
