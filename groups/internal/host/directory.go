package host

import (
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/id"
)

// directory shows the catalog of the network to the mesh.
type directory struct{ *discovery.Discovery }

var _ bond.Directory = directory{}

// Members implements bond.Directory.
func (d directory) Members(group id.ID) []bond.Listing {
	var out []bond.Listing
	for p := range d.Catalog().InGroup(group) {
		out = append(out, listing(p.PeerEntry))
	}
	return out
}

// Self implements bond.Directory.
func (d directory) Self(group id.ID) (bond.Listing, bool) {
	me := d.Me()
	return listing(me), me.HasGroup(group)
}

func listing(e discovery.PeerEntry) bond.Listing {
	v := e.Version()
	return bond.Listing{Peer: e.ID(), Revision: bond.Revision{Start: v.Start, Update: v.Update}, Network: e.NetworkID(), Entry: e}
}
