package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/cmd/mosaik/internal/stream"
	"github.com/mosaik-go/mosaik/streams"
)

func streamCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "Publish lines to a stream, or print what is published",
		Long: `Feeds a stream of text, bytes or JSON values from standard input, and prints such a stream, one item in a line.

  mosaik stream sub my-network prices &
  seq 10 | mosaik stream pub my-network prices

Both ends must use the same format. A Go program meets them with streams of string, []byte, or a type whose
AppendBinary and UnmarshalBinary are JSON.`,
	}
	cmd.AddCommand(streamPubCommand(), streamSubCommand())
	return cmd
}

// networkAndStream checks the arguments of both verbs.
func networkAndStream(cmd *cobra.Command, args []string) error {
	problem := ""
	switch {
	case len(args) == 0:
		problem = "NETWORK and STREAM are missing"
	case len(args) == 1:
		problem = fmt.Sprintf("STREAM is missing behind NETWORK, which is %q", args[0])
	case len(args) > 2:
		problem = fmt.Sprintf("too many arguments behind NETWORK and STREAM: %q", args[2:])
	case args[0] == "" || args[1] == "":
		problem = "NETWORK and STREAM must not be empty"
	default:
		return nil
	}
	return fmt.Errorf("%s\nusage: %s", problem, cmd.UseLine())
}

// streamFlags are what both verbs have.
type streamFlags struct {
	format, reach, secret string
	peers                 []string
}

func (f *streamFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "format", "text", "what items are: text, bytes or json")
	cmd.Flags().StringVar(&f.reach, "reach", "host", "how far to look for others: host, lan or internet")
	cmd.Flags().StringVar(&f.secret, "secret", "", "the network's secret, if it has one")
	cmd.Flags().StringArrayVar(&f.peers, "peer", nil, "address of a peer to contact first; may be repeated")
}

func (f *streamFlags) config(cmd *cobra.Command, args []string) (stream.Config, error) {
	reach, ok := reaches[f.reach]
	if !ok {
		return stream.Config{}, fmt.Errorf("--reach: unknown reach %q: want host, lan or internet", f.reach)
	}
	opts := []mosaik.Option{mosaik.WithReach(reach)}
	if f.secret != "" {
		opts = append(opts, mosaik.WithSecret(f.secret))
	}
	for _, text := range f.peers {
		p, err := mosaik.ParsePeerAddr(text)
		if err != nil {
			return stream.Config{}, fmt.Errorf("--peer: %w", err)
		}
		opts = append(opts, mosaik.WithBootstrap(p))
	}
	return stream.Config{
		Network: args[0], Stream: args[1], Format: stream.Format(f.format), Options: opts,
		In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Log: cmd.ErrOrStderr(),
	}, nil
}

var reaches = map[string]mosaik.Reach{"host": mosaik.Host, "lan": mosaik.LAN, "internet": mosaik.Internet}

var lagPolicies = map[string]streams.Policy{
	"disconnect": streams.Disconnect, "drop-newest": streams.DropNewest, "drop-oldest": streams.DropOldest, "block": streams.Block,
}

func streamPubCommand() *cobra.Command {
	var flags streamFlags
	var wait time.Duration
	var history int
	var lag, key string
	cmd := &cobra.Command{
		Use:   "pub NETWORK STREAM",
		Short: "Publish the lines of standard input",
		Args:  networkAndStream,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.config(cmd, args)
			if err != nil {
				return err
			}
			policy, ok := lagPolicies[lag]
			if !ok {
				return fmt.Errorf("--lag: unknown policy %q: want disconnect, drop-newest, drop-oldest or block", lag)
			}
			cfg.Wait, cfg.History, cfg.Lag, cfg.Key = wait, history, policy, key
			return stream.Publish(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for the first consumer; 0 waits for ever")
	cmd.Flags().IntVar(&history, "history", 0, "items to keep for consumers that come later")
	cmd.Flags().StringVar(&lag, "lag", "block", "for consumers that lag: disconnect, drop-newest, drop-oldest or block")
	cmd.Flags().StringVar(&key, "key", "", "with --format json: the member by which consumers can choose")
	return cmd
}

func streamSubCommand() *cobra.Command {
	var flags streamFlags
	var count int
	var keys []string
	cmd := &cobra.Command{
		Use:   "sub NETWORK STREAM",
		Short: "Print what is published, one item in a line",
		Args:  networkAndStream,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.config(cmd, args)
			if err != nil {
				return err
			}
			cfg.Keys, cfg.Count = keys, count
			return stream.Subscribe(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after so many items; 0 goes on for ever")
	cmd.Flags().StringArrayVar(&keys, "key", nil, "only items with this key; may be repeated")
	return cmd
}
