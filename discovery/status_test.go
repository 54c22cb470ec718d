package discovery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mosaik-go/mosaik/id"
)

func TestStatus(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		nodes := w.nodes(3, nodeOptions{})
		time.Sleep(time.Second)
		s := nodes[1].Status()
		if s.Self.ID != nodes[1].self || s.Peers != 2 || s.Tombstones != 0 || s.Announce != 15*time.Second || s.Version != nodes[1].Me().Version() {
			t.Errorf("%+v", s)
		}
		if len(s.Neighbours) != 2 || !s.AloneSince.IsZero() || s.Neighbours[0].Since.IsZero() {
			t.Errorf("neighbours %+v, alone since %v", s.Neighbours, s.AloneSince)
		}
		if len(s.Connections) != 2 || s.Connections[0].Peer.Compare(s.Connections[1].Peer) >= 0 || s.Connections[0].Since.IsZero() {
			t.Errorf("connections %+v", s.Connections)
		}
		if len(s.Contacts) != 1 || s.Contacts[0].Addr.ID != nodes[0].self || !s.Contacts[0].Known || s.Contacts[0].Err != nil {
			t.Errorf("contacts %+v", s.Contacts)
		}
		if s.Drift != nil || s.Duplicate != nil || s.Registry.Err != nil || s.Registry.Dirs != nil {
			t.Errorf("troubles in a quiet network: %+v", s)
		}
		if text := s.String(); text != "2 peers, 2 neighbours\n2 connections over sim\n" {
			t.Errorf("in words: %q", text)
		}
	})
}

func TestMetrics(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		reg := prometheus.NewPedanticRegistry()
		a := w.start(nodeOptions{metrics: reg})
		b := w.node(a)
		meet(t, time.Second, a, b)
		if err := b.AddTags("x"); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, "the tag is there", func() bool {
			p, _ := a.Catalog().Get(b.self)
			return p.HasTag("x")
		})
		a.Feed(w.node().MeSigned()) // discovered, and never reached
		far := newEntry(id.Of("another"), PeerAddr{ID: id.PeerIDOf(numberedKey(1))}, time.Now().UnixMilli())
		foreign, err := far.Sign(numberedKey(1))
		if err != nil {
			t.Fatal(err)
		}
		a.Feed(foreign)
		if err := a.SyncWith(context.Background(), b.host.Addr()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		check := func(want map[string]float64) {
			t.Helper()
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					name := f.GetName()
					for _, l := range m.GetLabel() {
						switch l.GetName() {
						case "network":
							if l.GetValue() != w.network.Short() {
								t.Errorf("%s has the network %s", name, l.GetValue())
							}
						default:
							name += " " + l.GetValue()
						}
					}
					got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
			for name, v := range want {
				if got[name] != v {
					t.Errorf("%s is %v, want %v; all: %v", name, got[name], v, got)
				}
			}
		}
		check(map[string]float64{
			"mosaik_discovery_catalog_size": 2, "mosaik_discovery_gossip_neighbors": 2, "mosaik_discovery_peers_discovered": 2,
			"mosaik_discovery_peers_updated": 1, "mosaik_discovery_peers_departed": 0, "mosaik_discovery_refused foreign": 1,
			"mosaik_discovery_catalog_syncs_failed": 0,
		})
		if n := testutil.ToFloat64(a.count.syncs); n < 1 {
			t.Errorf("%v comparisons", n)
		}
		b.stop()
		time.Sleep(time.Second)
		check(map[string]float64{"mosaik_discovery_catalog_size": 1, "mosaik_discovery_peers_departed": 1, "mosaik_discovery_gossip_neighbors": 1})

		// Another node on the same registerer adds to the same series, and takes its share away when it closes.
		second := w.start(nodeOptions{metrics: reg, bootstrap: []*testNode{a}})
		meet(t, time.Second, a, second)
		time.Sleep(time.Second)
		check(map[string]float64{"mosaik_discovery_catalog_size": 4})
		second.stop()
		a.stop()
		check(map[string]float64{"mosaik_discovery_catalog_size": 0, "mosaik_discovery_gossip_neighbors": 0, "mosaik_discovery_peers_lost": 0})
	})
}

// Errors at the start name what is wrong and leave nothing behind.
func TestStartFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		host := w.raw(w.newKey())
		var many []string
		for n := range MaxTags + 1 {
			many = append(many, fmt.Sprint(n))
		}
		for want, env := range map[string]Env{
			"PurgeAfter": {Host: host, Key: keyOf(1), Network: w.network},
			"tags":       {Host: host, Key: keyOf(1), Network: w.network, Tags: many},
			"key":        {Host: host, Key: keyOf(9), Network: w.network},
		} {
			cfg := Config{}
			if want == "PurgeAfter" {
				cfg.PurgeAfter = time.Second
			}
			if d, err := Start(env, cfg); err == nil || d != nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
	})
}
