package main

import (
	"fmt"
	"maps"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

const (
	accounts = 20
	opening  = 1000 // in each account
)

// transfer is a command. Each teller numbers its own from one.
type transfer struct {
	Teller   string
	Number   uint64
	From, To int
	Amount   int64
}

// books is the replicated state machine.
type books struct {
	Accounts  [accounts]int64
	Transfers map[string]uint64 // by teller, how many were made
	Odd       uint64            // transfers that did not come in the order of their numbers: each was lost, or came twice
}

func newBooks() *books {
	b := &books{Transfers: make(map[string]uint64)}
	for i := range b.Accounts {
		b.Accounts[i] = opening
	}
	return b
}

func (*books) Signature() id.ID { return id.Of("example bank v1") }

// Apply makes a transfer, if the account has the money.
func (b *books) Apply(_ groups.ApplyContext, t transfer) *books {
	if t.Number <= b.Transfers[t.Teller] {
		b.Odd++
	}
	b.Transfers[t.Teller]++
	if t.From < 0 || t.From >= accounts || t.To < 0 || t.To >= accounts || b.Accounts[t.From] < t.Amount {
		return nil
	}
	b.Accounts[t.From] -= t.Amount
	b.Accounts[t.To] += t.Amount
	return nil
}

// Query returns a copy of the books.
func (b *books) Query(struct{}) *books {
	c := *b
	c.Transfers = maps.Clone(b.Transfers)
	return &c
}

func (b *books) total() (sum int64) {
	for _, a := range b.Accounts {
		sum += a
	}
	return sum
}

// audit says what is wrong with the books by themselves.
func (b *books) audit() error {
	if sum := b.total(); sum != accounts*opening {
		return fmt.Errorf("the books add up to %d instead of %d", sum, accounts*opening)
	}
	if b.Odd > 0 {
		return fmt.Errorf("%d transfers were made twice", b.Odd)
	}
	return nil
}
