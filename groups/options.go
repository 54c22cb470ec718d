package groups

import (
	"errors"
	"fmt"
	"time"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/tickets"
)

// Consensus holds the times and limits of a group's consensus protocol. Zero fields mean their defaults. All but Patience
// are part of the group's id, exactly, so members that disagree are in different groups rather than in one that
// misbehaves. So a durable member that is started with another value is in another group, with nothing in it, and the old
// one stays in the store: see "Changing a machine" in docs/groups.md.
type Consensus struct {
	// Heartbeat is how often a leader makes itself heard. Default 500 ms, at least 100 ms; rounded up to 100 ms.
	Heartbeat time.Duration

	// ElectionTimeout is how long a member waits without hearing from a leader before it stands for election, plus up to
	// as much again at random. A leader that does not hear from a majority for so long steps down. Default 2 s, at
	// least twice Heartbeat.
	//
	// A leader whose connection is seen to close is replaced without waiting.
	ElectionTimeout time.Duration

	// BootstrapDelay is how long a member that finds no group looks around before it founds one. Default 3 s, at least
	// 100 ms.
	BootstrapDelay time.Duration

	// RemoveAfter is how long a voting member must be unreachable before the leader removes it, provided that a majority
	// is healthy. A removed member that returns joins again. Default 10 s, at least ElectionTimeout.
	RemoveAfter time.Duration

	// RemoveDurableAfter is the same for a voting member with a durable log, which comes back as itself and with what it
	// has acknowledged; see WithStorage. Default 5 min, at least RemoveAfter.
	RemoveDurableAfter time.Duration

	// MaxVoters bounds the voting members; others hold the same state and are promoted when a voter is lost. Default 5,
	// at least 1.
	MaxVoters int

	// Patience is how long a call of this member waits while no leader is known before it fails with [ErrOffline], or
	// with [ErrOutcomeUnknown] if it had been sent. Default 10 s.
	Patience time.Duration
}

// withDefaults returns c with its zero fields filled in.
func (c Consensus) withDefaults() Consensus {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Heartbeat, 500*time.Millisecond)
	set(&c.ElectionTimeout, 2*time.Second)
	set(&c.BootstrapDelay, 3*time.Second)
	set(&c.RemoveAfter, 10*time.Second)
	set(&c.RemoveDurableAfter, max(5*time.Minute, c.RemoveAfter))
	set(&c.Patience, 10*time.Second)
	if c.MaxVoters == 0 {
		c.MaxVoters = 5
	}
	return c
}

// longest bounds every duration, so that sums cannot overflow.
const longest = 24 * time.Hour

// validate checks c after withDefaults.
func (c Consensus) validate() error {
	for _, f := range []struct {
		name  string
		value time.Duration
		least time.Duration
		rule  string
	}{
		{"Heartbeat", c.Heartbeat, 100 * time.Millisecond, "100ms"},
		{"ElectionTimeout", c.ElectionTimeout, 2 * c.Heartbeat, "twice Heartbeat"},
		{"BootstrapDelay", c.BootstrapDelay, 100 * time.Millisecond, "100ms"},
		{"RemoveAfter", c.RemoveAfter, c.ElectionTimeout, "ElectionTimeout"},
		{"RemoveDurableAfter", c.RemoveDurableAfter, c.RemoveAfter, "RemoveAfter"},
		{"Patience", c.Patience, time.Millisecond, "1ms"},
	} {
		if f.value < f.least {
			return fmt.Errorf("groups: Consensus.%s is %v, must be at least %s", f.name, f.value, f.rule)
		}
		if f.value > longest {
			return fmt.Errorf("groups: Consensus.%s is %v, must be at most %v", f.name, f.value, longest)
		}
	}
	if c.MaxVoters < 1 {
		return fmt.Errorf("groups: Consensus.MaxVoters is %d, must be at least 1", c.MaxVoters)
	}
	return nil
}

// Preference says how much a member wants to lead.
type Preference uint8

const (
	// Normal members vote and lead.
	Normal Preference = Preference(core.Normal)
	// Reluctant members vote, and lead only when no Normal member can.
	Reluctant Preference = Preference(core.Reluctant)
	// Observer members never vote, lead or found a group. They hold the state, may read it, and may send commands.
	Observer Preference = Preference(core.Observer)
)

// options is what the functional options fill in.
type options struct {
	consensus  Consensus
	retention  Retention
	preference Preference
	expect     int
	storage    logstore.Store
	validators []tickets.Validator
	codec      any // a codec.Codec[C], or nil
	merge      core.MergePolicy
	resolve    any           // a func(Divergence[C]) []C, or nil
	available  time.Duration // zero: consistency first
}

// Option changes how [Join] joins a group.
type Option func(*options) error

// WithConsensus sets times and limits of the consensus protocol. All members must use the same, at all times: other values
// make another group, see [Consensus].
func WithConsensus(c Consensus) Option {
	return func(o *options) error {
		o.consensus = c
		return nil
	}
}

// WithPreference says how much this member wants to lead. The default is [Normal]. Members of one group may differ.
// A durable member that comes back keeps the one with which it joined; Status and the log say so if it was started with
// another. [Group.Leave] and join again to change it.
func WithPreference(p Preference) Option {
	return func(o *options) error {
		if p > Observer {
			return fmt.Errorf("groups: WithPreference: unknown preference %d", p)
		}
		o.preference = p
		return nil
	}
}

// ExpectMembers says how many members the group will have when it first comes up. The group is founded by a vote of more
// than half of that number, who are its first voters, so no two parts of a network can found it apart from each other, as
// long as no more than that number of members, restarts of members without a durable log included, take part in the
// founding. The default is 1: whoever is first founds it alone, and if two did so without knowing of each other, the two
// histories merge when they meet. All members must use the same number; it is part of the group's id, so another one makes
// another group, see [Consensus].
func ExpectMembers(n int) Option {
	return func(o *options) error {
		if n < 1 {
			return fmt.Errorf("groups: ExpectMembers: %d is less than 1", n)
		}
		o.expect = n
		return nil
	}
}

// Retention says how much of the log a member keeps, and how state is cut for those who need more than that. It matters
// only if the machine is a [Snapshotter]. Zero fields mean their defaults. The settings are each member's own.
//
// The log is counted in entries; an entry holds all commands that waited when it was made, so it is one command in a
// quiet group and hundreds in a busy one.
type Retention struct {
	// Keep is how many of the latest entries are kept for members that fall behind, beside those that a reachable member
	// still lacks. As long as the log is whole, members that join get the log. Default 10,000. A log on disk is cut down to
	// that only when the state is written out, which is when Most entries have come since the last time, or when it has
	// more than Keep and half of MostBytes: until then it may have up to about Most + Keep.
	Keep int

	// Most and MostBytes bound the log whoever lacks what is cut. While members fetch the state the log may grow to four
	// times as much. In a group of fewer than three voters only these bounds hold, since a merge with another history of
	// the group needs the log. Defaults 100,000 and 128 MiB.
	Most      int
	MostBytes int64

	// Chunk is the size of the pieces in which state is fetched, in bytes, when this member leads. Default 1 MiB, at most
	// 4 MiB. Up to 32 of them are in memory on the member that fetches.
	Chunk int
}

func (r Retention) withDefaults() Retention {
	if r.Keep == 0 {
		r.Keep = 10_000
	}
	if r.Most == 0 {
		r.Most = max(100_000, r.Keep)
	}
	if r.MostBytes == 0 {
		r.MostBytes = 128 << 20
	}
	if r.Chunk == 0 {
		r.Chunk = 1 << 20
	}
	return r
}

// validate checks r after withDefaults.
func (r Retention) validate() error {
	switch {
	case r.Keep < 1:
		return fmt.Errorf("groups: Retention.Keep is %d, must be at least 1", r.Keep)
	case r.Most < r.Keep:
		return fmt.Errorf("groups: Retention.Most is %d, must be at least Keep, which is %d", r.Most, r.Keep)
	case r.MostBytes < 1:
		return fmt.Errorf("groups: Retention.MostBytes is %d, must be at least 1", r.MostBytes)
	case r.Chunk < 1 || r.Chunk > 4<<20:
		return fmt.Errorf("groups: Retention.Chunk is %d, must be from 1 to 4 MiB", r.Chunk)
	}
	return nil
}

// WithRetention sets how much of the log this member keeps.
func WithRetention(r Retention) Option {
	return func(o *options) error {
		o.retention = r
		return nil
	}
}

// AvailabilityFirst has members that see no majority for the given time go on without it, rather than wait for it. Each
// part of a network that splits may then take commands. When the parts meet again they merge by the policy of the group,
// and what was acknowledged is proposed again or, where both parts have cut their logs since, handed over, see
// [Group.Divergences]; but a strong query or a command may meanwhile have missed what was
// acknowledged elsewhere, and commands that only members without a durable log had are lost with them. The time must be at
// least the election timeout. All members must use the same; it is part of the group's id. The default is to wait.
func AvailabilityFirst(after time.Duration) Option {
	return func(o *options) error {
		if after <= 0 || after > longest {
			return fmt.Errorf("groups: AvailabilityFirst: %v is not between zero and %v", after, longest)
		}
		o.available = after
		return nil
	}
}

// WithStorage sets where this member keeps the group's log. The default is what the network was opened with, which is
// memory unless it says otherwise. With a durable store, such as that of package logstore/pebble, the member comes back
// as itself when the node restarts under the same identity, and Close keeps the membership; see docs/durability.md.
//
// [Join] fails with logstore.ErrOtherNode if the store belongs to a node with another identity, and with
// logstore.ErrCorrupt if the log in it is damaged, and with [ErrSchemaMismatch] if it holds other commands. Members of one group may use different stores.
func WithStorage(s logstore.Store) Option {
	return func(o *options) error {
		if s == nil {
			return errors.New("groups: WithStorage: the store is nil")
		}
		o.storage = s
		return nil
	}
}

// RequireTicket makes members accept only peers with a ticket that the validator accepts. Repeated use adds up: all
// validators must accept. Their signatures, in order, are part of the group's id. A bond ends when a ticket expires or
// is withdrawn and no other replaces it. A node whose own ticket is refused, or that has none, is in the group alone until
// it has one that passes; Status says so.
func RequireTicket(v tickets.Validator) Option {
	return func(o *options) error {
		if v == nil {
			return errors.New("groups: RequireTicket: the validator is nil")
		}
		o.validators = append(o.validators, v)
		return nil
	}
}

// WithCodec sets how commands are encoded. The default is [codec.For]. All members must use the same codec and the same
// command type; those that do not are refused with a reason that [Group.Status] shows.
func WithCodec[C any](c codec.Codec[C]) Option {
	return func(o *options) error {
		if c == nil {
			return errors.New("groups: WithCodec: the codec is nil")
		}
		o.codec = c
		return nil
	}
}
