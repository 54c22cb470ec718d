package genesis

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups/internal/wire"
	"github.com/mosaik-go/mosaik/id"
)

// electorate plays ballots among members that campaign at random, over a network that loses, doubles and delays, while up
// to spare members lose their memory and come back as others. It returns the histories that were founded.
func electorate(seed uint64, expect, incarnations, quorum int) map[ID]bool {
	rng := rand.New(rand.NewPCG(seed, 2))
	type voter struct {
		peer     id.PeerID
		self     wire.Member
		ballot   Ballot
		campaign *Campaign
		life     uint64
	}
	lives := 0
	fresh := func(i int) *voter {
		lives++
		p := id.PeerID{byte(i + 1)}
		return &voter{peer: p, life: uint64(lives), self: wire.Member{ID: uint64(lives), Peer: p, Nonce: uint64(lives)}}
	}
	var all []*voter
	for i := range expect {
		all = append(all, fresh(i))
	}
	founded := make(map[ID]bool)
	var net []func()
	send := func(to int, deliver func(*voter)) {
		life := all[to].life
		for rng.IntN(4) > 0 {
			net = append(net, func() {
				if all[to].life == life {
					deliver(all[to])
				}
			})
			if rng.IntN(4) > 0 {
				return
			}
		}
	}
	round := uint64(0)
	for range 400 {
		switch k := rng.IntN(20); {
		case k == 0 && lives < incarnations:
			i := rng.IntN(expect)
			all[i] = fresh(i)
		case k < 3:
			i := rng.IntN(expect)
			round++
			c := NewCampaign(wire.Ballot{Round: round - uint64(rng.IntN(2)), Who: all[i].life*1000 + round}, quorum, time.Duration(0))
			all[i].campaign = c
			for j := range expect {
				send(j, func(v *voter) {
					p := v.ballot.Prepare(&wire.Prepare{Ballot: c.Ballot}, v.self)
					send(i, func(me *voter) {
						if me.campaign != c {
							return
						}
						e := c.Promise(v.peer, p, func(voters []wire.Member) wire.Origin {
							return wire.Origin{Genesis: ID{byte(round), byte(round >> 8), byte(i)}, Founders: voters}
						})
						if e == nil {
							return
						}
						for j := range expect {
							send(j, func(v *voter) {
								answer := v.ballot.Elect(e)
								send(i, func(me *voter) {
									if me.campaign == c && c.Elected(v.peer, answer) {
										founded[c.Value.Genesis] = true
									}
								})
							})
						}
					})
				})
			}
		default:
			for range 10 {
				if len(net) == 0 {
					break
				}
				i := rng.IntN(len(net))
				do := net[i]
				net[i] = net[len(net)-1]
				net = net[:len(net)-1]
				do()
			}
		}
	}
	return founded
}

// At most one history is founded while no more than 2Q-1 incarnations take part, whatever is lost or late; and one is,
// most of the time.
func TestOneFounding(t *testing.T) {
	t.Parallel()
	done := 0
	for seed := range uint64(3000) {
		expect := 2 + int(seed%5)
		q := Quorum(expect)
		founded := electorate(seed, expect, 2*q-1, q)
		if len(founded) > 1 {
			t.Fatalf("seed %d: %d histories were founded", seed, len(founded))
		}
		done += len(founded)
	}
	if done < 2500 {
		t.Errorf("only %d of 3000 founded anything", done)
	}
}

// With a quorum that is no majority there are two now and then, so the test above can fail.
func TestTwoFoundings(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		if len(electorate(seed, 4, 4, 2)) > 1 {
			return
		}
	}
	t.Error("half of the members never founded twice")
}
