package bond

import (
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// Directory is what the mesh asks the catalog of the network.
type Directory interface {
	// Members returns the other peers whose entry lists the group.
	Members(group id.ID) []Listing

	// Self returns this node's own entry, if that lists the group.
	Self(group id.ID) (Listing, bool)

	// Watch returns a channel that holds a token after the catalog changed, own entry included, until stop is called.
	Watch() (changed <-chan struct{}, stop func())
}

// Listing is a peer whose entry lists a group.
type Listing struct {
	Peer     id.PeerID
	Revision Revision
	Network  id.ID
	Entry    tickets.Entry
}

// Revision names one content of an entry: equal revisions of one peer mean equal contents.
type Revision struct{ Start, Update int64 }
