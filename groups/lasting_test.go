package groups_test

import (
	"sync"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/groups"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/testnet"
)

// lastingStore is a store in memory that says that its images outlive the process, and shows them.
type lastingStore struct {
	logstore.Store
	mu     sync.Mutex
	images logstore.Images
}

type lastingLog struct {
	logstore.Log
	images lastingImages
}

type lastingImages struct{ logstore.Images }

func (s *lastingStore) Open(group id.ID, notify func(uint64, error)) (logstore.Log, error) {
	l, err := s.Store.Open(group, notify)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images = lastingImages{l.Images()}
	return &lastingLog{l, lastingImages{l.Images()}}, nil
}

func (l *lastingLog) Images() logstore.Images { return l.images }

func (lastingImages) Lasting() bool { return true }

func (s *lastingStore) list(t testing.TB) []uint64 {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.images == nil {
		return nil
	}
	list, err := s.images.List()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Where images outlive the process a log is cut only behind one, so one is made whenever the log has grown, without anybody
// asking; and state that is fetched is stored before it is used.
func TestLastingImages(t *testing.T) {
	t.Parallel()
	net := testnet.Loopback(t, 3)
	net.DiscoverAll(t.Context())
	key := groups.RandomKey()
	var gs []*counterGroup
	var stores []*lastingStore
	enter := func(i int) *counterGroup {
		s := &lastingStore{Store: logstore.Memory()}
		stores = append(stores, s)
		gs = append(gs, joinDiary(t, net.Node(i), key, new(diaryFaults), unhurried, tight(16), groups.WithStorage(s)))
		return gs[i]
	}
	for i := range 3 {
		enter(i)
	}
	for _, g := range gs {
		within(t, bootstrapLimit(), "online", g.When().Online)
	}
	settled(t, gs)
	for i := range int64(60) {
		execute(t, gs[i%3], i)
	}
	for i, g := range gs {
		cut(t, g)
		eventually(t, "an image", func() bool { return len(stores[i].list(t)) > 0 })
	}
	// The images of earlier marks go.
	for i := range int64(60) {
		execute(t, gs[i%3], i)
		time.Sleep(20 * time.Millisecond)
	}
	for i := range gs {
		eventually(t, "one or two images", func() bool { n := len(stores[i].list(t)); return n == 1 || n == 2 })
	}
	net.Add()
	net.DiscoverAll(t.Context())
	late := enter(3)
	within(t, bootstrapLimit(), "online", late.When().Online)
	equal(t, "value", query(t, late, groups.Weak).Value, 2*59*60/2)
	if len(stores[3].list(t)) == 0 {
		t.Error("what was fetched is not stored")
	}
}
