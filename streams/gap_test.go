package streams_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/streams"
	"github.com/mosaik-go/mosaik/testnet"
)

// A policy prints as the flag of the command has it.
func TestPolicyText(t *testing.T) {
	t.Parallel()
	for p, want := range map[streams.Policy]string{
		streams.Disconnect: "disconnect", streams.DropNewest: "drop-newest", streams.DropOldest: "drop-oldest", streams.Block: "block",
		99: "unknown policy 99",
	} {
		if p.String() != want {
			t.Errorf("policy %d prints as %q, want %q", uint8(p), p, want)
		}
	}
}

// Consumers on one node can be told apart, and both ends show the same number.
func TestChannelNumbers(t *testing.T) {
	world(t, nodes(2), func(t *testing.T, net *testnet.Sim) {
		for _, node := range []int{0, 1} { // the producer's own, and another
			name := streams.Named(string(rune('a' + node)))
			p := produce[int](t, net.Node(0), name)
			one, two := consume[int](t, net.Node(node), name), consume[int](t, net.Node(node), name)
			within(t, 3*time.Second, "both", subscribed(p.When(), streams.AtLeast(2)))
			within(t, 3*time.Second, "one", subscribed(one.When()))
			within(t, 3*time.Second, "two", subscribed(two.When()))
			numbers := func(all ...streams.Channel) (out []uint32) {
				for _, c := range all {
					out = append(out, c.Number())
					if text := fmt.Sprintf(" (%d), ", c.Number()); !strings.Contains(c.String(), text) {
						t.Errorf("%v does not show %q", c, text)
					}
				}
				slices.Sort(out)
				return out
			}
			at := numbers(p.Consumers()...)
			if len(at) != 2 || at[0] == at[1] {
				t.Errorf("node %d: channels %v", node, at)
			}
			if other := numbers(append(one.Producers(), two.Producers()...)...); !slices.Equal(at, other) {
				t.Errorf("node %d: channels %v, at the other end %v", node, at, other)
			}
		}
	})
}

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
