package testnet

import (
	"fmt"
	"strings"
	"time"
)

// pollInterval is the time between two looks at a condition. In virtual time it costs nothing.
const pollInterval = 10 * time.Millisecond

// WaitFor waits until the condition holds. When it does not within the network's [Patience], the test ends with a
// message that says what was waited for, and with the state of all nodes.
func (n *Net) WaitFor(what string, cond func() bool) {
	n.t.Helper()
	n.poll(what, func() error {
		if cond() {
			return nil
		}
		return errNotYet
	})
}

// WaitUntil is [Net.WaitFor] with a check that says what is still missing: it waits until check returns nil, and prints
// the last error when it does not.
func (n *Net) WaitUntil(what string, check func() error) {
	n.t.Helper()
	n.poll(what, check)
}

// errNotYet is the error of a condition that has nothing more to say.
var errNotYet = fmt.Errorf("the condition does not hold")

func (n *Net) poll(what string, check func() error) {
	n.t.Helper()
	start := time.Now()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Since(start) >= n.settings.patience {
			n.explained = true
			n.t.Fatalf("testnet: not within %v: %s: %v\n%s", n.settings.patience, what, err, n.state())
		}
		time.Sleep(pollInterval)
	}
}

// state describes the network for a failure message.
func (n *Net) state() string {
	var b strings.Builder
	for i := range n.Len() {
		m := n.member(i)
		if m.net == nil {
			continue
		}
		fmt.Fprintf(&b, "  node %d %s", i, m.net.ID().Short())
		if !m.up {
			b.WriteString(" is down\n")
			continue
		}
		var linked []string
		for _, p := range m.net.Node().Host.Peers() {
			if j := n.IndexOf(p); j >= 0 {
				linked = append(linked, fmt.Sprint(j))
			} else {
				linked = append(linked, p.Short())
			}
		}
		fmt.Fprintf(&b, " lists %d peers, is connected to [%s]\n", m.net.Discovery().Catalog().Len(), strings.Join(linked, " "))
	}
	return b.String() + n.explain()
}
