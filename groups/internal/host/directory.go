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
		v := p.Version()
		out = append(out, bond.Listing{
			Peer:     p.ID(),
			Revision: bond.Revision{Start: v.Start, Update: v.Update},
			Network:  p.NetworkID(),
			Entry:    p.PeerEntry,
		})
	}
	return out
}
