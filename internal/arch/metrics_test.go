package arch

import (
	"regexp"
	"strings"
	"testing"
)

// The pages list the metrics that there are, all of them, by the names that they have.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix, page string
		sources      []string
	}{
		{"mosaik_network_", "docs/transport.md", []string{"internal/transport/p2p/meter.go"}},
		{"mosaik_discovery_", "docs/discovery.md", []string{"discovery/metrics.go"}},
		{"mosaik_streams_", "docs/streams.md", []string{"streams/internal/engine/metrics.go"}},
		{"mosaik_groups_", "docs/groups.md", []string{"groups/internal/host/metrics.go", "groups/internal/host/collector.go"}},
		{"mosaik_logstore_", "docs/durability.md", []string{"groups/logstore/pebble/metrics.go"}},
	} {
		made, told := make(map[string]bool), make(map[string]bool)
		for _, source := range c.sources {
			for _, m := range nameAndHelp.FindAllStringSubmatch(readPage(t, source), -1) {
				made[strings.TrimPrefix(m[1], c.prefix)] = true
			}
		}
		if len(made) < 5 {
			t.Errorf("only %d metrics were found in %v", len(made), c.sources)
		}
		for line := range strings.Lines(readPage(t, c.page)) {
			if !strings.HasPrefix(line, "| `"+c.prefix) {
				continue
			}
			for _, m := range metricName.FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
				name := strings.TrimPrefix(strings.TrimPrefix(m[1], c.prefix), "_")
				if told[name] = true; !made[name] {
					t.Errorf("%s has %s%s, which does not exist", c.page, c.prefix, name)
				}
			}
		}
		for name := range made {
			if !told[name] {
				t.Errorf("%s does not have %s%s", c.page, c.prefix, name)
			}
		}
	}
}

var (
	nameAndHelp = regexp.MustCompile(`"([a-z_]+)",\s+(?:Help: )?"[A-Z1][^"]*\."`)
	metricName  = regexp.MustCompile("`((?:mosaik)?_[a-z_]+)")
)
