package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/groups/logstore/pebble"
)

func groupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "Look into the store of a stopped node, and recover its groups",
		Long: `Looks into the durable store of a node that is stopped, and has the node go on without the other voters of a group.

  mosaik group list DIR                    what the store holds
  mosaik group recover DIR                 what a recovery would do
  mosaik group recover DIR --yes           do it

Recovery is for a group whose majority is lost for good. See docs/durability.md.`,
	}
	cmd.AddCommand(groupListCommand(), groupRecoverCommand())
	return cmd
}

// withStore opens the store in a directory, which must be there, and returns what it holds.
func withStore(cmd *cobra.Command, dir string, use func(logstore.Store, []groups.StoredGroup) error) error {
	if found, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*")); err != nil || len(found) == 0 {
		return fmt.Errorf("%s is not the directory of a store", dir)
	}
	store, err := pebble.Open(dir)
	if errors.Is(err, logstore.ErrLocked) {
		return fmt.Errorf("the store in %s is in use by a running node, which must be stopped first", dir)
	}
	if err != nil {
		return err
	}
	all, err := groups.InspectStore(cmd.Context(), store)
	if err == nil {
		err = use(store, all)
	}
	return errors.Join(err, store.Close())
}

func groupListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list DIR",
		Short: "Print what the store of a stopped node holds of each group",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, args[0], func(_ logstore.Store, all []groups.StoredGroup) error {
				out := cmd.OutOrStdout()
				if len(all) == 0 {
					fmt.Fprintln(out, "the store holds no groups")
				}
				for i := range all {
					printStored(out, &all[i])
				}
				return nil
			})
		},
	}
}

func printStored(out io.Writer, g *groups.StoredGroup) {
	fmt.Fprintf(out, "group %s\n", g.Group)
	switch {
	case g.Err != nil:
		fmt.Fprintf(out, "  cannot be read: %v\n", g.Err)
		return
	case g.History == "":
		fmt.Fprintf(out, "  no history: %s\n", g.Why)
		return
	}
	fmt.Fprintf(out, "  history    %s\n", g.History)
	for _, a := range g.Lineage {
		lossy := ""
		if a.Lossy {
			lossy = ", acknowledged commands may be missing"
		}
		fmt.Fprintf(out, "             from %s (%v, %d commands%s)\n", a.History, a.How, a.Commands, lossy)
	}
	if !g.Self.IsZero() {
		fmt.Fprintf(out, "  node       %s\n", g.Self)
		fmt.Fprintf(out, "  log        up to %d of term %d, %d commands, %d of them known to be committed\n", g.Last, g.Term, g.Commands, g.Committed)
	}
	if g.Schema != "" {
		fmt.Fprintf(out, "  commands   %s\n", g.Schema)
	}
	for _, m := range g.Members {
		kind := "learner"
		if m.Voter {
			kind = "voter"
		}
		if m.Durable {
			kind += ", durable"
		}
		fmt.Fprintf(out, "  member     %s (%s)\n", m.Peer, kind)
	}
	if g.Why != "" {
		fmt.Fprintf(out, "  recovery   not possible or not needed: %s\n", g.Why)
	} else {
		fmt.Fprintf(out, "  recovery   possible: %v\n", g.Plan)
	}
}

func groupRecoverCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover DIR [GROUP...]",
		Short: "Have a stopped node go on without the other voters, which are lost for good",
		Long: `Prints what a recovery of the groups in a store would do, and with --yes does it. Groups are named by their ids or
beginnings of them; without any, all groups that can be recovered are meant.

Do it on one node only, the one whose log has the highest term and, among those, reaches farthest: "mosaik group list"
on each directory that is left shows that.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, args[0], func(store logstore.Store, all []groups.StoredGroup) error {
				return recoverGroups(cmd, store, all, args[1:], yes)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it, rather than print what would be done")
	return cmd
}

func recoverGroups(cmd *cobra.Command, store logstore.Store, all []groups.StoredGroup, names []string, yes bool) error {
	out := cmd.OutOrStdout()
	chosen, err := choose(all, names)
	if err != nil {
		return err
	}
	var failed []error
	some := false
	for i := range chosen {
		g := &chosen[i]
		switch {
		case g.Err != nil:
			failed = append(failed, fmt.Errorf("group %s: %w", g.Group.Short(), g.Err))
			continue
		case g.Why != "" && len(names) > 0:
			failed = append(failed, fmt.Errorf("group %s: %s", g.Group.Short(), g.Why))
			continue
		case g.Why != "":
			continue
		}
		some = true
		fmt.Fprintf(out, "group %s\n%v\n", g.Group, g.Plan)
		if !yes {
			continue
		}
		if err := groups.RecoverStore(cmd.Context(), store, *g); err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintln(out, "recovered: start the node, and the group goes on")
	}
	switch {
	case some && !yes:
		fmt.Fprintln(out, "nothing was changed; --yes does it")
	case !some && len(failed) == 0:
		fmt.Fprintln(out, "there is nothing to recover")
	}
	return errors.Join(failed...)
}

// choose returns the groups that are named, all of them if none is.
func choose(all []groups.StoredGroup, names []string) (out []groups.StoredGroup, err error) {
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		n := len(out)
		for _, g := range all {
			if name != "" && strings.HasPrefix(g.Group.String(), name) {
				out = append(out, g)
			}
		}
		if len(out) != n+1 {
			return nil, fmt.Errorf("%q names %d groups of the store, not one", name, len(out)-n)
		}
	}
	return out, nil
}
