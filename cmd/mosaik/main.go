// Command mosaik shows what the library does and, as it grows, lets an operator look into a network.
//
//	mosaik demo           five processes form a group, lose their leader to kill -9, and lose no command
//	mosaik stream pub     publish lines of standard input to a stream
//	mosaik stream sub     print what a stream brings
//	mosaik group list     what the store of a stopped node holds
//	mosaik group recover  have that node go on without voters that are lost for good
//	mosaik version        the version of the command
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mosaik:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "mosaik",
		Short:         "Self-organizing, leaderless distributed systems",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(demoCommand(), demoWorkerCommand(), streamCommand(), groupCommand(), versionCommand())
	return root
}
