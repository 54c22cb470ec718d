package groups

import (
	"encoding/binary"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// identityDomain names the rule by which group ids are made. Change it when the rule or the wire protocol changes in a
// way that old members could not follow.
const identityDomain = "mosaik groups identity v1"

// identity returns the id of the group that members with this key and these settings form. It depends on all that
// members must agree on. The codec is not in it: a difference there is found when two members meet, and reported.
func identity(key Key, machine id.ID, c Consensus, expect int, validators []tickets.Validator) id.ID {
	settings := make([]byte, 0, 48)
	for _, v := range []int64{
		int64(c.Heartbeat), int64(c.ElectionTimeout), int64(c.BootstrapDelay), int64(c.RemoveAfter),
		int64(c.MaxVoters), int64(expect),
	} {
		settings = binary.LittleEndian.AppendUint64(settings, uint64(v))
	}
	parts := [][]byte{[]byte(identityDomain), settings, machine[:]}
	for _, v := range validators {
		signature := v.Signature()
		parts = append(parts, signature[:])
	}
	return key.secret.Derive(parts...)
}
