package mosaik_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/discovery"
)

// Two nodes that share nothing but a name find each other. Here they are in one process; in two it is the same.
func ExampleNew() {
	ctx := context.Background()
	shop, err := mosaik.New(ctx, "example of new", mosaik.WithTags("shop"))
	if err != nil {
		log.Fatal(err)
	}
	defer shop.Close()
	events := shop.Discovery().Events(ctx)

	customer, err := mosaik.New(ctx, "example of new", mosaik.WithTags("customer"))
	if err != nil {
		log.Fatal(err)
	}
	defer customer.Close()

	for e := range events {
		if e.Kind == discovery.Discovered && e.Peer == customer.ID() {
			fmt.Println("a customer came:", e.Entry.HasTag("customer"))
			break
		}
	}
	// Output: a customer came: true
}
