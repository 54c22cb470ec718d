// Command bank is a bank that never loses money. It runs three durable nodes, each a process of its own on this machine,
// which move money between accounts as fast as they can, while one of them after the other, and now and then all three
// at once, are killed with SIGKILL and started again.
//
//	go run ./examples/bank            # for 20 seconds
//	go run ./examples/bank -for 2m
//
// At the end it compares the books of all nodes with each other, with the money that was there at the beginning, and
// with every transfer that was acknowledged to anyone. It exits with 0 only if all of that is right.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	length := flag.Duration("for", 20*time.Second, "how long to run")
	dir := flag.String("dir", "", "directory for keys and stores, kept for the next run; the default is a temporary one")
	node := flag.Int("node", -1, "used for the processes of the nodes")
	life := flag.Int("life", 0, "used for the processes of the nodes")
	name := flag.String("name", "", "used for the processes of the nodes")
	flag.Parse()
	var err error
	if *node >= 0 {
		err = teller(*node, *life, *name, *dir)
	} else {
		err = town(*length, *dir, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bank:", err)
		os.Exit(1)
	}
}
