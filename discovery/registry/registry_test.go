package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

var network = id.Of("registry test")

func peer(n byte) id.PeerID { return id.PeerID{n} }

func addrOf(n byte) id.PeerAddr {
	return id.PeerAddr{ID: peer(n), Addrs: []string{"/ip4/127.0.0.1/tcp/" + string('0'+rune(n))}}
}

// base returns an empty directory that a registry accepts.
func base(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mosaik")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string, n byte) *Registry {
	t.Helper()
	r, err := Open(dir, network, peer(n))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func publish(t *testing.T, dir string, n byte) *Registry {
	t.Helper()
	r := open(t, dir, n)
	if err := r.Publish(addrOf(n)); err != nil {
		t.Fatal(err)
	}
	return r
}

func listed(t *testing.T, r *Registry) (out []id.PeerID) {
	t.Helper()
	found, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		out = append(out, f.Addr.ID)
	}
	return out
}

func TestPublishAndList(t *testing.T) {
	t.Parallel()
	dir := base(t)
	a, b := publish(t, dir, 1), publish(t, dir, 2)
	found, err := a.List()
	if err != nil || len(found) != 1 || found[0].Addr.String() != addrOf(2).String() {
		t.Fatalf("found %v, %v", found, err)
	}
	moved := id.PeerAddr{ID: peer(2), Addrs: []string{"/ip4/127.0.0.1/tcp/99"}}
	if err := b.Publish(moved); err != nil {
		t.Fatal(err)
	}
	if found, err := a.List(); err != nil || len(found) != 1 || found[0].Addr.Addrs[0] != moved.Addrs[0] {
		t.Errorf("after it moved: %v, %v", found, err)
	}
	other, err := Open(dir, id.Of("another"), peer(3))
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(t, other); got != nil {
		t.Errorf("another network lists %v", got)
	}
	if strings.Contains(a.Path(), network.String()) {
		t.Error("the directory gives the network id away")
	}
	if err := a.Publish(addrOf(2)); err == nil {
		t.Error("published as somebody else")
	}
	if err := b.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if err := b.Withdraw(); err != nil {
		t.Errorf("withdrawn twice: %v", err)
	}
	if got := listed(t, a); got != nil {
		t.Errorf("after it withdrew: %v", got)
	}
	if left, err := filepath.Glob(filepath.Join(a.Path(), tempPrefix+"*")); err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A node is claimed once in a process, whether or not its file is there, until it is released by whoever claimed it.
func TestClaim(t *testing.T) {
	t.Parallel()
	dir := base(t)
	a, again, other := open(t, dir, 1), open(t, dir, 1), open(t, dir, 2)
	elsewhere := open(t, base(t), 1)
	for _, r := range []*Registry{a, a, other, elsewhere} {
		if pid, ok := r.Claim(); !ok {
			t.Errorf("held by %d", pid)
		}
		defer r.Release()
	}
	for range 2 {
		if pid, ok := again.Claim(); ok || pid != os.Getpid() {
			t.Errorf("claimed twice: %d, %v", pid, ok)
		}
		again.Release() // is not its own
		if err := a.Publish(addrOf(1)); err != nil {
			t.Fatal(err)
		}
	}
	a.Release()
	if pid, ok := again.Claim(); !ok {
		t.Errorf("after its release, with its file still there: held by %d", pid)
	}
	again.Release()
}

func TestTouch(t *testing.T) {
	t.Parallel()
	dir := base(t)
	a := publish(t, dir, 1)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(a.file(peer(1)), old, old); err != nil {
		t.Fatal(err)
	}
	if !a.Touch() {
		t.Fatal("the file is gone")
	}
	if info, err := os.Stat(a.file(peer(1))); err != nil || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("touched at %v, %v", info.ModTime(), err)
	}
	a.Withdraw()
	if a.Touch() {
		t.Error("touched what is not there")
	}
}

// A file that nobody has touched for long goes when nobody answers. One that was touched stays.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	dir := base(t)
	a, b := publish(t, dir, 1), publish(t, dir, 2)
	a.Unreachable(peer(2))
	if got := listed(t, a); len(got) != 1 {
		t.Error("a fresh file was removed")
	}
	old := time.Now().Add(-orphanAge - time.Second)
	if err := os.Chtimes(b.file(peer(2)), old, old); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, a); len(got) != 1 {
		t.Error("an old file of a living process was removed")
	}
	a.Unreachable(peer(2))
	a.Unreachable(peer(3)) // there is none
	if got := listed(t, a); got != nil {
		t.Errorf("still listed: %v", got)
	}
}

// Files that make no sense are skipped and left alone; they are not ours to judge.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	dir := base(t)
	a := publish(t, dir, 1)
	write := func(name string, data []byte) string {
		path := filepath.Join(a.Path(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	valid, err := json.Marshal(record{Addr: addrOf(2), Process: thisProcess()})
	if err != nil {
		t.Fatal(err)
	}
	var many record
	many.Addr.ID = peer(3)
	for range maxAddrs + 1 {
		many.Addr.Addrs = append(many.Addr.Addrs, "/x")
	}
	tooMany, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{
		write("README", []byte("hello")),
		write(peer(2).String(), []byte("{")),
		write(peer(3).String(), tooMany),
		write(peer(4).String(), valid), // says it is another
		write(peer(5).String(), nil),
		write(peer(6).String(), append(valid, bytes.Repeat([]byte(" "), maxFile)...)),
	}
	link := filepath.Join(a.Path(), peer(7).String())
	if err := os.Symlink(write("target", bytes.Replace(valid, []byte(peer(2).String()), []byte(peer(7).String()), 1)), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(a.Path(), peer(8).String()), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, a); got != nil {
		t.Errorf("listed: %v", got)
	}
	for _, p := range append(paths, link) {
		if _, err := os.Lstat(p); err != nil {
			t.Errorf("%s was removed", p)
		}
	}
	fresh, stale := write(tempPrefix+"1", nil), write(tempPrefix+"2", nil)
	old := time.Now().Add(-tempAge - time.Second)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	listed(t, a)
	if _, err := os.Lstat(fresh); err != nil {
		t.Error("a temporary file that may be in use was removed")
	}
	if _, err := os.Lstat(stale); err == nil {
		t.Error("a temporary file that was left behind is still there")
	}
}

// A directory that others can write to could be filled by them, so it is not used.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	open := base(t)
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(base(t), link); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"open to others": open, "a file": file, "a link": link, "relative": "mosaik"} {
		if _, err := Open(dir, network, peer(1)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	fresh := filepath.Join(base(t), "a", "b")
	if _, err := Open(fresh, network, peer(1)); err != nil {
		t.Errorf("a directory that is not there yet: %v", err)
	}
	if info, err := os.Stat(fresh); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with mode %v, %v", info.Mode(), err)
	}
}

func TestListOfALostDirectory(t *testing.T) {
	t.Parallel()
	a := publish(t, base(t), 1)
	if err := os.RemoveAll(a.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.List(); err == nil {
		t.Error("a directory that is gone was listed")
	}
	if err := a.Publish(addrOf(1)); err != nil {
		t.Errorf("published in a directory that is gone: %v", err)
	}
	if b := publish(t, a.base, 2); len(listed(t, b)) != 1 {
		t.Error("what was published again is not listed")
	}
}

// The last node of a network takes the directory with it.
func TestLastOneRemovesTheDirectory(t *testing.T) {
	t.Parallel()
	dir := base(t)
	a, b := publish(t, dir, 1), publish(t, dir, 2)
	if err := a.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if len(listed(t, a)) != 1 {
		t.Error("the other one is not listed any more")
	}
	if err := b.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(a.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestDirs(t *testing.T) {
	t.Setenv("TMPDIR", "/somewhere")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	t.Setenv(Env, "")
	if got := Dirs(); len(got) != 2 || got[0] != "/run/user/7/mosaik" || !strings.HasPrefix(got[1], "/somewhere/mosaik-") {
		t.Errorf("with a runtime directory: %v", got)
	}
	t.Setenv("XDG_RUNTIME_DIR", "relative")
	if got := Dirs(); len(got) != 1 || !strings.HasPrefix(got[0], "/somewhere/mosaik-") {
		t.Errorf("without one: %v", got)
	}
	t.Setenv(Env, "/mine")
	if got := Dirs(); !slices.Equal(got, []string{"/mine"}) {
		t.Errorf("with %s: %v", Env, got)
	}
}
