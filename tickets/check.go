package tickets

import (
	"context"
	"errors"
	"fmt"
)

// ErrInvalid is wrapped by the errors of [Check] and [CheckAll]: the peer carries no ticket that the validator accepts.
var ErrInvalid = errors.New("tickets: no valid ticket")

// Check asks a validator about all tickets of its class that a peer carries, and returns the latest expiration among those
// that it accepts. Without one the error wraps [ErrInvalid] and says why the last ticket was turned down. It waits for
// the validator, and passes ctx on to it.
func Check(ctx context.Context, v Validator, s Subject) (Expiration, error) {
	class := v.Class()
	var latest Expiration
	found := false
	reason := fmt.Errorf("%w: the peer carries none of class %s", ErrInvalid, class.Short())
	for _, t := range s.Entry.Tickets() {
		if t.Class != class {
			continue
		}
		expires, err := v.Validate(ctx, t.Data, s)
		switch {
		case err != nil:
			reason = fmt.Errorf("%w: one of class %s was not accepted: %w", ErrInvalid, class.Short(), err)
		case !found:
			latest, found = expires, true
		default:
			latest = latest.Later(expires)
		}
	}
	if !found {
		return Expiration{}, reason
	}
	return latest, nil
}

// CheckAll asks several validators, all of which must accept the peer, and returns the earliest of their expirations. No
// validators accept everybody, for ever.
func CheckAll(ctx context.Context, validators []Validator, s Subject) (Expiration, error) {
	var earliest Expiration
	for _, v := range validators {
		expires, err := Check(ctx, v, s)
		if err != nil {
			return Expiration{}, err
		}
		earliest = earliest.Earlier(expires)
	}
	return earliest, nil
}
