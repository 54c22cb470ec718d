package groups

import (
	"encoding/binary"

	"github.com/mosaik-go/mosaik/id"
)

// identityDomain names the rule by which group ids are made. Change it when the rule or the wire protocol changes in a
// way that old members could not follow.
const identityDomain = "mosaik groups identity v1"

// identity returns the id of the group that members with this key and these settings form. It depends on all that
// members must agree on. The codec is not in it: a difference there is found when two members meet, and reported.
func identity(key Key, machine id.ID, o *options) id.ID {
	c := &o.consensus
	settings := make([]byte, 0, 72)
	for _, v := range []int64{
		int64(c.Heartbeat), int64(c.ElectionTimeout), int64(c.BootstrapDelay), int64(c.RemoveAfter), int64(c.RemoveDurableAfter),
		int64(c.MaxVoters), int64(o.expect), int64(o.merge), int64(o.available),
	} {
		settings = binary.LittleEndian.AppendUint64(settings, uint64(v))
	}
	parts := [][]byte{[]byte(identityDomain), settings, machine[:]}
	for _, v := range o.validators {
		signature := v.Signature()
		parts = append(parts, signature[:])
	}
	return key.secret.Derive(parts...)
}
