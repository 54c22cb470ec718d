package host

import (
	"github.com/mosaik-go/mosaik/discovery"
	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/id"
)

// directory shows the catalog of the network to the mesh.
type directory struct {
	disc *discovery.Discovery
}

// Members implements bond.Directory.
func (d directory) Members(group id.ID) []bond.Listing {
	return nil
}

// Watch implements bond.Directory.
func (d directory) Watch() (<-chan struct{}, func()) { return nil, func() {} }
