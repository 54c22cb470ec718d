package host

import (
	"context"
	"errors"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/id"
)

const (
	removalPatience = 10 * time.Second
	removalEvery    = 250 * time.Millisecond // the leader is asked again, which it may have to be when it changes
)

// Remove has the group take out a peer that is not connected, and waits until this member sees that it has. If it fails,
// sent says that a leader may have been asked, so that it may still happen.
func (g *Group) Remove(ctx context.Context, done <-chan struct{}, peer id.PeerID) (sent bool, err error) {
	late := time.NewTimer(removalPatience)
	defer late.Stop()
	failure := errors.New("no majority of the voters is healthy without the peer, or the leader is connected to it")
	for {
		s := g.State()
		switch {
		case s.Ended != nil:
			return sent, s.Ended
		case s.bonded(peer):
			return sent, errors.New("the peer is connected: a live member leaves by itself")
		case s.member(peer) || !s.Online: // one that has just moved or is catching up does not know all members
		case sent:
			g.log.Info("the member was removed by request", "peer", peer.Short())
			return true, nil
		default:
			return false, errors.New("the peer is no member")
		}
		_, err := g.Ask(ctx, done, &core.Question{Kind: core.AskRemove, Peer: peer})
		if _, unanswered := errors.AsType[*Unanswered](err); unanswered {
			return true, err
		}
		again := time.NewTimer(removalEvery)
		if err == nil {
			sent = true
		}
		select {
		case <-again.C:
		case <-s.next:
		case <-late.C:
			if err == nil {
				err = failure
			}
			return sent, err
		case <-done:
			return sent, ErrClosed
		case <-g.over:
			return sent, g.End()
		case <-ctx.Done():
			return sent, context.Cause(ctx)
		}
		again.Stop()
	}
}

// member reports whether the peer is a member.
func (s *State) member(peer id.PeerID) bool {
	for i := range s.Members {
		if s.Members[i].Peer == peer {
			return true
		}
	}
	return false
}
