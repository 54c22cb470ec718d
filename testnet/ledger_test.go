package testnet_test

// This file is an example: how a program tests a state machine of its own under a partition. docs/testing.md walks
// through it.

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// Transfer is the command: it moves an amount between accounts. From "" it creates the money.
type Transfer struct {
	From, To string
	Amount   int64
}

// ledger is the state machine under test. An account cannot be overdrawn.
type ledger struct{ balances map[string]int64 }

func newLedger() *ledger { return &ledger{balances: make(map[string]int64)} }

func (*ledger) Signature() id.ID { return id.Of("example ledger v1") }

// Apply answers what is left in the account that pays, or -1 when it has too little and nothing happens.
func (l *ledger) Apply(_ groups.ApplyContext, c Transfer) int64 {
	if c.From != "" && l.balances[c.From] < c.Amount {
		return -1
	}
	if c.From != "" {
		l.balances[c.From] -= c.Amount
	}
	l.balances[c.To] += c.Amount
	return l.balances[c.From]
}

// Query answers the balance of an account, or the sum of all for the empty name.
func (l *ledger) Query(account string) int64 {
	if account != "" {
		return l.balances[account]
	}
	var sum int64
	for _, b := range l.balances {
		sum += b
	}
	return sum
}

// book is a member's handle on the replicated ledger.
type book = groups.Group[Transfer, string, int64]

// openBooks joins the ledger on every node and waits until all of them vote.
func openBooks(t *testing.T, net *testnet.Sim) []*book {
	t.Helper()
	key := groups.RandomKey()
	var books []*book
	for _, node := range net.Nodes() {
		b, err := groups.Join(node, key, newLedger, groups.ExpectMembers(net.Len()))
		if err != nil {
			t.Fatal(err)
		}
		books = append(books, b)
	}
	net.WaitUntil("all members vote", func() error {
		for i, b := range books {
			voters := 0
			for _, m := range b.Members() {
				if m.Voter {
					voters++
				}
			}
			if voters != net.Len() {
				return fmt.Errorf("node %d sees %d voters: %v", i, voters, b.Status())
			}
		}
		return nil
	})
	return books
}

// leaderOf returns the index of the node that leads.
func leaderOf(t *testing.T, net *testnet.Sim, b *book) int {
	t.Helper()
	leader, err := b.When().LeaderElected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return net.IndexOf(leader)
}

func TestLedgerUnderPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 5)
		net.DiscoverAll(t.Context())
		books := openBooks(t, net)
		if _, err := books[0].Execute(t.Context(), Transfer{To: "ann", Amount: 100}); err != nil {
			t.Fatal(err)
		}

		// The leader and one other are cut off from the rest.
		leader := leaderOf(t, net, books[0])
		minority := []int{leader, (leader + 1) % 5}
		majority := []int{(leader + 2) % 5, (leader + 3) % 5, (leader + 4) % 5}
		net.Partition(minority)

		// Two of five cannot commit anything, though one of them believes for a while that it leads.
		for _, i := range minority {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := books[i].Execute(ctx, Transfer{From: "ann", To: "eve", Amount: 60})
			if !errors.Is(err, groups.ErrNotApplied) && !errors.Is(err, groups.ErrOutcomeUnknown) {
				t.Errorf("node %d of the minority executed a command: %v", i, err)
			}
			if sum, err := books[i].Query(ctx, "", groups.Strong); err == nil {
				t.Errorf("node %d of the minority answered a strong read: %d", i, sum.Value)
			}
			cancel()
		}

		// The other three elect a leader among themselves and go on. Ann pays 60 to Bob.
		var last groups.Index
		for _, i := range majority {
			r, err := books[i].Execute(t.Context(), Transfer{From: "ann", To: "bob", Amount: 20})
			if err != nil {
				t.Fatalf("node %d of the majority: %v", i, err)
			}
			last = r.Index
		}
		if now := leaderOf(t, net, books[majority[0]]); now == leader {
			t.Errorf("node %d still leads", leader)
		}

		// After healing everybody agrees. Where the outcome of a payment to Eve was unknown, it may be tried again now, but
		// Ann has only 40 left.
		net.Heal()
		net.WaitUntil("all members have caught up", func() error {
			for i, b := range books {
				if b.Committed() < last {
					return fmt.Errorf("node %d is at %d of %d: %v", i, b.Committed(), last, b.Status())
				}
			}
			return nil
		})
		for i, b := range books {
			for account, want := range map[string]int64{"": 100, "ann": 40, "bob": 60, "eve": 0} {
				got, err := b.Query(t.Context(), account, groups.Strong)
				if err != nil {
					t.Fatalf("node %d: %v", i, err)
				}
				if got.Value != want {
					t.Errorf("node %d: account %q has %d, want %d", i, account, got.Value, want)
				}
			}
		}
	})
}

// Random faults, one after the other, while all members transfer money: whatever happens, no money appears or vanishes,
// and what was acknowledged is there.
func TestLedgerUnderRandomFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := testnet.Simulated(t, 3, testnet.Patience(2*time.Minute))
		net.DiscoverAll(t.Context())
		books := openBooks(t, net)
		if _, err := books[0].Execute(t.Context(), Transfer{To: "pot", Amount: 1_000_000}); err != nil {
			t.Fatal(err)
		}

		faults := make(chan struct{})
		go func() {
			defer close(faults)
			net.Play(t.Context(), net.RandomSchedule(2*time.Minute))
		}()
		acknowledged := make([]int64, len(books)) // by node, what surely went from the pot to its account
		unknown := make([]int64, len(books))      // and what perhaps did
		for busy := true; busy; {
			select {
			case <-faults:
				busy = false
			case <-time.After(time.Second):
			}
			for i, b := range books {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				_, err := b.Execute(ctx, Transfer{From: "pot", To: fmt.Sprint("node ", i), Amount: 1})
				cancel()
				switch {
				case err == nil:
					acknowledged[i]++
				case errors.Is(err, groups.ErrOutcomeUnknown):
					unknown[i]++
				}
			}
		}

		var total int64
		for i := range books {
			net.WaitUntil("the group is online again", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				got, err := books[i].Query(ctx, fmt.Sprint("node ", i), groups.Strong)
				if err != nil {
					return fmt.Errorf("%w: %v", err, books[i].Status())
				}
				if got.Value < acknowledged[i] || got.Value > acknowledged[i]+unknown[i] {
					t.Errorf("node %d: %d transfers, but %d were acknowledged and %d may have happened", i, got.Value,
						acknowledged[i], unknown[i])
				}
				return nil
			})
			total += acknowledged[i]
		}
		if total == 0 {
			t.Error("nothing was acknowledged in two minutes")
		}
		for i, b := range books {
			if sum, err := b.Query(t.Context(), "", groups.Strong); err != nil || sum.Value != 1_000_000 {
				t.Errorf("node %d: the sum is %d, %v; want 1000000", i, sum.Value, err)
			}
		}
	})
}
