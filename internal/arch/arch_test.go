package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestImportGraph reads the packages of the module as the go command sees them and holds each against the rules.
func TestImportGraph(t *testing.T) {
	t.Parallel()
	packages := list(t)
	if len(packages) < 5 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, p := range packages {
		for _, wrong := range Check(p) {
			t.Error(wrong)
		}
	}
}

// list returns the packages of the module that have Go files.
func list(t *testing.T) []Package {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Doc,Imports,GoFiles", Module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []Package
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Doc string
			Imports         []string
			GoFiles         []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if len(p.GoFiles) > 0 {
			packages = append(packages, Package{p.ImportPath, p.Doc, p.Imports})
		}
	}
}

// The rules catch what they are for.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		p    Package
		want string // part of the message; empty: nothing is wrong
	}{
		{"allowed", Package{"groups", "Package groups.", []string{"fmt", Module, Module + "/id", Module + "/groups/internal/host"}}, ""},
		{"upwards", Package{"discovery", "x", []string{Module + "/groups"}}, "stands above it"},
		{"sideways", Package{"streams", "x", []string{Module + "/groups"}}, "stands beside it"},
		{"inside a tree", Package{"cmd/mosaik", "x", []string{Module + "/cmd/mosaik/internal/demo"}}, ""},
		{"new package", Package{"helpers", "x", nil}, "is in no layer"},
		{"import of a new package", Package{"groups", "x", []string{Module + "/helpers"}}, "is in no layer"},
		{"libp2p outside", Package{"discovery", "x", []string{"github.com/libp2p/go-libp2p/core/host"}}, "only internal/transport/p2p may"},
		{"libp2p inside", Package{"internal/transport/p2p", "x", []string{"github.com/libp2p/go-libp2p"}}, ""},
		{"raft outside", Package{"groups", "x", []string{"go.etcd.io/raft/v3/raftpb"}}, "raft stays inside"},
		{"raft inside", Package{"groups/internal/core", "x", []string{"go.etcd.io/raft/v3"}}, ""},
		{"raft in a log store", Package{"groups/logstore/pebble", "x", []string{"go.etcd.io/raft/v3/raftpb"}}, ""},
		{"testing outside tests", Package{"groups", "x", []string{"testing"}}, "belongs to tests"},
		{"testing in testnet", Package{"testnet", "x", []string{"testing"}}, ""},
		{"similar name", Package{"groups", "x", []string{"network"}}, ""},
		{"no comment", Package{"groups", "", nil}, "no package comment"},
		{"no comment inside", Package{"groups/internal/core", "", nil}, "no package comment"},
		{"foreign", Package{"/elsewhere", "x", nil}, "not in module"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if rest, ok := strings.CutPrefix(c.p.Path, "/"); ok {
				c.p.Path = rest
			} else {
				c.p.Path = Module + "/" + c.p.Path
			}
			got := strings.Join(Check(c.p), "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
