// Package pebble is a durable log store on the pebble database: one database for all groups of a node, in a directory of
// its own.
//
//	store, err := pebble.Open("/var/lib/ledger")
//	if err != nil {
//		return err
//	}
//	defer store.Close() // after the network
//	net, err := mosaik.New(ctx, "ledger", mosaik.WithStorage(store), mosaik.WithPrivateKey(key))
//
// Everything that all groups have to write since the last time is written and synced together, so the number of groups
// does not multiply the number of syncs. Nothing is acknowledged before it is synced. See docs/durability.md.
package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
)

// Sizes that nobody needs to choose.
const (
	queueMax      = 64 << 20 // bytes that wait to be written, at which Submit blocks
	batchMax      = 8 << 20  // bytes written at once
	tailMax       = 2 << 20  // bytes of each log's end that are kept in memory
	memTable      = 16 << 20
	blockCache    = 16 << 20
	freeAfter     = 5 * time.Second // from giving up entries to making room for it
	standstill    = time.Second     // after a failure, until what the database does is taken not to end
	closePatience = 10 * time.Second
)

// Option changes how [Open] opens a store.
type Option func(*config)

type config struct {
	log     *slog.Logger
	metrics prometheus.Registerer
	fs      vfs.FS
	tail    int // bytes of each log's end that are kept in memory
}

// WithLogger sets where the store logs. The default is nowhere.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithMetrics registers the store's metrics. The series carry the label dir.
func WithMetrics(r prometheus.Registerer) Option { return func(c *config) { c.metrics = r } }

// Open opens the store in the directory, which is made if it is not there. It fails with [logstore.ErrLocked] if the
// store is open already, in this process or another, and with [logstore.ErrCorrupt] if it is damaged. A last write that
// was cut off, as by a loss of power, is no damage: it was not acknowledged, and is dropped.
//
// A store that could not write, for want of space or because of the device, fails all groups that use it, with that
// error in their status, and takes nothing more; everything acknowledged is on disk. Restart the process when the cause
// is gone. The store may also be closed and opened again, but the memory of the one that failed is not given back.
func Open(dir string, opts ...Option) (logstore.Store, error) {
	c := config{log: slog.New(slog.DiscardHandler), fs: vfs.Default, tail: tailMax}
	for _, o := range opts {
		o(&c)
	}
	s := &store{
		dir:    dir,
		fs:     c.fs,
		tail:   c.tail,
		log:    c.log.With("store", dir),
		open:   make(map[id.ID]*log),
		broken: make(chan struct{}),
		closed: make(chan struct{}),
	}
	s.queue.init()
	if err := s.openDB(); err != nil {
		return nil, fmt.Errorf("pebble: open %s: %w", dir, err)
	}
	s.metrics = newMetrics(c.metrics, s)
	s.wg.Go(s.write)
	s.wg.Go(s.watch)
	return s, nil
}

// store is one database for all groups of a node.
type store struct {
	dir     string
	fs      vfs.FS
	tail    int
	log     *slog.Logger
	metrics *metrics

	guard *guard
	db    *pebble.DB
	lock  *pebble.Lock
	cache *pebble.Cache
	queue queue
	wg    sync.WaitGroup // writer and watcher

	opening atomic.Bool
	failure atomic.Pointer[error] // why nothing more is written
	broken  chan struct{}         // closed with the failure

	mu        sync.Mutex // guards all following fields
	open      map[id.ID]*log
	owner     id.PeerID
	closing   bool
	closed    chan struct{} // closed when Close has ended
	closedErr error
}

var _ logstore.Store = (*store)(nil)

func (s *store) openDB() error {
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	s.guard = newGuard(s.fs, func(err error) { s.fail(err) })
	var err error
	if s.lock, err = pebble.LockDirectory(s.dir, s.guard); err != nil {
		if os.IsPermission(err) || errors.Is(err, os.ErrNotExist) {
			return err
		}
		return fmt.Errorf("%w: %v", logstore.ErrLocked, err)
	}
	s.cache = pebble.NewCache(blockCache)
	ended, err := s.attempt(s.load)
	if !ended {
		return s.abandon()
	}
	if err == nil && s.failure.Load() != nil {
		if s.db != nil {
			return s.abandon()
		}
		err = s.reason()
	}
	if err != nil {
		s.cache.Unref()
		s.lock.Close()
	}
	return classify(err)
}

// attempt has the database do something, and reports what came of it, or that it does not end: when the store fails
// the database may stand still, or try again and again.
func (s *store) attempt(do func() error) (ended bool, err error) {
	done := make(chan error, 1)
	go func() {
		defer close(done) // do may end its goroutine
		done <- do()
	}()
	select {
	case err := <-done:
		return true, err
	case <-s.broken:
	}
	timer := time.NewTimer(standstill)
	defer timer.Stop()
	select {
	case err := <-done:
		return true, err
	case <-timer.C:
		return false, nil
	}
}

// load opens the database and reads whose it is. It returns the failures of the disk that the database can report. The
// others end the store, and then load may never return, or end its goroutine.
func (s *store) load() (err error) {
	defer func() {
		if v := recover(); v != nil {
			var ok bool
			if err, ok = v.(error); !ok {
				err = fmt.Errorf("database: %v", v)
			}
		}
	}()
	s.opening.Store(true)
	defer s.opening.Store(false)
	listener := pebble.EventListener{
		BackgroundError: func(err error) { s.fail(fmt.Errorf("background work: %w", err)) },
		DataCorruption:  func(i pebble.DataCorruptionInfo) { s.fail(fmt.Errorf("%w: %s", logstore.ErrCorrupt, i)) },
		DiskSlow: func(i pebble.DiskSlowInfo) {
			if s.failure.Load() != nil {
				return // it stands still
			}
			s.log.Warn("the disk is slow", "file", i.Path, "op", i.OpType.String(), "for", i.Duration)
		},
	}
	if err := checkWAL(s.guard, s.dir); err != nil {
		return err
	}
	s.db, err = pebble.Open(s.dir, &pebble.Options{
		FS:                          s.guard,
		Lock:                        s.lock,
		Cache:                       s.cache,
		Logger:                      dbLogger{s},
		EventListener:               &listener,
		FormatMajorVersion:          pebble.FormatNewest, // whose logs tell damage from a cut-off end, see also checkWAL
		MemTableSize:                memTable,
		MemTableStopWritesThreshold: 4,
		FlushDelayDeleteRange:       freeAfter,
	})
	if err != nil {
		return err
	}
	if err := s.checkLayout(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	if err := s.sweepImages(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	s.guard.arm()
	return nil
}

// checkLayout makes sure that the database is one of ours, and reads whose.
func (s *store) checkLayout() error {
	v, err := s.get(versionKey)
	switch {
	case err != nil:
		return err
	case v == nil:
		return s.db.Set(versionKey, []byte{layout}, pebble.Sync)
	case len(v) != 1 || v[0] != layout:
		return fmt.Errorf("the store has layout %x, this program knows %d", v, layout)
	}
	owner, err := s.get(ownerKey)
	if err != nil {
		return err
	}
	copy(s.owner[:], owner)
	return nil
}

var _ logstore.Lister = (*store)(nil)

// Groups implements logstore.Lister.
func (s *store) Groups() ([]id.ID, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{groupSpace}, UpperBound: []byte{groupSpace + 1}})
	if err != nil {
		return nil, classify(err)
	}
	defer it.Close()
	var out []id.ID
	for ok := it.First(); ok; {
		group := id.ID(it.Key()[1 : 1+id.Size])
		record, err := s.get(fieldKey(group, recordField))
		if err != nil {
			return nil, err
		}
		if len(record) > 0 {
			out = append(out, group)
		}
		ok = it.SeekGE(fieldKey(group, 0xff))
	}
	return out, classify(it.Error())
}

// get reads a value, nil if there is none.
func (s *store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(err)
	}
	defer closer.Close()
	return append([]byte{}, v...), nil
}

// classify makes the database's reports of damage match [logstore.ErrCorrupt].
func classify(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, logstore.ErrCorrupt) {
		return fmt.Errorf("%w: %w", logstore.ErrCorrupt, err)
	}
	return err
}

// Durable implements logstore.Store.
func (s *store) Durable() bool { return true }

// Claim implements logstore.Store.
func (s *store) Claim(node id.PeerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return logstore.ErrClosed
	case s.owner == node:
		return nil
	case !s.owner.IsZero():
		return fmt.Errorf("%w: %s holds the logs of %s and this node is %s; give the node the private key that it had when it first used the store, or another directory",
			logstore.ErrOtherNode, s.dir, s.owner.Short(), node.Short())
	}
	if err := s.do(&job{owner: &node}); err != nil {
		return err
	}
	s.owner = node
	return nil
}

// do has one job written and waits.
func (s *store) do(j *job) error {
	j.done = make(chan error, 1)
	if !s.queue.put(j) {
		return s.reason()
	}
	select {
	case err := <-j.done:
		return err
	case <-s.broken:
		return s.reason()
	}
}

// reason returns why nothing more is written.
func (s *store) reason() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return logstore.ErrClosed
}

// fail ends all writing. Whatever was acknowledged is safe.
func (s *store) fail(err error) {
	err = fmt.Errorf("pebble: %s: %w", s.dir, classify(err))
	if !s.failure.CompareAndSwap(nil, &err) {
		return
	}
	s.guard.freeze()
	s.log.Error("the store failed", "err", err)
	s.queue.stop()
	close(s.broken)
}

// watch tells all logs when the store fails. It is not the writer who does, since that one may be stuck in the database.
func (s *store) watch() {
	select {
	case <-s.closed:
		return
	case <-s.broken:
	}
	s.mu.Lock()
	var all []*log
	for _, l := range s.open {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		l.tell(0, s.reason())
	}
}

// Close implements logstore.Store. A store that has failed is not closed but abandoned; the error then says why it failed.
func (s *store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.closed
		return s.closedErr
	}
	s.closing = true
	s.mu.Unlock()

	s.queue.stop()
	select {
	case <-s.queue.ended:
	case <-s.broken:
	}
	if s.failure.Load() == nil {
		s.closedErr = s.closeDB()
	} else {
		s.closedErr = s.abandon()
	}
	s.metrics.forget()
	close(s.closed)
	return s.closedErr
}

func (s *store) closeDB() error {
	ended, err := s.attempt(s.db.Close)
	if !ended {
		return s.abandon()
	}
	s.cache.Unref()
	err = errors.Join(err, s.lock.Close())
	if p := s.failure.Load(); p != nil {
		return *p
	}
	if err != nil {
		return fmt.Errorf("pebble: close %s: %w", s.dir, err)
	}
	return nil
}

// abandon gives the directory back, once nothing of this store can write to it any more.
func (s *store) abandon() error {
	quiet := make(chan struct{})
	go func() {
		s.guard.settle()
		close(quiet)
	}()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-quiet:
	case <-timer.C:
		return fmt.Errorf("pebble: close %s: a write does not end; the directory stays locked until the process ends: %w", s.dir, s.reason())
	}
	return errors.Join(s.reason(), s.guard.unlock())
}

// dbLogger takes the database's log lines. What is fatal to the database must not be fatal to the process.
type dbLogger struct{ s *store }

func (l dbLogger) Infof(format string, args ...any) {}
func (l dbLogger) Errorf(format string, args ...any) {
	l.s.log.Error(fmt.Sprintf("database: "+format, args...))
}

// Fatalf must not let the database go on with what is now in doubt: the goroutine is left standing where it is. One that
// opens the database, or works for that, ends instead and cleans up.
func (l dbLogger) Fatalf(format string, args ...any) {
	var cause error = fmt.Errorf("database: "+format, args...)
	for _, a := range args {
		if err, ok := a.(error); ok {
			cause = err
		}
	}
	opening := l.s.opening.Load()
	l.s.fail(cause)
	if opening {
		runtime.Goexit()
	}
	select {}
}
