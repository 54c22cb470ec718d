package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/discovery/registry"
	"github.com/mosaik-go/mosaik/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// Every price is received by everyone who wants it, or known to be missed, on both sides; and the slow one misses some.
func TestPricesAddUp(t *testing.T) {
	t.Setenv(registry.Env, filepath.Join(t.TempDir(), "registry"))
	const count = 200
	var out strings.Builder
	if err := run(t.Context(), count, &out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	number := func(s string) int {
		n, _ := strconv.Atoi(s)
		return n
	}
	if !strings.HasPrefix(out.String(), "the exchange sent 600 prices\n") {
		t.Error("the first line does not say what was sent")
	}
	sent := make(map[string][2]int) // by peer: items and drops, as the producer has them
	for _, m := range regexp.MustCompile(`(?m)^  \w+ to (\w+) \(\d+\), .*, items: (\d+), bytes: .*?(?:, dropped: (\d+))?, keys`).FindAllStringSubmatch(out.String(), -1) {
		sent[m[1]] = [2]int{number(m[2]), number(m[3])}
	}
	lines := regexp.MustCompile(`(?m)^(.{12}) (\w+) received map\[(.*)\], missed (\d+)$`).FindAllStringSubmatch(out.String(), -1)
	if len(sent) != 3 || len(lines) != 3 {
		t.Fatalf("%d subscriptions and %d consumers", len(sent), len(lines))
	}
	for i, want := range []struct {
		name    string
		symbols int
		slow    bool
	}{{"everything", 3, false}, {"ETH and BTC", 2, false}, {"slow", 3, true}} {
		name, peer, received, missed := strings.TrimSpace(lines[i][1]), lines[i][2], 0, number(lines[i][4])
		for _, one := range strings.Fields(lines[i][3]) {
			symbol, n, _ := strings.Cut(one, ":")
			if received += number(n); want.symbols == 2 && symbol == "SOL" {
				t.Errorf("%s received %s", name, one)
			}
		}
		if name != want.name || received+missed != want.symbols*count || sent[peer] != [2]int{received, missed} {
			t.Errorf("%q received %d and missed %d, of %d; the producer has %v", name, received, missed, want.symbols*count, sent[peer])
		}
		if want.slow && missed == 0 {
			t.Error("the slow one missed nothing")
		}
	}
}
