package discovery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

var (
	entryNetwork = id.Of("entry test")
	entryKey     = keyOf(1)
	entryAddr    = PeerAddr{ID: id.PeerIDOf(entryKey), Addrs: []string{"/ip4/127.0.0.1/tcp/2", "/ip4/127.0.0.1/tcp/1"}}
)

func testEntry(t *testing.T) PeerEntry {
	t.Helper()
	e, err := NewEntry(entryNetwork, entryAddr).WithTags("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func signedBytes(t *testing.T, e PeerEntry) []byte {
	t.Helper()
	s, err := e.Sign(entryKey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// discovery: entry/signed…invalid_signature
func TestEntryWithInvalidSignature(t *testing.T) {
	t.Parallel()
	raw := signedBytes(t, testEntry(t))
	for bit := range 8 {
		bad := bytes.Clone(raw)
		bad[len(bad)-1] ^= 1 << bit
		var s SignedPeerEntry
		if err := s.UnmarshalBinary(bad); !errors.Is(err, ErrBadSignature) || !s.IsZero() {
			t.Errorf("bit %d of the last byte flipped: %v", bit, err)
		}
	}
}

// discovery: entry/signed…modified_entry
func TestEntryModifiedUnderASignature(t *testing.T) {
	t.Parallel()
	e := testEntry(t)
	other, err := e.WithTags("admin")
	if err != nil {
		t.Fatal(err)
	}
	raw, forged := signedBytes(t, e), signedBytes(t, other)
	copy(forged[len(forged)-64:], raw[len(raw)-64:]) // the signature of the first
	var s SignedPeerEntry
	if err := s.UnmarshalBinary(forged); !errors.Is(err, ErrBadSignature) {
		t.Errorf("other content with an old signature: %v", err)
	}
}

// discovery: entry/valid_signed…
func TestSignedEntrySurvivesTheWire(t *testing.T) {
	t.Parallel()
	e := testEntry(t)
	raw := signedBytes(t, e)
	var s SignedPeerEntry
	if err := s.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	if !s.Entry().Equal(e) || s.ID() != e.ID() {
		t.Errorf("got %v, want %v", s.Entry(), e)
	}
	if again, err := s.MarshalBinary(); err != nil || !bytes.Equal(again, raw) {
		t.Errorf("the second encoding differs from the first: %v", err)
	}
}

// discovery: entry/version_increments_on_add_tags, …_remove_tags, …_add_streams, …_remove_streams, …_update_address
func TestVersionIncrements(t *testing.T) {
	t.Parallel()
	stream := id.Of("stream")
	base := testEntry(t)
	base, err := base.WithStreams(stream)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(PeerEntry) (PeerEntry, error){
		"add tags":       func(e PeerEntry) (PeerEntry, error) { return e.WithTags("c") },
		"remove tags":    func(e PeerEntry) (PeerEntry, error) { return e.WithoutTags("a") },
		"add streams":    func(e PeerEntry) (PeerEntry, error) { return e.WithStreams(id.Of("another")) },
		"remove streams": func(e PeerEntry) (PeerEntry, error) { return e.WithoutStreams(stream) },
		"add groups":     func(e PeerEntry) (PeerEntry, error) { return e.WithGroups(id.Of("group")) },
		"add a ticket": func(e PeerEntry) (PeerEntry, error) {
			return e.WithTicket(tickets.Ticket{Class: id.Of("class"), Data: []byte("x")})
		},
		"update address":   func(e PeerEntry) (PeerEntry, error) { return e.WithAddr(PeerAddr{ID: e.ID(), Addrs: []string{"/x"}}) },
		"the same address": func(e PeerEntry) (PeerEntry, error) { return e.WithAddr(e.Addr()) },
	} {
		before := base.Version()
		after, err := change(base)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !after.Version().NewerThan(before) || after.StartedAt() != base.StartedAt() {
			t.Errorf("%s: from version %v to %v", name, before, after.Version())
		}
		if base.Version() != before {
			t.Errorf("%s changed the entry it was called on", name)
		}
	}
}

// Changes that change nothing make no new version.
func TestVersionStays(t *testing.T) {
	t.Parallel()
	ticket := tickets.Ticket{Class: id.Of("class"), Data: []byte("x")}
	e, err := testEntry(t).WithTicket(ticket)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(PeerEntry) (PeerEntry, error){
		"tags that are there":     func(e PeerEntry) (PeerEntry, error) { return e.WithTags("a", "b") },
		"tags that are not there": func(e PeerEntry) (PeerEntry, error) { return e.WithoutTags("z") },
		"the same ticket":         func(e PeerEntry) (PeerEntry, error) { return e.WithTicket(ticket) },
		"an unknown ticket":       func(e PeerEntry) (PeerEntry, error) { return e.WithoutTicket(id.Of("z")) },
		"an unknown class":        func(e PeerEntry) (PeerEntry, error) { return e.WithoutTicketsOf(id.Of("z")) },
		"an unknown group":        func(e PeerEntry) (PeerEntry, error) { return e.WithoutGroups(id.Of("z")) },
	} {
		if after, err := change(e); err != nil || after.Version() != e.Version() {
			t.Errorf("%s: from version %v to %v, %v", name, e.Version(), after.Version(), err)
		}
	}
}

// discovery: entry/version_increments_monotonically…
func TestVersionIncrementsMonotonically(t *testing.T) {
	t.Parallel()
	e := testEntry(t)
	last := e.Version()
	for i, change := range []func() (PeerEntry, error){
		func() (PeerEntry, error) { return e.WithTags("c") },
		func() (PeerEntry, error) { return e.WithStreams(id.Of("s")) },
		func() (PeerEntry, error) { return e.WithoutTags("c") },
		func() (PeerEntry, error) { return e.WithAddr(PeerAddr{ID: e.ID(), Addrs: []string{"/y"}}) },
	} {
		var err error
		if e, err = change(); err != nil {
			t.Fatal(err)
		}
		if !e.Version().NewerThan(last) {
			t.Errorf("change %d: %v is not newer than %v", i, e.Version(), last)
		}
		last = e.Version()
	}
}

// discovery: entry/is_newer_than…
func TestIsNewerThan(t *testing.T) {
	t.Parallel()
	original := testEntry(t)
	updated, err := original.WithTags("c")
	if err != nil {
		t.Fatal(err)
	}
	a, b := original.Version(), updated.Version()
	if !b.NewerThan(a) || a.NewerThan(b) || a.NewerThan(a) {
		t.Errorf("%v and %v are ordered wrongly", a, b)
	}
	if reborn := (Version{Start: b.Start + 1}); !reborn.NewerThan(b) || reborn.Compare(b) != 1 || b.Compare(reborn) != -1 {
		t.Error("a later life does not count before a later change")
	}
	if got := (Version{1, 7*24*3600*1000 + 5}); got.String() != "1.604800005" || got.Short() != "5" {
		t.Errorf("%v, short %v", got, got.Short())
	}
	// Within one millisecond, and with a clock that was set back.
	for _, now := range []time.Time{time.UnixMilli(b.Update), time.UnixMilli(0)} {
		if next := b.next(now); !next.NewerThan(b) {
			t.Errorf("the version after %v at %v is %v", b, now, next)
		}
	}
}

func TestEntrySays(t *testing.T) {
	t.Parallel()
	group, stream := id.Of("group"), id.Of("stream")
	one := tickets.Ticket{Class: id.Of("class"), Data: []byte("1")}
	two := tickets.Ticket{Class: id.Of("other class"), Data: []byte("2")}
	e := testEntry(t)
	for _, change := range []func(PeerEntry) (PeerEntry, error){
		func(e PeerEntry) (PeerEntry, error) { return e.WithGroups(group, group) },
		func(e PeerEntry) (PeerEntry, error) { return e.WithStreams(stream) },
		func(e PeerEntry) (PeerEntry, error) { return e.WithTicket(one) },
		func(e PeerEntry) (PeerEntry, error) { return e.WithTicket(two) },
	} {
		var err error
		if e, err = change(e); err != nil {
			t.Fatal(err)
		}
	}
	if e.NetworkID() != entryNetwork || e.ID() != entryAddr.ID || e.Protocol() == "" {
		t.Errorf("%v of network %v", e, e.NetworkID())
	}
	if !e.HasTag("a") || e.HasTag("z") || !e.HasTagID(id.Of("b")) || len(e.Tags()) != 2 {
		t.Errorf("tags %v", e.Tags())
	}
	if !e.HasGroup(group) || e.HasGroup(stream) || !slices.Equal(e.Groups(), []id.ID{group}) {
		t.Errorf("groups %v", e.Groups())
	}
	if !e.HasStream(stream) || e.HasStream(group) || !slices.Equal(e.Streams(), []id.ID{stream}) {
		t.Errorf("streams %v", e.Streams())
	}
	if got := e.TicketsOf(one.Class); len(e.Tickets()) != 2 || len(got) != 1 || got[0].ID() != one.ID() {
		t.Errorf("tickets %v, of the class %v", e.Tickets(), got)
	}
	if got := e.Addr(); got.ID != entryAddr.ID || !slices.IsSorted(got.Addrs) || len(got.Addrs) != 2 {
		t.Errorf("address %v", got)
	}
	if up := e.Uptime(); up < 0 || up > time.Minute {
		t.Errorf("uptime %v", up)
	}
	if e.UpdatedAt().Before(e.StartedAt()) {
		t.Errorf("updated at %v, started at %v", e.UpdatedAt(), e.StartedAt())
	}
	if s := e.String(); !strings.Contains(s, e.ID().Short()) || !strings.Contains(s, "2 tickets") {
		t.Errorf("printed as %q", s)
	}
	// What an entry returns belongs to the caller.
	e.Tags()[0], e.Groups()[0], e.Addr().Addrs[0], e.Tickets()[0].Data[0] = id.ID{}, id.ID{}, "", 0
	if !e.HasTag("a") || !e.HasTag("b") || !e.HasGroup(group) || e.Addr().Addrs[0] == "" || e.Tickets()[0].Data[0] == 0 {
		t.Error("the entry changed through what it returned")
	}
	if e, err := e.WithoutTicketsOf(one.Class); err != nil || len(e.Tickets()) != 1 {
		t.Errorf("after removing a class: %v, %v", e.Tickets(), err)
	}
	if e, err := e.WithoutTicket(two.ID()); err != nil || len(e.Tickets()) != 1 || e.Tickets()[0].Class != one.Class {
		t.Errorf("after removing a ticket: %v, %v", e.Tickets(), err)
	}
}

func TestEntryErrors(t *testing.T) {
	t.Parallel()
	e := testEntry(t)
	if _, err := e.Sign(keyOf(2)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("signed with another key: %v", err)
	}
	if _, err := e.Sign(nil); !errors.Is(err, ErrWrongKey) {
		t.Errorf("signed without a key: %v", err)
	}
	if _, err := e.WithAddr(PeerAddr{ID: PeerID{9}}); !errors.Is(err, ErrPeerIDChanged) {
		t.Errorf("with another peer's address: %v", err)
	}
	var many []string
	for n := range MaxTags + 1 {
		many = append(many, fmt.Sprint(n))
	}
	if got, err := e.WithTags(many...); err == nil || got.Version() != e.Version() {
		t.Errorf("with too many tags: %v, %v", got, err)
	} else if l, ok := errors.AsType[*LimitError](err); !ok || l.What != "tags" || l.Max != MaxTags {
		t.Errorf("with too many tags: %v", err)
	}
	if _, err := e.WithTicket(tickets.Ticket{Data: make([]byte, MaxTicketBytes+1)}); err == nil {
		t.Error("a ticket that is too large was taken")
	}
	var s SignedPeerEntry
	if _, err := s.MarshalBinary(); err == nil {
		t.Error("nothing was marshalled")
	}
	for _, raw := range [][]byte{nil, {0}, bytes.Repeat([]byte{0xff}, 100)} {
		if err := s.UnmarshalBinary(raw); err == nil {
			t.Errorf("%x was unmarshalled", raw)
		}
	}
	if !s.Entry().ID().IsZero() {
		t.Error("no entry has an identity")
	}
	// The zero value is an entry of nobody, and can be asked.
	var zero PeerEntry
	if !zero.ID().IsZero() || zero.HasTag("a") || len(zero.Tickets()) != 0 || !zero.Equal(PeerEntry{}) || zero.String() == "" {
		t.Errorf("the zero entry is %v", zero)
	}
}
