package host

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// heldStore is a durable store that holds groups.
type heldStore struct {
	logstore.Store
	held []id.ID
}

func (*heldStore) Durable() bool              { return true }
func (s *heldStore) Groups() ([]id.ID, error) { return s.held, nil }

// At every start groups of the store that nobody joins are told of, also if the one that is joined was there before; but
// not while the program may still join them.
func TestGroupsThatNobodyJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		right, wrong := id.Of("right"), id.Of("wrong")
		store := &heldStore{held: []id.ID{right, wrong}}
		for _, c := range []struct {
			joins []id.ID
			told  bool
		}{{[]id.ID{wrong}, true}, {[]id.ID{wrong, right}, false}} {
			var log bytes.Buffer
			s := &Service{log: slog.New(slog.NewTextHandler(&log, nil))}
			for i, g := range c.joins {
				if first, fresh, _ := s.stores.join(store, g); first != (i == 0) || fresh {
					t.Errorf("join %d: first %v, fresh %v", i, first, fresh)
				}
			}
			g := &Group{svc: s, cfg: GroupConfig{Storage: store}}
			if text := g.orphans(); text != "" {
				t.Errorf("noted at once: %q", text)
			}
			s.tellOrphans(context.Background(), store)
			if told := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), right.Short()); told != c.told {
				t.Errorf("warned %v, want %v:\n%s", told, c.told, &log)
			}
			if text := g.orphans(); strings.Contains(text, right.Short()) != c.told {
				t.Errorf("note %q, want one: %v", text, c.told)
			}
		}
	})
}
