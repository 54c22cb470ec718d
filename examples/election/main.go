// Command election elects a leader among processes, and nothing else: the group has no commands. It starts five
// processes on this machine that share nothing but a network name, kills whoever leads with SIGKILL, twice, and shows
// who takes over and how soon:
//
//	go run ./examples/election
//
// A program of your own needs only what follow does: join a group around [idle] and wait for the leader to change. It
// exits with 0 only if every survivor named the same new leader each time.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/id"
)

// idle is a machine without state.
type idle struct{}

func newIdle() idle { return idle{} }

func (idle) Signature() id.ID                                    { return id.Of("example election v1") }
func (idle) Apply(groups.ApplyContext, struct{}) (none struct{}) { return }
func (idle) Query(struct{}) (none struct{})                      { return }

func main() {
	name := flag.String("name", "", "used for the processes that are elected")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if *name != "" {
		err = follow(ctx, *name)
	} else {
		err = watch(ctx, os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "election:", err)
		os.Exit(1)
	}
}

// follow takes part in the election and prints who leads, whenever that changes, until standard input ends.
func follow(ctx context.Context, name string) error {
	net, err := mosaik.New(ctx, name)
	if err != nil {
		return err
	}
	defer net.Close()
	group, err := groups.Join(net, groups.KeyFrom(name), newIdle)
	if err != nil {
		return err
	}
	defer group.Close()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		os.Stdin.Read(make([]byte, 1)) // ends with the process that watches
	}()
	events := group.Events(ctx) // before it is said how things stand, so that nothing is missed
	fmt.Println("here", net.ID().Short(), group.Status().Voters)
	if leader, ok := group.Leader(); ok {
		fmt.Println("leader", leader.Short(), 0)
	}
	for e := range events {
		switch e.Kind {
		case groups.LeaderChanged:
			if !e.Peer.IsZero() {
				fmt.Println("leader", e.Peer.Short(), 0)
			}
		case groups.MemberPromoted, groups.MemberDemoted, groups.MemberLeft:
			fmt.Println("voters", net.ID().Short(), group.Status().Voters)
		}
	}
	return nil
}
