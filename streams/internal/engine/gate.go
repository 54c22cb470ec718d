package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// Gate says which peers are let in.
type Gate struct {
	Require    []func(discovery.PeerInfo) bool // all must hold
	Validators []tickets.Validator             // each must accept a ticket
}

// Times of ticket checks.
const (
	checkTimeout = 10 * time.Second
	recheckAfter = 30 * time.Second // a validator may have been unable to reach what it needs
	forgetAfter  = 5 * time.Minute
)

// keeper applies a gate to peers, always to their current entries. Verdicts on tickets are kept until the entry changes
// or they expire: a renewed ticket does not interrupt anything, and a withdrawn one is noticed.
type keeper struct {
	gate Gate
	run  func(func(ctx context.Context)) // runs a check beside the loop and looks again after it

	mu       sync.Mutex // guards all following fields
	verdicts map[id.PeerID]*verdict
}

// verdict is what the validators say of one version of an entry.
type verdict struct {
	version discovery.Version
	known   bool // there was a check
	pending bool
	allowed bool
	reason  string
	expires tickets.Expiration
	checked time.Time
	used    time.Time
}

// opinion is a keeper's answer.
type opinion uint8

const (
	denied opinion = iota
	undecided
	allowed
)

func newKeeper(g Gate, run func(func(context.Context))) *keeper {
	return &keeper{gate: g, run: run, verdicts: make(map[id.PeerID]*verdict)}
}

// check judges a peer by its entry. The reason is set when it is denied.
func (k *keeper) check(p discovery.PeerInfo, now time.Time) (opinion, string) {
	for _, require := range k.gate.Require {
		ok, err := holds(require, p)
		if err != nil {
			return denied, err.Error()
		}
		if !ok {
			return denied, "a requirement is not met"
		}
	}
	if len(k.gate.Validators) == 0 {
		return allowed, ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.verdicts[p.ID()]
	if v == nil {
		v = new(verdict)
		k.verdicts[p.ID()] = v
	}
	v.used = now
	expired := v.allowed && !v.expires.Never() && !now.Before(v.expires.At)
	if expired {
		v.allowed = false
		v.reason = "the ticket has expired"
	}
	again := v.known && !v.allowed && now.Sub(v.checked) > recheckAfter
	if !v.pending && (!v.known || v.version != p.Version() || expired || again) {
		v.pending = true
		k.run(func(ctx context.Context) { k.validate(ctx, v, p) })
	}
	switch {
	case v.allowed:
		return allowed, ""
	case v.pending && !expired:
		return undecided, "tickets are being checked"
	default:
		return denied, v.reason
	}
}

func holds(require func(discovery.PeerInfo) bool, p discovery.PeerInfo) (ok bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("a requirement panicked: %v", v)
		}
	}()
	return require(p), nil
}

// validate runs the validators and notes what they say.
func (k *keeper) validate(ctx context.Context, v *verdict, p discovery.PeerInfo) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	expires, err := k.admit(ctx, p)
	now := time.Now()
	if err == nil && !expires.Never() && !now.Before(expires.At) {
		err = errors.New("the ticket has expired")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	v.pending, v.known = false, true
	v.checked, v.version, v.expires = now, p.Version(), expires
	v.allowed, v.reason = err == nil, ""
	if err != nil {
		v.reason = err.Error()
	}
}

// admit asks all validators, which are not ours.
func (k *keeper) admit(ctx context.Context, p discovery.PeerInfo) (earliest tickets.Expiration, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("a ticket validator panicked: %v", v)
		}
	}()
	return tickets.CheckAll(ctx, k.gate.Validators, p.Subject())
}

// next returns when the first verdict expires, zero if none does, and forgets peers that were not asked about for long.
func (k *keeper) next(now time.Time) (first time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for peer, v := range k.verdicts {
		if now.Sub(v.used) > forgetAfter && !v.pending {
			delete(k.verdicts, peer)
			continue
		}
		if v.allowed && !v.expires.Never() && (first.IsZero() || v.expires.At.Before(first)) {
			first = v.expires.At
		}
	}
	return first
}
