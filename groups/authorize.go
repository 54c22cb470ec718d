package groups

import (
	"context"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/tickets"
)

// authorizer returns the judgement of all validators together, or nil when there are none.
func authorizer(validators []tickets.Validator) func(context.Context, bond.Listing) (tickets.Expiration, error) {
	if len(validators) == 0 {
		return nil
	}
	return func(ctx context.Context, l bond.Listing) (tickets.Expiration, error) {
		return tickets.CheckAll(ctx, validators, tickets.Subject{Peer: l.Peer, Network: l.Network, Entry: l.Entry})
	}
}
