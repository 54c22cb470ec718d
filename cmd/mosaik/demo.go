package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/mosaik-go/mosaik/cmd/mosaik/internal/demo"
)

func demoCommand() *cobra.Command {
	var cfg demo.Config
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch processes find each other, elect a leader, survive its death and lose nothing",
		Long: `Starts processes on this machine that share nothing but a random network name. They find each other, form one group
around a counter and send it commands. Then the process that leads is killed with SIGKILL. The others elect a new leader
and go on, and at the end every acknowledged command must be in the sum, once.

All traffic stays on loopback. The exit code is 0 only if the sum is right.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Out = cmd.OutOrStdout()
			return demo.Run(cmd.Context(), cfg)
		},
	}
	cmd.Flags().IntVar(&cfg.Nodes, "nodes", 5, "number of processes, 3 to 20")
	cmd.Flags().DurationVar(&cfg.Load, "load", 2*time.Second, "how long commands flow before and after the kill")
	cmd.Flags().BoolVar(&cfg.Plain, "plain", false, "print lines instead of a live table")
	return cmd
}

func demoWorkerCommand() *cobra.Command {
	var network, name string
	cmd := &cobra.Command{
		Use:    demo.WorkerCommand,
		Short:  "One process of the demo",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.RunWorker(cmd.Context(), network, name, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&network, "network", "", "network name")
	cmd.Flags().StringVar(&name, "name", "", "name of this process in the demo")
	return cmd
}
