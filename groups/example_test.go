package groups_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// Stock is a state machine: how many pieces of what there are.
type Stock struct{ pieces map[string]int }

// Move is its command: so many pieces come in, or go out if negative.
type Move struct {
	What   string
	Pieces int
}

// Moved is what it answers: whether there was enough, and what is left.
type Moved struct {
	OK   bool
	Left int
}

func NewStock() *Stock { return &Stock{pieces: make(map[string]int)} }

func (*Stock) Signature() id.ID { return id.Of("example stock v1") }

func (s *Stock) Apply(_ groups.ApplyContext, m Move) Moved {
	left := s.pieces[m.What] + m.Pieces
	if left < 0 {
		return Moved{OK: false, Left: s.pieces[m.What]} // bad input is an answer, never a panic
	}
	s.pieces[m.What] = left
	return Moved{OK: true, Left: left}
}

func (s *Stock) Query(what string) Moved { return Moved{OK: true, Left: s.pieces[what]} }

// A group of one node founds itself, executes commands and answers queries. With more nodes on the network the program is
// the same.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	net, err := mosaik.New(ctx, "groups-example", mosaik.WithoutRegistry())
	if err != nil {
		log.Fatal(err)
	}
	defer net.Close()

	group, err := groups.Join(net, groups.RandomKey(), NewStock,
		groups.WithConsensus(groups.Consensus{BootstrapDelay: 100 * time.Millisecond}))
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()

	for _, m := range []Move{{"apples", 5}, {"apples", -3}, {"apples", -3}} {
		res, err := group.Execute(ctx, m)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %+d apples: %v, %d left\n", res.Index, m.Pieces, res.Value.OK, res.Value.Left)
	}
	now, err := group.Query(ctx, "apples", groups.Strong)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("after %d commands there are %d apples\n", now.Index, now.Value.Left)
	// Output:
	// 1: +5 apples: true, 5 left
	// 2: -3 apples: true, 2 left
	// 3: -3 apples: false, 2 left
	// after 3 commands there are 2 apples
}

// An error of a call says whether the commands had an effect.
func ExampleGroup_Execute() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	net, err := mosaik.New(ctx, "groups-example-errors", mosaik.WithoutRegistry())
	if err != nil {
		log.Fatal(err)
	}
	defer net.Close()
	// Three members are expected and there is one, so the group does not come up.
	group, err := groups.Join(net, groups.RandomKey(), NewStock, groups.ExpectMembers(3))
	if err != nil {
		log.Fatal(err)
	}
	defer group.Close()

	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = group.Execute(short, Move{"pears", 1})
	switch {
	case err == nil:
		fmt.Println("applied")
	case errors.Is(err, groups.ErrNotApplied):
		fmt.Println("had no effect; timed out:", errors.Is(err, context.DeadlineExceeded))
	case errors.Is(err, groups.ErrOutcomeUnknown):
		fmt.Println("may have been applied")
	}
	// Output: had no effect; timed out: true
}
