package groups

import (
	"context"
	"fmt"

	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/tickets"
)

// authorizer returns the judgement of all validators together: each must accept one of the peer's tickets, and the
// earliest expiration counts. It is nil when there are none.
func authorizer(validators []tickets.Validator) func(context.Context, bond.Listing) (tickets.Expiration, error) {
	if len(validators) == 0 {
		return nil
	}
	return func(ctx context.Context, l bond.Listing) (tickets.Expiration, error) {
		var earliest tickets.Expiration
		for _, v := range validators {
			expires, err := admit(ctx, v, l)
			if err != nil {
				return tickets.Expiration{}, err
			}
			earliest = earliest.Earlier(expires)
		}
		return earliest, nil
	}
}

// admit asks one validator about all tickets of its class; the one that lasts longest counts.
func admit(ctx context.Context, v tickets.Validator, l bond.Listing) (tickets.Expiration, error) {
	subject := tickets.Subject{Peer: l.Peer, Network: l.Network, Entry: l.Entry}
	var best tickets.Expiration
	found, reason := false, fmt.Errorf("the peer carries no ticket of class %s", v.Class().Short())
	for _, t := range l.Entry.Tickets() {
		if t.Class != v.Class() {
			continue
		}
		expires, err := v.Validate(ctx, t.Data, subject)
		if err != nil {
			reason = fmt.Errorf("a ticket of class %s was not accepted: %w", v.Class().Short(), err)
			continue
		}
		if !found || best.Earlier(expires) == best {
			best = expires
		}
		found = true
	}
	if !found {
		return tickets.Expiration{}, reason
	}
	return best, nil
}
