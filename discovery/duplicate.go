package discovery

import "time"

// duplicateReported takes note of another node with this one's identity, opened at start if that is known.
func (d *Discovery) duplicateReported(start int64) {
	if !d.store.noteDuplicate(start) {
		return
	}
	d.log.Error("another node uses this node's identity", "peer", d.self.Short(), "reason",
		"the same private key or seed was opened twice, or this machine's clock went back since the node last ran; "+
			"peers keep to the node that was opened last by their knowledge")
}

// noteDuplicate takes note of another node with this identity. It reports whether that is worth telling, and has an event
// tell it.
func (s *store) noteDuplicate(start int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &DuplicateStatus{At: time.Now(), Times: 1}
	if last := s.duplicate; last != nil {
		next.Times = last.Times + 1
		next.Start = last.Start
	}
	another := false
	if start != 0 {
		next.Start = time.UnixMilli(start)
		another = s.duplicate != nil && !next.Start.Equal(s.duplicate.Start)
	}
	s.duplicate = next
	if !s.tellLocked("duplicate") && !another {
		return false
	}
	local := s.core.Local().Entry
	s.events = append(s.events, Event{Kind: DuplicateIdentity, Peer: local.Peer, Entry: PeerEntry{local}})
	s.note(urgent)
	return true
}
