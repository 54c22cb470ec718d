package streams_test

import (
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/streams"
)

// A gap that is printed says how sure its number is, and why items are missing.
func TestGapText(t *testing.T) {
	t.Parallel()
	for want, g := range map[string]streams.Gap{
		"3 items":          {Lost: 3, Exact: true, Cause: streams.Lagged},
		"at most 3 items":  {Lost: 3, Cause: streams.Away},
		"at least 3 items": {Lost: 3, Cause: streams.ProducerRestarted},
		"1 items":          {Lost: 1, Exact: true, Cause: streams.Undecodable},
	} {
		if text := g.String(); !strings.HasPrefix(text, want) || !strings.HasSuffix(text, g.Cause.String()) || strings.Contains(text, "unknown") {
			t.Errorf("%+v prints as %q, want %s and why", g, text, want)
		}
	}
}
