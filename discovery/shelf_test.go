package discovery

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/discovery/registry"
)

// These tests use real files, whose times are of the real clock, so they run in real time.

func registryDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mosaik")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNodesFindEachOtherThroughTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := nodeOptions{registry: true, Config: Config{RegistryDir: registryDir(t)}}
	a, b, c := w.start(o), w.start(o), w.start(o)
	meet(t, time.Minute, a, b, c)
	s := b.Status()
	if len(s.Registry.Dirs) != 1 || s.Registry.Dirs[0] != o.RegistryDir || s.Registry.Err != nil {
		t.Errorf("status %+v", s.Registry)
	}
	files := func() int {
		reg, err := registry.Open(o.RegistryDir, w.network, PeerID{})
		if err != nil {
			t.Fatal(err)
		}
		found, err := reg.List()
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if n := files(); n != 3 {
		t.Errorf("%d files, want 3", n)
	}
	b.stop()
	if n := files(); n != 2 {
		t.Errorf("%d files after one closed, want 2", n)
	}
	c.kill()
	if n := files(); n != 2 {
		t.Errorf("%d files after one was killed, which cannot tidy up, want 2", n)
	}
	// A moved node is found where it is now.
	w.fabric.Readdress(a.self)
	eventually(t, time.Minute, "the new address is in the registry", func() bool {
		d := w.start(o)
		defer d.stop()
		deadline := time.Now().Add(2 * time.Second)
		for time.Now().Before(deadline) {
			if d.sees(a) {
				return true
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	})
}

// A directory that cannot be used is said, and the node works without it.
func TestRegistryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := registryDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	a := w.node()
	b := w.start(nodeOptions{registry: true, bootstrap: []*testNode{a}, Config: Config{RegistryDir: dir}})
	meet(t, time.Minute, a, b)
	s := b.Status()
	if s.Registry.Err == nil || !hasAll(s.String(), "same-host registry not used", "open to other users") {
		t.Errorf("status %v", s)
	}
	if !b.log.has("same-host registry not used") {
		t.Error("it is not in the log")
	}
}
