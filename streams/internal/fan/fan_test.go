package fan

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// add appends an item with the given text to a run.
func add(r *Run, text string, key uint64) {
	r.Add(append(r.Open(), text...), key, true)
}

func TestRunKeepsItems(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			return string(bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{0, 1, 5, 127, 128, 129, 16383, 16384, 70000}).Draw(t, "size")))
		}), 1, 20).Draw(t, "items")
		r := &Run{First: 7}
		payload := 0
		for _, s := range texts {
			add(r, s, 0)
			payload += len(s)
		}
		if r.Len() != len(texts) || r.Last() != 6+uint64(len(texts)) || r.Payload(0, r.Len()) != payload {
			t.Fatalf("%d items to number %d with %d bytes", r.Len(), r.Last(), r.Payload(0, r.Len()))
		}
		if n, p, ok := Measure(r.Buf); !ok || n != len(texts) || p != payload {
			t.Fatalf("measured %d items, %d bytes, %v", n, p, ok)
		}
		i := rapid.IntRange(0, r.Len()).Draw(t, "i")
		j := rapid.IntRange(i, r.Len()).Draw(t, "j")
		rest := r.Bytes(i, j)
		for _, want := range texts[i:j] {
			item, after, ok := Cut(rest)
			if !ok || string(item) != want {
				t.Fatalf("cut %q, %v, want %q", item, ok, want)
			}
			rest = after
		}
		if len(rest) != 0 {
			t.Fatalf("%d bytes are left", len(rest))
		}
	})
}

func FuzzMeasure(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 'a', 0, 2, 'b', 'c'})
	f.Add([]byte{0x80, 0x01})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		items, payload, ok := Measure(b)
		n, p, rest := 0, 0, b
		for len(rest) > 0 {
			item, after, fine := Cut(rest)
			if !fine {
				if ok {
					t.Fatalf("Measure accepts what Cut refuses at item %d", n)
				}
				return
			}
			n, p, rest = n+1, p+len(item), after
		}
		if !ok || n != items || p != payload {
			t.Fatalf("Measure %d, %d, %v; by Cut %d, %d", items, payload, ok, n, p)
		}
	})
}

// received is what comes out of a lane: an item, or a number of lost ones.
type received struct {
	number uint64
	lost   uint64
}

// Whatever is offered, taken and consumed: items come out in order, each once; every matching item that does not is
// counted as lost, in the right place; queue and credit stay within their limits.
func TestLane(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{Disconnect, DropNewest, DropOldest, Block} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { checkLane(t, policy) })
		})
	}
}

func checkLane(t *rapid.T, policy Policy) {
	queue := Limits{rapid.IntRange(1, 20).Draw(t, "queue"), rapid.IntRange(1, 200).Draw(t, "queue bytes")}
	window := Limits{rapid.IntRange(1, 20).Draw(t, "window"), rapid.IntRange(1, 200).Draw(t, "window bytes")}
	var keys map[uint64]struct{}
	if rapid.Bool().Draw(t, "filtered") {
		keys = map[uint64]struct{}{0: {}, 2: {}}
	}
	l := NewLane(policy, queue, window, keys)
	var offered []uint64 // numbers of matching items
	text := map[uint64]string{}
	next := uint64(1)
	var out []received
	flying, flyingBytes, longest := 0, 0, 0
	stopped := false

	take := func() bool {
		pieces, b, ok := l.Take(nil, rapid.IntRange(1, 100).Draw(t, "max"))
		if !ok {
			if l.Ready() {
				t.Fatal("ready, and nothing to take")
			}
			return false
		}
		if b.Lost > 0 {
			out = append(out, received{lost: b.Lost})
		}
		items, size := 0, 0
		for _, p := range pieces {
			rest := p.Bytes()
			size += len(rest)
			for i := p.From; i < p.To; i++ {
				item, after, ok := Cut(rest)
				n := p.Run.Number(i)
				if !ok || string(item) != text[n] {
					t.Fatalf("item %d is %q, want %q", n, item, text[n])
				}
				rest = after
				out = append(out, received{number: n})
				items++
			}
		}
		if items != b.Items || size != b.Bytes || items > 0 && b.Last != out[len(out)-1].number {
			t.Fatalf("batch %+v holds %d items of %d bytes", b, items, size)
		}
		flying += items
		flyingBytes += size
		if flying > window.Items || flyingBytes > window.Bytes+longest {
			t.Fatalf("%d items, %d bytes are unconsumed, granted %+v", flying, flyingBytes, window)
		}
		return true
	}
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		switch rapid.IntRange(0, 2).Draw(t, "step") {
		case 0:
			if stopped {
				continue
			}
			r := &Run{First: next}
			for range rapid.IntRange(1, 12).Draw(t, "items") {
				key := uint64(rapid.IntRange(0, 3).Draw(t, "key"))
				s := fmt.Sprintf("%d %s", next, bytes.Repeat([]byte("."), rapid.IntRange(0, 30).Draw(t, "size")))
				add(r, s, key)
				longest = max(longest, len(s)+1)
				text[next] = s
				if _, ok := keys[key]; ok || keys == nil {
					offered = append(offered, next)
				}
				next++
			}
			at := 0
			for at < r.Len() {
				var queued int
				at, queued = l.Offer(r, at)
				if n, bytes := l.Queued(); n > max(1, queue.Items) || n > 1 && bytes > queue.Bytes+longest {
					t.Fatalf("%d items, %d bytes are queued, limits %+v", n, bytes, queue)
				}
				if at == r.Len() {
					break
				}
				if l.HasRoom() || queued != at {
					t.Fatalf("stopped at %d with room, queued to %d", at, queued)
				}
				switch policy {
				case Disconnect: // what was offered and not queued ends the subscription
					stopped = true
				case Block:
					switch rapid.IntRange(0, 9).Draw(t, "block") {
					case 0: // the subscription ends for another reason
						stopped = true
					case 1: // the producer is being closed
						l.Yield()
					default:
						l.Consumed(flying, flyingBytes)
						flying, flyingBytes = 0, 0
						if !take() {
							t.Fatal("full, with credit, and nothing to take")
						}
					}
				default:
					t.Fatal("a dropping policy stopped")
				}
				if stopped {
					l.Refuse(r, at)
					break
				}
			}
		case 1:
			take()
		case 2:
			if flying > 0 {
				l.Consumed(flying, flyingBytes)
				flying, flyingBytes = 0, 0
			}
		}
	}
	if rapid.Bool().Draw(t, "abandon") {
		before, _ := l.Queued()
		lost, last := l.Abandon()
		if n := len(offered); lost > 0 && last != offered[n-1] {
			t.Fatalf("abandoned to number %d, offered to %d", last, offered[n-1])
		}
		if uint64(before) > lost {
			t.Fatalf("abandoned %d items and told of %d", before, lost)
		}
		if lost > 0 {
			out = append(out, received{lost: lost})
		}
	} else {
		for {
			l.Consumed(flying, flyingBytes)
			flying, flyingBytes = 0, 0
			if !take() {
				break
			}
		}
	}
	// What came out, with as many items skipped as were lost, is what was offered.
	at, lost := 0, uint64(0)
	for _, r := range out {
		if r.lost > 0 {
			at += int(r.lost)
			lost += r.lost
			continue
		}
		if at >= len(offered) || offered[at] != r.number {
			t.Fatalf("item %d came, want %v; %v", r.number, offered[min(at, len(offered)):], out)
		}
		at++
	}
	if at != len(offered) {
		t.Fatalf("%d of %d items are accounted for", at, len(offered))
	}
	s := l.Stats()
	if s.Dropped != lost || s.Sent+s.Dropped != uint64(len(offered)) {
		t.Fatalf("stats %+v, lost %d of %d", s, lost, len(offered))
	}
}
