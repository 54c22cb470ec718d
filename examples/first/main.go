// Command first is the first program of the README, word for word.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// counter is a state machine: commands are amounts, answers are sums.
type counter struct{ sum int64 }

func newCounter() *counter                                         { return new(counter) }
func (*counter) Signature() id.ID                                  { return id.Of("readme counter v1") }
func (c *counter) Apply(_ groups.ApplyContext, amount int64) int64 { c.sum += amount; return c.sum }
func (c *counter) Query(struct{}) int64                            { return c.sum }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	net, err := mosaik.New(ctx, "readme") // the name is all that the processes share
	if err != nil {
		log.Fatal(err)
	}
	defer net.Close()

	group, err := groups.Join(net, groups.KeyFrom("the counters"), newCounter)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := group.Execute(ctx, 3); err != nil { // waits for a leader; returns once a majority has it and it is applied here
		log.Fatal(err)
	}
	for { // prints the sum whenever somebody has changed it
		next := group.When().Committed()
		sum, err := group.Query(ctx, struct{}{}, groups.Weak)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("sum", sum.Value, "after", sum.Index, "commands,", len(group.Members()), "members")
		if _, err := next.Advanced(ctx); err != nil {
			return // Ctrl-C; net.Close takes leave of the others
		}
	}
}
