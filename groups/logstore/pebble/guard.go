package pebble

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between the database and the disk. The database has no answer to a write that fails: it ends the process,
// or tries again with files in doubt. So it never learns of one. The guard reports the failure to the store and keeps
// the goroutine that met it, and every one that comes to write later: the disk stays as it was at that moment, which
// is what the database recovers from at its next start, like after a crash.
type guard struct {
	vfs.FS
	report func(error)

	mu      sync.Mutex // guards all following fields
	idle    sync.Cond
	running int  // writes under way
	guards  bool // the database is open: failures are kept from it
	frozen  bool
	lock    io.Closer
}

func newGuard(fs vfs.FS, report func(error)) *guard {
	g := &guard{FS: fs, report: report}
	g.idle.L = &g.mu
	return g
}

// arm begins to keep failures from the database. Until then it gets them, since it opens in a way that can fail.
func (g *guard) arm() {
	g.mu.Lock()
	g.guards = true
	g.mu.Unlock()
}

// freeze lets nothing be written any more.
func (g *guard) freeze() {
	g.mu.Lock()
	g.frozen = true
	g.mu.Unlock()
}

// settle returns once no write is under way on a frozen disk.
func (g *guard) settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running > 0 {
		g.idle.Wait()
	}
}

// do does one write.
func (g *guard) do(write func() error) error {
	g.mu.Lock()
	if g.frozen {
		g.mu.Unlock()
		select {}
	}
	g.running++
	g.mu.Unlock()
	err := write()
	g.mu.Lock()
	g.running--
	if g.running == 0 {
		g.idle.Broadcast()
	}
	stop := g.frozen || g.guards && fatal(err)
	g.frozen = stop
	g.mu.Unlock()
	if stop {
		if err != nil {
			g.report(err)
		}
		select {}
	}
	return err
}

// fatal reports whether an error says that the disk fails, rather than that a file is not there or a call not to be had.
func fatal(err error) bool {
	return err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, vfs.ErrUnsupported) && !errors.Is(err, errors.ErrUnsupported)
}

func (g *guard) file(open func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := g.do(func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &guardedFile{f, g}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, opts...) })
}

func (g *guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	return g.file(func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

func (g *guard) Link(from, to string) error {
	return g.do(func() error { return g.FS.Link(from, to) })
}

func (g *guard) Rename(from, to string) error {
	return g.do(func() error { return g.FS.Rename(from, to) })
}

func (g *guard) Remove(name string) error {
	return g.do(func() error { return g.FS.Remove(name) })
}

func (g *guard) RemoveAll(name string) error {
	return g.do(func() error { return g.FS.RemoveAll(name) })
}

func (g *guard) MkdirAll(dir string, perm os.FileMode) error {
	return g.do(func() error { return g.FS.MkdirAll(dir, perm) })
}

// Lock keeps the lock in reach, for giving it back in place of a database that stands still.
func (g *guard) Lock(name string) (io.Closer, error) {
	l, err := g.FS.Lock(name)
	if err == nil {
		g.mu.Lock()
		g.lock = l
		g.mu.Unlock()
	}
	return l, err
}

func (g *guard) unlock() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lock.Close()
}

func (g *guard) Unwrap() vfs.FS { return g.FS }

// guardedFile is a file that is written, or a directory that is synced.
type guardedFile struct {
	vfs.File
	g *guard
}

func (f *guardedFile) Write(p []byte) (n int, err error) {
	err = f.g.do(func() (err error) { n, err = f.File.Write(p); return err })
	return n, err
}

func (f *guardedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.g.do(func() (err error) { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f *guardedFile) Preallocate(off, length int64) error {
	return f.g.do(func() error { return f.File.Preallocate(off, length) })
}

func (f *guardedFile) Sync() error     { return f.g.do(f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.g.do(f.File.SyncData) }

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.g.do(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}
