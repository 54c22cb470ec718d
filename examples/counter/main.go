// Command counter is a shared counter without a server. Start it in two or more terminals with the same name:
//
//	go run ./examples/counter my-counter
//
// Then type +3 or -1 in any of them and see the sum change in all; an empty line asks for the sum with a strong read.
// Stop any of them with Ctrl-C or kill -9; the rest go on as long as a majority lives.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// counter is the replicated state machine: commands are amounts, the answer is always the sum.
type counter struct{ sum int64 }

func newCounter() *counter { return new(counter) }

func (*counter) Signature() id.ID { return id.Of("example counter v1") }

func (c *counter) Apply(_ groups.ApplyContext, amount int64) int64 {
	c.sum += amount
	return c.sum
}

func (c *counter) Query(struct{}) int64 { return c.sum }

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: counter NAME")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, name string) error {
	var following sync.WaitGroup
	defer following.Wait() // it ends with the network
	net, err := mosaik.New(ctx, name)
	if err != nil {
		return err
	}
	defer net.Close()
	group, err := groups.Join(net, groups.KeyFrom(name), newCounter)
	if err != nil {
		return err
	}

	fmt.Printf("I am %s. Looking for others …\n", net.ID().Short())
	if err := group.When().Online(ctx); err != nil {
		return err
	}
	watch := group.When().Committed() // before anybody is told to type, so that nothing is missed
	leader, _ := group.Leader()
	fmt.Printf("online with %d member(s), led by %s. Type +3 or -1, or nothing to read.\n", len(group.Members()), leader.Short())

	following.Go(func() { follow(ctx, group, watch) })
	input := make(chan string)
	go scan(input)
	for {
		select {
		case line, more := <-input:
			if !more {
				return nil
			}
			if err := do(ctx, group, strings.TrimSpace(line)); err != nil {
				fmt.Println("error:", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// scan sends the lines of standard input. A read of a terminal cannot be cancelled, so it ends with the process.
func scan(input chan<- string) {
	defer close(input)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		input <- in.Text()
	}
}

// follow prints the sum whenever a command has been applied here, whoever sent it, since the watch was made.
func follow(ctx context.Context, group *groups.Group[int64, struct{}, int64], watch groups.Watch) {
	for {
		index, err := watch.Advanced(ctx)
		if err != nil {
			return
		}
		watch = group.When().Committed() // before the query, so that nothing is missed in between
		if now, err := group.Query(ctx, struct{}{}, groups.Weak); err == nil {
			fmt.Printf("= %d  (after %d commands)\n", now.Value, index)
		}
	}
}

func do(ctx context.Context, group *groups.Group[int64, struct{}, int64], line string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if line == "" {
		sum, err := group.Query(ctx, struct{}{}, groups.Strong)
		if err == nil {
			fmt.Printf("= %d  (strong read at index %d)\n", sum.Value, sum.Index)
		}
		return err
	}
	amount, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a number", line)
	}
	_, err = group.Execute(ctx, amount)
	if errors.Is(err, groups.ErrOutcomeUnknown) {
		return fmt.Errorf("the command may or may not have been applied: %w", err)
	}
	return err
}
