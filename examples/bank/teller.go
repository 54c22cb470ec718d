package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
)

// news is a line that a node's process writes for the town.
type news struct {
	Online   bool   `json:",omitempty"`
	Teller   string `json:",omitempty"`
	Begun    uint64 `json:",omitempty"` // transfer that the teller asks for now
	Done     uint64 `json:",omitempty"` // that was acknowledged
	Unknown  uint64 `json:",omitempty"` // that may have been made
	Refused  uint64 `json:",omitempty"` // that was not, and will not be
	Quiet    bool   `json:",omitempty"` // nothing more is asked for
	Books    *books `json:",omitempty"`
	Complain string `json:",omitempty"`
}

// teller is the process of one node: a durable member of the bank, and four tellers that move money. SIGUSR1 ends the
// transfers, SIGUSR2 asks for the books, SIGTERM ends the process in order.
func teller(index, life int, name, dir string) error {
	store, err := pebble.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	defer store.Close()
	net, err := mosaik.New(context.Background(), name,
		mosaik.WithKeyFile(filepath.Join(dir, "node.key")), mosaik.WithStorage(store))
	if err != nil {
		return err
	}
	defer net.Close()
	bank, err := groups.Join(net, groups.KeyFrom("vault of "+name), newBooks, groups.ExpectMembers(3),
		groups.WithConsensus(groups.Consensus{BootstrapDelay: 500 * time.Millisecond}))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(n news) {
		mu.Lock()
		defer mu.Unlock()
		out.Encode(n)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		if bank.When().Online(ctx) == nil {
			tell(news{Online: true})
		}
	})
	for i := range 4 {
		wg.Go(func() { move(ctx, bank, fmt.Sprintf("%d.%d.%d", index, life, i), tell) })
	}
	wg.Go(func() { watch(ctx, bank, tell) })
	for s := range signals {
		switch s {
		case syscall.SIGUSR1:
			stop()
			wg.Wait()
			tell(news{Quiet: true})
		case syscall.SIGUSR2:
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			now, err := bank.Query(ctx, struct{}{}, groups.Strong)
			cancel()
			if err != nil {
				return err
			}
			tell(news{Books: now.Value})
		default:
			return nil
		}
	}
	return nil
}

type bankGroup = groups.Group[transfer, struct{}, *books]

// move makes transfers between random accounts until ctx ends.
func move(ctx context.Context, bank *bankGroup, name string, tell func(news)) {
	for n := uint64(1); ctx.Err() == nil; n++ {
		tell(news{Teller: name, Begun: n})
		_, err := bank.Execute(context.Background(), transfer{
			Teller: name, Number: n, From: rand.N(accounts), To: rand.N(accounts), Amount: 1 + rand.Int64N(opening/4),
		})
		switch {
		case err == nil:
			tell(news{Teller: name, Done: n})
		case errors.Is(err, groups.ErrNotApplied):
			tell(news{Teller: name, Refused: n})
		default:
			tell(news{Teller: name, Unknown: n})
		}
	}
}

// watch counts the money again and again.
func watch(ctx context.Context, bank *bankGroup, tell func(news)) {
	for ctx.Err() == nil {
		now, err := bank.Query(ctx, struct{}{}, groups.Strong)
		if err == nil {
			err = now.Value.audit()
			if err != nil {
				tell(news{Complain: err.Error()})
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}
