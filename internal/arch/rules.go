// Package arch holds the rules of the import graph: which package may build on which. Its test reads the graph and
// names every import that breaks a rule. A new package needs a line in [layers] first, which is the moment to ask where
// it belongs.
package arch

import (
	"fmt"
	"strings"
)

// Module is the path that all packages of this module start with.
const Module = "github.com/mosaik-go/mosaik"

// layer is a package, or a tree of packages when the path ends in /..., and the height at which it stands. Imports must
// go to a lower height, or stay inside one tree.
type layer struct {
	height int
	path   string // below the module; . is the module's root
	why    string
}

var layers = []layer{
	{0, "id", "identifiers are what everything is built on"},
	{0, "internal/leak", "a check for tests that knows nothing of mosaik"},
	{10, "codec", "wire formats know bytes and types, not what they are for"},
	{10, "tickets", "tickets are values; discovery carries them, groups and streams check them"},
	{10, "internal/link", "frames on a stream need only the stream"},
	{10, "internal/metric", "series have names and labels, whatever they count"},
	{11, "tickets/...", "kinds of tickets are chosen by programs and unknown to the rest"},
	{11, "internal/handshake", "a proof of a secret is an exchange on a link"},
	{20, "internal/transport", "the face between mosaik and the network, in its own words"},
	{21, "internal/transport/transporttest", "the suite that every transport must pass knows only the face"},
	{21, "internal/transport/p2p", "libp2p stays behind the face"},
	{21, "internal/transport/simnet", "the simulated network is a transport like the other"},
	{29, "discovery/internal/...", "entries, frames and the catalog: pure, without connections of their own"},
	{29, "discovery/registry", "finds peers through files: knows addresses, no connections"},
	{30, "discovery", "discovery needs connections and nothing above them"},
	{30, "groups/logstore", "the log store is handed to the node, so it stands below it"},
	{31, "groups/logstore/...", "kinds of log stores are chosen by programs and unknown to the rest"},
	{40, "internal/node", "a node is a transport, discovery and the services attached to it"},
	{50, ".", "the public node; services take it as an argument, it knows none of them"},
	{60, "groups/internal/wire", "messages between engines"},
	{61, "groups/internal/member", "pure membership policy"},
	{61, "groups/internal/genesis", "pure founding and merging rules"},
	{62, "groups/internal/core", "the engine is pure: it decides and drives nothing"},
	{63, "groups/internal/sim", "the simulator runs the engine that production runs"},
	{63, "groups/internal/bond", "bonds carry the engine's messages between peers"},
	{63, "groups/internal/snap", "snapshots travel beside the engine"},
	{64, "groups/internal/host", "the host drives engines over bonds"},
	{65, "groups", "the typed face over the host"},
	{65, "streams/...", "streams and groups stand side by side and do not know each other"},
	{70, "collections/...", "collections are state machines in groups"},
	{80, "testnet", "networks for tests of what stands below"},
	{80, "internal/arch", "reads the graph and imports nothing"},
	{80, "internal/faultrun", "tests that run nodes as processes; it has no code"},
	{90, "examples/...", "programs"},
	{90, "cmd/...", "programs"},
}

// border keeps packages from outside the module behind those that may import them. It does not bind tests.
type border struct {
	outside string   // a path, and everything below it
	allowed []string // as in layer
	why     string
}

var borders = []border{
	{"github.com/libp2p", []string{"internal/transport/p2p"},
		"the transport can be exchanged as long as libp2p's types appear in one package"},
	{"github.com/multiformats", []string{"internal/transport/p2p"},
		"addresses are text outside the transport"},
	{"github.com/quic-go", []string{"internal/transport/p2p"},
		"QUIC is the transport's business"},
	{"go.etcd.io/raft/v3", []string{"groups/internal/core", "groups/internal/wire", "groups/internal/sim", "groups/logstore/..."},
		"raft stays inside the engine, its messages and what stores its log"},
	{"github.com/cockroachdb/pebble", []string{"groups/logstore/pebble"},
		"only programs that want a durable store should link one"},
	{"github.com/spf13", []string{"cmd/..."},
		"the libraries are for programs with any command line"},
	{"testing", []string{"testnet", "internal/transport/transporttest"},
		"testing registers flags and belongs to tests; these two packages are for tests"},
	{"go.uber.org/goleak", []string{"internal/leak"}, "for tests, and what only tests use"},
	{"github.com/anishathalye/porcupine", []string{"groups/internal/sim"}, "for tests and the simulator"},
	{"pgregory.net/rapid", nil, "for tests"},
	{"net", []string{"internal/transport/p2p", "discovery", "cmd/...", "examples/..."},
		"sockets belong to the transport; package discovery reads interfaces and addresses"},
	{"os/exec", []string{"cmd/...", "examples/..."}, "a library starts no processes"},
}

// Package is what the rules look at.
type Package struct {
	Path    string   // import path
	Doc     string   // first sentence of the package comment
	Imports []string // of the package without its tests
}

// Check returns what is wrong with a package, in words.
func Check(p Package) []string {
	rel, ok := inModule(p.Path)
	if !ok {
		return []string{fmt.Sprintf("%s is not in module %s", p.Path, Module)}
	}
	own, ok := layerOf(rel)
	if !ok {
		return []string{fmt.Sprintf("%s is in no layer: add it to the table in internal/arch/rules.go", rel)}
	}
	var wrong []string
	for _, imported := range p.Imports {
		if to, ok := inModule(imported); ok {
			wrong = append(wrong, checkInside(rel, own, to)...)
		} else {
			wrong = append(wrong, checkOutside(rel, imported)...)
		}
	}
	if p.Doc == "" {
		wrong = append(wrong, fmt.Sprintf("%s has no package comment", rel))
	}
	return wrong
}

func checkInside(from string, own layer, to string) []string {
	target, ok := layerOf(to)
	switch {
	case !ok:
		return []string{fmt.Sprintf("%s imports %s, which is in no layer: add it to the table in internal/arch/rules.go", from, to)}
	case target.height < own.height, target == own:
		return nil
	case target.height == own.height:
		return []string{fmt.Sprintf("%s (%s) imports %s, which stands beside it (%s)", from, own.why, to, target.why)}
	default:
		return []string{fmt.Sprintf("%s (%s) imports %s, which stands above it (%s)", from, own.why, to, target.why)}
	}
}

func checkOutside(from, imported string) (wrong []string) {
	for _, b := range borders {
		if !below(imported, b.outside) {
			continue
		}
		allowed := false
		for _, a := range b.allowed {
			allowed = allowed || matches(a, from)
		}
		if !allowed {
			wrong = append(wrong, fmt.Sprintf("%s imports %s, which only %s may: %s", from, imported, orNobody(b.allowed), b.why))
		}
	}
	return wrong
}

func orNobody(allowed []string) string {
	if len(allowed) == 0 {
		return "tests"
	}
	return strings.Join(allowed, ", ")
}

// inModule returns the path below the module.
func inModule(path string) (string, bool) {
	if path == Module {
		return ".", true
	}
	return strings.CutPrefix(path, Module+"/")
}

// layerOf returns the layer of a package; a line for the package itself counts before one for a tree.
func layerOf(rel string) (layer, bool) {
	var best layer
	found := false
	for _, l := range layers {
		if l.path == rel {
			return l, true
		}
		if matches(l.path, rel) && len(l.path) > len(best.path) {
			best, found = l, true
		}
	}
	return best, found
}

// matches reports whether a path is the pattern, or below it if the pattern ends in /....
func matches(pattern, path string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return below(path, tree)
	}
	return path == pattern
}

func below(path, tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") }
